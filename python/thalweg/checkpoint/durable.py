"""Files that are whole or absent: create, write, sync, rename, and a hook that makes any of these calls fail.

THALWEG_FAULT="write:3:ENOSPC" makes the third write of this process fail with that error; the operations are open,
write, fsync, rename and close, the error is any name of `errno`, or KILL, which ends the process there and then
(as kill -9 would). Off when the variable is absent. It exists for tests of what remains after a failure.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

TEMPORARY = ".tmp-"  # every name that is not yet, or no longer, part of the folder's content
_CHUNK = 1 << 24
_LOCK_SECONDS = 60.0

_calls: dict[str, int] = {}
_calls_spec = ""


class FaultError(ValueError):
    """A THALWEG_FAULT that can't be understood."""

    exit_code = 2


def check_faults() -> None:
    """Raises: FaultError for a THALWEG_FAULT that is set but means nothing."""
    if spec := os.environ.get("THALWEG_FAULT", ""):
        _parsed(spec)


def _parsed(spec: str) -> tuple[str, int, str]:
    """The operation, which of its calls fails, and the error's name."""
    name, _, rest = spec.partition(":")
    count, _, error = rest.partition(":")
    if name not in ("open", "write", "fsync", "rename", "close") or not count.isdigit() or not error:
        raise FaultError(
            f"THALWEG_FAULT is {spec!r}, expected <open|write|fsync|rename|close>:<n>:<errno name or KILL>"
        )
    if error != "KILL" and not isinstance(getattr(errno, error, None), int):
        raise FaultError(f"THALWEG_FAULT is {spec!r}, which names the unknown error {error!r}")
    return name, int(count), error


def _planned_fault(operation: str) -> str | None:
    """The name of the error that this call of `operation` has to fail with, or None."""
    global _calls_spec
    spec = os.environ.get("THALWEG_FAULT", "")
    if not spec:
        return None
    if spec != _calls_spec:
        _calls_spec = spec
        _calls.clear()
    name, count, error = _parsed(spec)
    if name != operation:
        return None
    _calls[operation] = _calls.get(operation, 0) + 1
    return error if _calls[operation] == count else None


def _fail(error: str, path: Path) -> None:
    if error == "KILL":
        os.kill(os.getpid(), signal.SIGKILL)
    code = getattr(errno, error)
    raise OSError(code, os.strerror(code), str(path))


def _open(path: Path, flags: int) -> int:
    if error := _planned_fault("open"):
        _fail(error, path)
    return os.open(path, flags | os.O_CLOEXEC, 0o666)  # the umask decides what remains of the mode


def _write(fd: int, data: memoryview, path: Path) -> None:
    while data:
        part = data[:_CHUNK]
        if error := _planned_fault("write"):
            os.write(fd, part[: len(part) // 2])  # a full disk takes what still fits
            _fail(error, path)
        data = data[os.write(fd, part) :]


def _sync(fd: int, path: Path) -> None:
    if error := _planned_fault("fsync"):
        _fail(error, path)
    os.fsync(fd)


def _close(fd: int, path: Path) -> None:
    os.close(fd)
    if error := _planned_fault("close"):
        _fail(error, path)


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """A descriptor that is closed in every case; the error of the close itself counts only if nothing failed before."""
    fd = _open(path, flags)
    try:
        yield fd
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise
    _close(fd, path)


def write_file(path: Path, data: bytes) -> None:
    """Creates `path` with this content, on the disk when it returns. The file must not exist."""
    with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as fd:
        _write(fd, memoryview(data), path)
        _sync(fd, path)


def sync_folder(path: Path) -> None:
    """Makes the names in a folder durable."""
    with _opened(path, os.O_RDONLY | os.O_DIRECTORY) as fd:
        _sync(fd, path)


def rename(source: Path, target: Path) -> None:
    if error := _planned_fault("rename"):
        _fail(error, target)
    os.rename(source, target)


def temporary(folder: Path, name: str) -> Path:
    """A fresh name on the same file system, that `clean` recognises as unfinished."""
    return folder / f"{TEMPORARY}{name}-{os.getpid()}-{secrets.token_hex(4)}"


def replace_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes `data` to `path` so that a reader, now or after a crash, sees the old content or the new, never a part.

    Raises: OSError; the old file is then whole."""
    path = Path(path)
    new = temporary(path.parent, path.name)
    try:
        write_file(new, data)
        rename(new, path)
        sync_folder(path.parent)
    except BaseException:
        remove(new)
        raise


def remove(path: Path) -> None:
    """Removes a temporary file or folder as far as possible; what remains is cleaned at the next save."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Holds the folder for one writer; the lock ends with its process, however that ends. Yields False where the file
    system knows no locks (the caller then must not take another's temporary files for stale).

    Raises: TimeoutError when another process keeps it for a minute."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield _lock(fd, folder)
    finally:
        os.close(fd)


def _lock(fd: int, folder: Path) -> bool:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"[checkpoint] another process has been writing in {folder} for {_LOCK_SECONDS:.0f} s"
                ) from None
            time.sleep(0.02)
        except OSError:
            return False
