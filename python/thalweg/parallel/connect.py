"""The communicator of this process among the ranks that a launcher started, made when it is first needed."""

from __future__ import annotations

import atexit
import os
from functools import lru_cache
from typing import Any

from .. import _core, fork
from . import ending, environment, mpi
from .environment import Launch, LaunchError

_comm: Any = None


@lru_cache(maxsize=1)
def launched() -> Launch | None:
    """Return who started this process as one of several ranks; None for nobody."""
    launch = environment.detect()
    if launch is not None and launch.own:  # processes that this one starts are no ranks
        for name in (environment.RANK, environment.SIZE):
            os.environ.pop(name, None)
    return launch


def rank() -> int:
    """Return this process's rank among those that its launcher started; 0 without one."""
    launch = launched()
    return launch.rank if launch else 0


def size() -> int:
    """Return how many processes were started together; 1 without a launcher."""
    launch = launched()
    return launch.size if launch else 1


@lru_cache(maxsize=1)
def threads() -> int:
    """Return how many threads this rank gets: the cores of its machine, shared evenly, or those that it is bound to.

    Under MPI all ranks call it for the first time together.
    """
    launch = launched()
    if launch is None or launch.size == 1:
        return int(_core.cpu_threads())
    return max(1, _core.cpu_threads() // launch.size) if launch.own else mpi.threads(launch)


def communicator() -> Any:
    """Return the communicator of all processes that were started together, None for a process that is alone.

    The first call waits until all have made it. It has rank, size, barrier, all_reduce and the other collectives of
    world.run's.
    Raises: LaunchError where the ranks can't find one another; LostError where one does not come.
    """
    global _comm
    fork.check()
    if _comm is None and size() > 1:
        launch = launched()
        assert launch is not None
        _comm = _connect(launch)
        _comm.limit = environment.seconds(environment.TIMEOUT, environment.STEP_SECONDS)
        ending.install(_comm, None if launch.own else mpi.end_all)
        atexit.register(_leave, os.getpid())
    return _comm


def _connect(launch: Launch) -> Any:
    limit = environment.seconds(environment.START_TIMEOUT, environment.START_SECONDS)
    if launch.own:
        return _core.make_shm(_memory(launch), launch.rank, limit)
    if launch.launcher == environment.TORCHRUN:
        raise LaunchError(
            f"this process is rank {launch.rank} of {launch.size} of torchrun, which connects none: start ranks "
            f"of one machine by `thalweg launch -n {launch.size}`, of several by mpirun"
        )
    return mpi.connect(launch, limit)


def _memory(launch: Launch) -> Any:
    text = os.environ.get(environment.MEMORY, "")
    if not text.isdecimal():
        raise LaunchError(f"{environment.MEMORY} is {text!r}, expected a file descriptor: start with `thalweg launch`")
    try:
        return _core.NodeMemory.open(int(text), launch.size)
    except ValueError as error:
        raise LaunchError(str(error)) from None


def _leave(pid: int) -> None:
    if os.getpid() == pid:  # a forked child is no rank
        _comm.leave()
