"""Exit codes of failures: those of the machine's disk and memory, and those of a script."""

import errno

import pytest
from thalweg import failure

CODES = {
    "full disk": (OSError(errno.ENOSPC, "No space left on device"), 7),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded"), 7),
    "broken disk": (OSError(errno.EIO, "Input/output error"), 7),
    "memory of the system": (OSError(errno.ENOMEM, "Cannot allocate memory"), 7),
    "memory": (MemoryError("32 GiB"), 7),
    "checkpoint": (OSError(errno.EACCES, "[checkpoint] saving run failed at run: Permission denied"), 7),
    "locked checkpoint": (TimeoutError("[checkpoint] another process has been writing in run for 60 s"), 7),
    "missing file": (FileNotFoundError(errno.ENOENT, "No such file or directory"), 1),
    "broken pipe": (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1),
    "refused": (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), 1),
    "words": (OSError("of one's own"), 1),
    "not ours": (KeyError("x"), None),
}


@pytest.mark.parametrize("case", CODES)
def test_exit_codes(case):
    error, code = CODES[case]
    assert failure.exit_code(error) == code
