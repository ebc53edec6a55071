"""Ranks of a trainer: processes that were started together, or threads of this one; threads for functions too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from . import _core, fork, parallel
from .ops.axes import integer


class _Default(threading.local):
    def __init__(self) -> None:
        self.sizes: list[int] = []


_default = _Default()


class world:
    """`with thalweg.world(4):` lets every Trainer made inside run its plans on four ranks, as threads of this process.

    The body itself runs once; run() calls a function on every rank instead. Results have the same bits as on one rank
    when the number of ranks divides the shards.
    Raises: TypeError or ValueError for a size that is no integer of at least 1.
    """

    def __init__(self, size: int) -> None:
        self.size = checked_size(size)

    def __enter__(self) -> world:
        _default.sizes.append(self.size)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _default.sizes.pop()

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Call function(comm, *args) on every rank, each in a thread with its own communicator.

        comm has rank, size, barrier, all_reduce (a sum, in place, the same bits everywhere), reduce_scatter,
        all_gather, broadcast, send, recv and split, all on contiguous float32 or float64 arrays; and start_barrier,
        start_all_reduce and so on, which return a ticket at once, whose finish() returns what the other form does.
        Returns: what the ranks returned, by rank.
        Raises: the first exception of a rank; the others' collectives end with LostError instead of waiting, as do
        those that wait for a rank whose function has returned. ValueError on every rank where their calls differ, or
        the lengths or dtypes of their arrays.
        """
        fork.check()
        results: list[Any] = [None] * self.size
        errors: list[BaseException] = []

        def work(comm: Any) -> None:
            try:
                results[comm.rank] = function(comm, *args)
                comm.leave()
            except BaseException as error:
                errors.append(error)
                comm.abort(f"rank {comm.rank} failed: {error!r}")

        comms = _core.make_threads(self.size)
        threads = [threading.Thread(target=work, args=(c,), daemon=True) for c in comms]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException as error:  # Ctrl-C, or no more threads to be had
            comms[0].abort(f"the world was ended: {error!r}")
            raise
        causes = [e for e in errors if not isinstance(e, _core.LostError)] or errors
        if causes:
            raise causes[0]
        return results


def ranks(given: int | None) -> tuple[int, Any]:
    """Return how many ranks a trainer has, and the communicator where they are processes (else None: threads).

    given: None for the size of the innermost `with world(n)`, or for all processes that were started together.
    Raises: ValueError for a number of ranks that is neither theirs nor 1.
    """
    asked = given if given is not None else _default.sizes[-1] if _default.sizes else None
    size = None if asked is None else checked_size(asked)
    started = parallel.size()
    if started == 1:
        return size or 1, None
    if size not in (None, 1, started):
        raise ValueError(
            f"[world] the number of ranks is {size}, but this process is one of {started} that were started together: "
            f"expected {started}, or nothing, to train on all of them, or 1 for this process alone"
        )
    return (1, None) if size == 1 else (started, parallel.communicator())


def checked_size(size: int) -> int:
    """Return a number of ranks; TypeError or ValueError for anything but an integer from 1 to 1024."""
    ranks = integer(size, "world", "the number of ranks", 1)
    if ranks > 1024:
        raise ValueError(f"[world] the number of ranks is {ranks}, expected 1 to 1024")
    return ranks
