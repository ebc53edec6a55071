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
STARTED = "start_all_reduce"  # and finished
NAMES = ("all_reduce", STARTED, IN_PLACE, "reduce_scatter", "all_gather", "broadcast", "barrier", "send_recv")
PEERS = ("all_reduce", "reduce_scatter", "all_gather", "broadcast", "barrier", "send_recv")  # of mpi4py
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
    """Return a call of a collective on `size` bytes of each rank; IN_PLACE: where the others see them.

    send_recv: every rank sends to the next one, and receives from the one before it.
    """
    elements = max(1, size // 4)
    array = comm.zeros((elements,)) if name == IN_PLACE else np.zeros(elements, "f4")
    after, before = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
    other = np.zeros(elements, "f4") if name == "send_recv" else array

    def send_recv() -> None:
        letter = comm.start_recv(other, before)
        comm.send(array, after)
        letter.finish()

    calls = {
        STARTED: lambda: comm.start_all_reduce(array).finish(),
        IN_PLACE: lambda: comm.all_reduce(array),
        "barrier": comm.barrier,
        "send_recv": send_recv,
    }
    return calls[name] if name in calls else lambda: getattr(comm, name)(array)


def peer(name: str, size: int) -> Callable[[], Any]:
    """Return the same of mpi4py on as many bytes."""
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    elements = max(1, size // 4)
    array, other = np.zeros(elements, "f4"), np.zeros(elements, "f4")
    after, before = (world.rank + 1) % world.size, (world.rank - 1) % world.size
    counts = np.diff([elements * r // world.size for r in range(world.size + 1)])
    return {
        "all_reduce": lambda: world.Allreduce(MPI.IN_PLACE, array),
        "reduce_scatter": lambda: world.Reduce_scatter(array, other[: counts[world.rank]], counts),
        "all_gather": lambda: world.Allgather(array, np.empty((world.size, elements), "f4")),
        "broadcast": lambda: world.Bcast(array),
        "barrier": world.Barrier,
        "send_recv": lambda: world.Sendrecv(array, after, recvbuf=other, source=before),
    }[name]


def peers() -> tuple[str, ...]:
    """Return what is timed of mpi4py: all where MPI connects the ranks."""
    launch = launched()
    return () if launch is None or launch.own else PEERS


def table(comm: Any, sizes: tuple[int, ...] = SIZES) -> list[list[str]]:
    """Return rows of texts: bytes, microseconds of each collective, then of mpi4py's where MPI connects the ranks."""
    rows = []
    for size in sizes:
        calls = [collective(comm, name, size) for name in NAMES] + [peer(name, size) for name in peers()]
        rows.append([f"{size:,}", *(f"{1e6 * seconds(comm, call, size):,.1f}" for call in calls)])
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
        heads = ["bytes of a rank", *NAMES]
        lines = [row[: len(heads)] for row in rows]
        print_lines([heads, *lines])
        if peers():
            print("mpi4py")
            print_lines([["bytes of a rank", *peers()], *([row[0], *row[len(heads) :]] for row in rows)])


def print_lines(lines: list[list[str]]) -> None:
    """Print the lines under the heads of their columns, which are the first one."""
    for line in lines:
        print(" ".join(f"{text:>{len(head) + 1}}" for text, head in zip(line, lines[0], strict=True)))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "table")
