"""How many ranks trainers use by default."""

from __future__ import annotations

import threading
from types import TracebackType


class _Default(threading.local):
    def __init__(self) -> None:
        self.sizes: list[int] = []


_default = _Default()


class world:
    """`with thalweg.world(4):` lets every Trainer made inside run its plans on four ranks, as threads of this process.

    The body itself runs once. Results have the same bits as on one rank when the number of ranks divides the shards.
    Raises: TypeError or ValueError for a size that is no integer of at least 1.
    """

    def __init__(self, size: int) -> None:
        self.size = checked_size(size)

    def __enter__(self) -> world:
        _default.sizes.append(self.size)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _default.sizes.pop()


def default_size() -> int:
    """Return the number of ranks of the innermost `with world(n)`, 1 outside."""
    return _default.sizes[-1] if _default.sizes else 1


def checked_size(size: int) -> int:
    """Return a number of ranks; TypeError or ValueError for anything but an integer from 1 to 1024."""
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"[world] the number of ranks is {size!r}, expected an integer")
    if not 1 <= size <= 1024:
        raise ValueError(f"[world] the number of ranks is {size}, expected 1 to 1024")
    return size
