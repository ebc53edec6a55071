"""Times of collectives between the ranks of this process: `thalweg comm-bench`, and the ping of `thalweg doctor`.

As a script, `python -m thalweg.parallel.bench`, it runs as one rank of a launcher.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .connect import communicator, launched

SIZES = (4, 1 << 10, 64 << 10, 1 << 20, 16 << 20, 100 << 20)  # bytes
IN_PLACE = "all_reduce_in_place"  # of arrays of comm.zeros, which ranks of one machine do not copy
NAMES = ("all_reduce", IN_PLACE, "reduce_scatter", "all_gather", "broadcast")
ROUNDS = 5
OVERLAPS = {  # in words
    "off": "after each part of backward",
    "nodes": "between the operators of backward",
    "thread": "by a thread beside backward",
}


def seconds(comm: Any, call: Callable[[], Any], size: int) -> float:
    """Return the median over rounds of rank 0's time for one of several calls in a row."""
    calls = max(2, min(500, (4 << 20) // max(1, size)))
    rounds = []
    for _ in range(ROUNDS):
        comm.barrier()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        rounds.append((time.perf_counter() - start) / calls)
    return statistics.median(rounds)


def collective(comm: Any, name: str, size: int) -> Callable[[], Any]:
    """Return a call of a collective on `size` bytes of each rank; IN_PLACE: where the others see them."""
    elements = max(1, size // 4)
    array = comm.zeros((elements,)) if name == IN_PLACE else np.zeros(elements, "f4")
    function = getattr(comm, "all_reduce" if name == IN_PLACE else name)
    return lambda: function(array)


def peer(size: int) -> Callable[[], Any] | None:
    """Return the all-reduce of mpi4py on as many bytes; None where MPI does not connect the ranks."""
    launch = launched()
    if launch is None or launch.own:
        return None
    from mpi4py import MPI

    array = np.zeros(max(1, size // 4), "f4")
    return lambda: MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, array)


def table(comm: Any, sizes: tuple[int, ...] = SIZES) -> list[list[str]]:
    """Return rows of texts: bytes, microseconds of each collective, of mpi4py's all-reduce where it is there."""
    rows = []
    for size in sizes:
        row = [f"{size:,}", *(f"{1e6 * seconds(comm, collective(comm, name, size), size):,.1f}" for name in NAMES)]
        other = peer(size)
        if other is not None:
            row.append(f"{1e6 * seconds(comm, other, size):,.1f}")
        rows.append(row)
    return rows


def ping(comm: Any) -> str:
    """Return what the smallest and a large all-reduce take, as words."""
    small, large = (seconds(comm, collective(comm, "all_reduce", size), size) for size in (1 << 10, 16 << 20))
    words = f"{comm.size} ranks: all-reduce of 1 KB in {1e6 * small:.1f} us, of 16 MB in {1e3 * large:.2f} ms"
    return f"{words}; gradients are exchanged {OVERLAPS[comm.overlap]}"


def main(what: str) -> None:
    """Run as one rank; rank 0 prints. Raises: LaunchError, LostError."""
    comm = communicator()
    if comm is None:
        raise SystemExit("there is one rank: start several by `thalweg launch -n 2 -m thalweg.parallel.bench`")
    if what == "ping":
        text = ping(comm)
        if comm.rank == 0:
            print(text, flush=True)
        return
    rows = table(comm)
    if comm.rank == 0:
        print(f"{comm.size} ranks, microseconds a call (median of {ROUNDS} rounds)")
        columns = ["bytes of a rank", *NAMES, *(["mpi4py all_reduce"] if len(rows[0]) > 1 + len(NAMES) else [])]
        for row in [columns, *rows]:
            print(" ".join(f"{text:>{len(column) + 1}}" for text, column in zip(row, columns, strict=True)))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "table")
