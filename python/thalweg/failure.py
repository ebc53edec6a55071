"""Exit codes: 0 done, 1 a mistake, 2 usage, 3 bad data, 4 bad checkpoint, 5 diverged, 6 a rank was lost or has other
values than the others, 7 out of memory or disk, 75 preempted and saved, 130 interrupted and saved."""

from __future__ import annotations

import errno

from . import _core

OUT_OF_RESOURCES = 7
_RESOURCES = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM}


def exit_code(error: BaseException) -> int | None:
    """Return the exit code of a failure that is understood, None for one that is not."""
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        return code
    if isinstance(error, OSError):
        return _of_system(error)
    kinds = {_core.DivergedError: 5, _core.LostError: 6, _core.ReplicaError: 6, MemoryError: OUT_OF_RESOURCES}
    return next((number for kind, number in kinds.items() if isinstance(error, kind)), None)


def _of_system(error: OSError) -> int:
    """A checkpoint that can't be written is out of its disk, for whatever reason; another file may just be missing."""
    unsaved = str(error.strerror or error).startswith("[checkpoint]")
    return OUT_OF_RESOURCES if unsaved or error.errno in _RESOURCES else 1
