"""`thalweg launch`: starts the ranks of one machine, shows what they say, and ends them together."""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO, Any

from .. import _core
from . import environment
from .environment import LaunchError

GRACE_SECONDS = 4.0  # that the other ranks have to end after the first one failed
SAVE_SECONDS = 120.0  # the same after the first one ended as it was asked to
KILL_SECONDS = 2.0  # from SIGTERM to SIGKILL
KEPT_BYTES = 64 << 10  # of what a rank other than 0 said, to be shown if it fails
SHOWN_LINES, SHOWN_RANKS = 40, 4
LOST = 6
STOPPED = (75, 130)  # exit codes of ranks that were asked to stop
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_PR_SET_PDEATHSIG = 1
_AT_ONCE = {"PYTHONUNBUFFERED": "1"}  # what a rank prints comes at once, and is there when it is killed


def command(arguments: Sequence[str]) -> list[str]:
    """Return the command of a rank: a Python script with its arguments, -m and a module, or a program.

    Raises: LaunchError for what is neither.
    """
    first = arguments[0]
    if first.endswith(".py"):
        if not os.path.isfile(first):
            raise LaunchError(f"there is no script {first}")
        return [sys.executable, *arguments]
    if first == "-m":
        return [sys.executable, *arguments]
    if first.startswith("-") or shutil.which(first) is None:
        raise LaunchError(f"{first!r} is no script (.py), -m with a module, or program")
    return list(arguments)


def run(size: int, argv: Sequence[str], *, show_all: bool = False) -> int:
    """Run `size` ranks of a command to their end and return the exit code of all.

    That is 0 if all ended with 0; else that of the first rank that failed by itself; 6 where a rank was killed.
    Raises: LaunchError, OSError where they can't be started.
    """
    job = _Job(size, show_all)
    try:
        with job.forwarding():
            job.start(argv)
            job.wait()
    finally:
        job.kill()
    return job.result()


class _Tail:
    """What one rank says: shown at once with its number before each line, or the end of it kept."""

    def __init__(self, rank: int, stream: IO[bytes], live: bool) -> None:
        self.rank, self.live, self._stream = rank, live, stream
        self._kept = bytearray()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def lines(self) -> list[str]:
        return [f"[{self.rank}] {line}" for line in self._kept.decode(errors="replace").splitlines()]

    def _read(self) -> None:
        while part := os.read(self._stream.fileno(), 1 << 16):
            self._kept += part
            if self.live:
                self._show(whole=False)
            del self._kept[:-KEPT_BYTES]
        if self.live:
            self._show(whole=True)

    def _show(self, *, whole: bool) -> None:
        end = len(self._kept) if whole or len(self._kept) >= KEPT_BYTES else self._kept.rfind(b"\n") + 1
        text = bytes(self._kept[:end])
        del self._kept[:end]
        for line in text.decode(errors="replace").splitlines():
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.write(f"[{self.rank}] {line}\n")  # at once: lines of several ranks would run together
                sys.stdout.flush()


class _Job:
    def __init__(self, size: int, show_all: bool) -> None:
        self.size, self.show_all = size, show_all
        self.memory = _core.NodeMemory(size)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.tails: list[_Tail] = []
        self.ended: list[tuple[int, int]] = []  # (rank, exit code) in the order of their ends
        self.ours: set[int] = set()  # ranks that were ended by us
        self.started = False
        self.told = 0  # the last signal that was passed on
        self._ends: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()

    def start(self, argv: Sequence[str]) -> None:
        for rank in range(self.size):
            own = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if rank or self.show_all else {}
            process = subprocess.Popen(
                argv,
                env={**_AT_ONCE, **os.environ, **self._variables(rank)},
                stdin=subprocess.DEVNULL,
                pass_fds=(self.memory.fd,),
                start_new_session=True,  # the terminal's Ctrl-C comes through us alone, once
                preexec_fn=_end_with_parent(os.getpid()),
                **own,  # type: ignore[call-overload]
            )
            self.processes.append(process)
        for rank, process in enumerate(self.processes):
            if process.stdout is not None:
                self.tails.append(_Tail(rank, process.stdout, self.show_all))
            threading.Thread(target=self._watch, args=(rank, process), daemon=True).start()
        self.started = True
        if self.told:
            self.signal(self.told)

    def wait(self) -> None:
        """Wait for all ranks; once one has failed, end those that don't end by themselves."""
        limit: float | None = None
        force = signal.SIGTERM
        while len(self.ended) < self.size:
            if limit is not None and time.monotonic() > limit:
                self.signal(force, by_us=True)
                limit, force = time.monotonic() + KILL_SECONDS, signal.SIGKILL
            try:
                rank, code = self._ends.get(timeout=0.1)
            except queue.Empty:
                continue
            self.ended.append((rank, code))
            if code and code not in STOPPED:
                self.memory.end(f"rank {rank} {how(code)}")
            if code and limit is None:
                limit = time.monotonic() + (SAVE_SECONDS if code in STOPPED else GRACE_SECONDS)

    def signal(self, number: int, *, by_us: bool = False) -> None:
        """Send a signal to every rank that still runs."""
        over = {rank for rank, _ in self.ended}
        for rank, process in enumerate(self.processes):
            if rank in over or process.returncode is not None:
                continue
            if by_us:
                self.ours.add(rank)
            process.send_signal(number)

    def kill(self) -> None:
        """End what is left of the ranks, and what they started."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        for tail in self.tails:
            tail.thread.join(1.0)

    def result(self) -> int:
        """Return the exit code of all, and say what failed."""
        failed = [(rank, code) for rank, code in self.ended if code]
        if not failed:
            return 0
        causes = [(rank, code) for rank, code in failed if code != LOST and rank not in self.ours]
        for rank, code in causes or failed:
            if code not in STOPPED:
                ended = "did not end by itself and was killed" if rank in self.ours else how(code)
                self._say([f"thalweg launch: rank {rank} {ended}"])
        kept = {tail.rank: tail for tail in self.tails if not self.show_all}
        for i, (rank, code) in enumerate((causes or failed)[:SHOWN_RANKS]):
            if rank in kept and code not in STOPPED:  # all of the first reason; those after it are often its copies
                self._say(kept[rank].lines()[-SHOWN_LINES if i == 0 else -1 :])
        code = causes[0][1] if causes else LOST
        return 128 + self.told if code == -self.told else code if code > 0 else LOST

    @contextlib.contextmanager
    def forwarding(self) -> Any:
        """Pass signals on to the ranks."""
        before = {number: signal.signal(number, self._forward) for number in _FORWARDED}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _forward(self, number: int, _: Any) -> None:
        self.told = number
        if self.started:  # else when all are there
            self.signal(number)

    def _variables(self, rank: int) -> dict[str, str]:
        return {
            environment.RANK: str(rank),
            environment.SIZE: str(self.size),
            environment.MEMORY: str(self.memory.fd),
        }

    def _watch(self, rank: int, process: subprocess.Popen[bytes]) -> None:
        self._ends.put((rank, process.wait()))

    def _say(self, lines: Sequence[str]) -> None:
        if not lines:
            return
        with contextlib.suppress(OSError, ValueError):
            print("\n".join(lines), file=sys.stderr, flush=True)


def how(code: int) -> str:
    """Return how a process ended, as words: `was ended by SIGKILL`, `ended with exit code 3`."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _end_with_parent(parent: int) -> Callable[[], None]:
    """Return what a rank does before it starts: ask to be killed should the launcher die."""
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(LOST)

    return ask
