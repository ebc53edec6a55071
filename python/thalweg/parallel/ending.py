"""How the end of one rank becomes the end of all: an uncaught exception is told to the others, with an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from .. import _core
from ..failure import exit_code
from . import environment

UNKNOWN = 1  # the exit code of a mistake in a script
SHOWN_EVENTS = 3


def install_early(is_connected: Callable[[], bool], tell: Callable[[int, str], None]) -> None:
    """Let an exception that nobody catches end this process with its exit code while it is not connected.

    tell(code, why) is called before, which may let the others know, and end them.
    """
    before, pid = sys.excepthook, os.getpid()

    def hook(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
        before(kind, error, at)
        if os.getpid() != pid or is_connected():
            return
        flush()
        tell(_code(error), _short(kind, error))
        _leave(_code(error))

    sys.excepthook = hook


def install(comm: Any, end_all: Any) -> None:
    """Let an exception that nobody catches end this process and, by what it says, all others too.

    end_all(code, by_itself=...) ends the other processes where no launcher does; None: there is one.
    """
    before, pid = sys.excepthook, os.getpid()

    def hook(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
        if os.getpid() != pid:
            before(kind, error, at)
            return
        code = _code(error)
        with contextlib.suppress(Exception):
            _show(comm, error, code, lambda: before(kind, error, at))
        comm.abort(f"rank {comm.rank} failed: {_short(kind, error)}")
        if end_all is not None:
            end_all(code, by_itself=not isinstance(error, _core.LostError))
        _leave(code)

    sys.excepthook = hook


def _show(comm: Any, error: BaseException, code: int, show_all: Any) -> None:
    """Show one line where the reason is another rank's, all there is where it is this one's."""
    sys.stdout.flush()
    if isinstance(error, _core.LostError):
        print(f"thalweg: rank {comm.rank} ends: {error}", file=sys.stderr)
        _record(comm, str(error))
    else:
        show_all()
    sys.stderr.flush()


def _record(comm: Any, reason: str) -> None:
    """Write the last collectives of this rank into the folder that THALWEG_FLIGHT names; else show the newest."""
    lines = comm.flight()
    folder = os.environ.get(environment.FLIGHT)
    if not folder:
        for line in lines[-SHOWN_EVENTS:]:
            print(f"  rank {comm.rank}, {line}", file=sys.stderr)
        return
    path = Path(folder) / f"flight-rank-{comm.rank}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([f"rank {comm.rank} of {comm.size}: {reason}", *lines, ""]), encoding="utf-8")
    print(f"  its last collectives are in {path}", file=sys.stderr)


def _code(error: BaseException) -> int:
    return 130 if isinstance(error, KeyboardInterrupt) else exit_code(error) or UNKNOWN


def _short(kind: type[BaseException], error: BaseException) -> str:
    return "".join(traceback.format_exception_only(kind, error)).strip().replace("\n", " ")


def flush() -> None:
    """Write what was printed, before the process may end without Python's help."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none
            stream.flush()


def _leave(code: int) -> None:
    """End at once: what is left to do at exit might wait for other ranks."""
    flush()
    os._exit(code)
