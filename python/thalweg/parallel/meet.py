"""How processes of one machine find one another where nobody handed them their common memory: under torchrun, and under
srun without MPI. Rank 0 makes the memory and gives it to each other rank through a socket that has no file.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import Any

from .. import _core
from .environment import LaunchError

_HELLO = struct.Struct("ii")  # rank, number of ranks
_UCRED = struct.Struct("3i")
_PAUSE_SECONDS = 0.02
_LOOK_SECONDS = 0.2  # a signal is obeyed within that


def memory(name: str, rank: int, size: int, limit: float) -> Any:
    """Return the memory of `size` ranks of this machine that all call this with the same name.

    Raises: LostError where ranks have not come after `limit` seconds; LaunchError where another job has the name.
    """
    deadline = time.monotonic() + limit
    address = f"\0thalweg-{os.getuid()}-{name}"
    if rank == 0:
        return _give(address, size, limit, deadline)
    return _core.NodeMemory.open(_ask(address, rank, size, limit, deadline), size)


def _give(address: str, size: int, limit: float, deadline: float) -> Any:
    made = _core.NodeMemory(size)
    missing = set(range(1, size))
    with _bound(address, deadline) as listener:
        while missing:
            if time.monotonic() > deadline:
                ranks = ", ".join(map(str, sorted(missing)))
                raise _core.LostError(
                    f"rank 0 has waited {limit:g} s for the start of rank{'s' if len(missing) > 1 else ''} {ranks}; "
                    "all ranks must be on this machine"
                )
            try:
                peer, _ = listener.accept()
            except TimeoutError:
                continue
            with peer:
                missing.discard(_greet(peer, made.fd, size))
    return made


def _bound(address: str, deadline: float) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.settimeout(_LOOK_SECONDS)
    while True:
        try:
            listener.bind(address)
            listener.listen(256)
            return listener
        except OSError as error:
            if time.monotonic() > deadline:
                listener.close()
                raise LaunchError(f"another rank 0 of the same job still runs on this machine ({error})") from None
            time.sleep(_PAUSE_SECONDS)


def _greet(peer: socket.socket, fd: int, size: int) -> int:
    """Give the memory to who asks; return its rank, 0 for nobody of this job."""
    peer.settimeout(_LOOK_SECONDS * 5)
    try:
        if _user(peer) != os.getuid():
            return 0
        rank, asked = _HELLO.unpack(peer.recv(_HELLO.size, socket.MSG_WAITALL))
        socket.send_fds(peer, [_HELLO.pack(0, size)], [fd] if asked == size else [])
        return int(rank) if asked == size and 0 < rank < size else 0
    except (OSError, struct.error):  # it ended meanwhile
        return 0


def _ask(address: str, rank: int, size: int, limit: float, deadline: float) -> int:
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as to:
            to.settimeout(max(_LOOK_SECONDS, deadline - time.monotonic()))
            try:
                to.connect(address)
                if _user(to) != os.getuid():
                    raise LaunchError("a process of another user has the name of this job's socket")
                to.sendall(_HELLO.pack(rank, size))
                answer, fds, _, _ = socket.recv_fds(to, _HELLO.size, 1)
                if fds:
                    return fds[0]
                if answer:
                    there = _HELLO.unpack(answer)[1]
                    raise LaunchError(f"this process is one of {size} ranks, but rank 0 one of {there}")
            except OSError:  # rank 0 is not there yet
                pass
        if time.monotonic() > deadline:
            raise _core.LostError(
                f"rank {rank} has waited {limit:g} s for the start of rank 0; all ranks must be on this machine"
            )
        time.sleep(_PAUSE_SECONDS)


def _user(connected: socket.socket) -> int:
    """Return who is at the other end."""
    found = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return int(_UCRED.unpack(found)[1])
