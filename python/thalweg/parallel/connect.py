"""The communicator of this process among the ranks that a launcher started, made when it is first needed."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from functools import lru_cache
from typing import Any

from .. import _core, fork
from . import ending, environment, meet, mpi
from .environment import Launch, LaunchError

_comm: Any = None
_has_failed = False  # to connect


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

    Unless `thalweg launch` started them, all ranks call it for the first time together.
    """
    launch = launched()
    if launch is None or launch.size == 1:
        return int(_core.cpu_threads())
    if launch.own:
        return max(1, _core.cpu_threads() // launch.size)
    cores = sorted(os.sched_getaffinity(0))
    here = communicator().gather_texts(f"{os.uname().nodename} {hash(tuple(cores))}")
    return max(1, len(cores) // here.count(here[launch.rank]))


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
        before = sys.excepthook
        ending.install_early(_is_connected, _tell)
        environment.check()
        limit = environment.seconds(environment.START_TIMEOUT, environment.START_SECONDS)
        _comm, by_mpi = _connected(launch, limit)
        sys.excepthook = before
        _comm.limit = environment.seconds(environment.TIMEOUT, environment.STEP_SECONDS)
        ending.install(_comm, mpi.end_all if by_mpi else None)
        atexit.register(_leave, os.getpid())
    return _comm


def prepare() -> None:
    """Let the ranks hear of an exception that ends this one before it is connected; for when thalweg is imported."""
    with contextlib.suppress(LaunchError):
        launch = environment.detect()
        if launch is not None and launch.size > 1 and (launch.own or not environment.is_of_a_rank()):
            ending.install_early(_is_connected, _tell)


def _is_connected() -> bool:
    return _comm is not None


def _tell(code: int, why: str) -> None:
    """Let the others hear why this rank, which is not connected, ends; a launcher that ends them needs no help.

    Under MPI none can start without this one: it waits for them, but not for long, since they may have ended before.
    """
    launch = launched()
    if launch is None or launch.own or launch.launcher == environment.TORCHRUN:
        return
    os.environ.pop(environment.OVERLAP, None)  # it may be what is wrong
    limit = _patience()
    said = f"thalweg: rank {launch.rank} has failed, which not all others came to hear within {limit:g} s"
    deadline = _core.Deadline(limit, said, code)
    with contextlib.suppress(Exception):
        if not _has_failed:
            _connected(launch, 2 * limit)[0].abort(f"rank {launch.rank} failed: {why}")
    if mpi.sees(launch, 2 * limit):
        mpi.end_all(code, by_itself=True)
    deadline.meet()


def _patience() -> float:
    try:
        return environment.seconds(environment.TIMEOUT, environment.STEP_SECONDS)
    except LaunchError:  # which may be what there is to tell
        return environment.STEP_SECONDS


def _connected(launch: Launch, limit: float) -> tuple[Any, bool]:
    """Return the communicator, and whether it is MPI that connects the ranks."""
    global _has_failed
    try:
        by_mpi = _by_mpi(launch, limit)
        return mpi.connect(launch, limit) if by_mpi else _by_memory(launch, limit), by_mpi
    except BaseException:
        _has_failed = True
        raise


def _by_memory(launch: Launch, limit: float) -> Any:
    if launch.own:
        return _core.make_shm(_memory(launch), launch.rank, limit)
    if launch.job:
        return _core.make_shm(meet.memory(launch.job, launch.rank, launch.size, limit), launch.rank, limit)
    raise LaunchError(
        f"this process is rank {launch.rank} of {launch.size} of torchrun on several machines, which only MPI "
        f"connects: start with mpirun -n {launch.size}, or all ranks on one machine"
    )


def _by_mpi(launch: Launch, limit: float) -> bool:
    """Tell whether MPI connects the ranks; the same on all of them. Ranks of srun on one machine need none."""
    if launch.own or launch.launcher == environment.TORCHRUN:
        return False
    return not launch.job or mpi.sees(launch, limit)


def _memory(launch: Launch) -> Any:
    text = os.environ.get(environment.MEMORY, "")
    if not text.isdecimal():
        raise LaunchError(f"{environment.MEMORY} is {text!r}, expected a file descriptor: start with `thalweg launch`")
    try:
        return _core.NodeMemory.open(int(text), launch.size)
    except ValueError as error:
        raise LaunchError(str(error)) from None


def _leave(pid: int) -> None:
    if os.getpid() != pid:  # a forked child is no rank
        return
    try:
        _comm.leave()
    except Exception as error:  # Python would show it, and exit with 0
        sys.excepthook(type(error), error, error.__traceback__)
