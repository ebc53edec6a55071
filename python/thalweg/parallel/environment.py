"""What launchers say of a process, in variables of the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

RANK, SIZE, MEMORY = "THALWEG_RANK", "THALWEG_WORLD", "THALWEG_MEMORY_FD"
TIMEOUT, START_TIMEOUT = "THALWEG_TIMEOUT", "THALWEG_START_TIMEOUT"  # seconds
STEP_SECONDS, START_SECONDS = 60.0, 300.0  # that ranks wait for one another, unless these say otherwise
OVERLAP = "THALWEG_OVERLAP"  # how gradients are exchanged
OVERLAPS = ("off", "nodes", "thread")
NODE_MEMORY = "THALWEG_NODE_MEMORY"  # on or off: whether ranks of one machine share memory under MPI too
NODE_RANKS = "THALWEG_NODE_RANKS"  # for tests: so many ranks count as a node
FLIGHT = "THALWEG_FLIGHT"  # a folder for what each rank did last, should it lose the others
DELAY = "THALWEG_DELAY"  # RANK:SECONDS, for tests: that rank sleeps in every step before it goes back

PROCESS = (
    "THALWEG_PROCESS"  # the rank's, in which processes that it starts, with all its variables, see that they are none
)


class LaunchError(RuntimeError):
    """A launcher and this process do not fit together."""

    exit_code = 2


@dataclass(frozen=True)
class Launch:
    """Who started this process as which of how many ranks."""

    launcher: str
    rank: int
    size: int
    job: str = ""  # by which the ranks of one machine find one another without MPI; empty: they can't

    @property
    def own(self) -> bool:
        """Whether it was `thalweg launch`."""
        return self.launcher == OURS


OURS, TORCHRUN, SRUN = "thalweg launch", "torchrun", "srun"
# The variables of (rank, number of ranks) by launcher. Several may be set, by a launcher inside another one: the
# innermost comes first.
_VARIABLES = (
    (OURS, RANK, SIZE),
    (TORCHRUN, "RANK", "WORLD_SIZE"),
    ("mpirun (Open MPI)", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("mpiexec (MPICH)", "PMI_RANK", "PMI_SIZE"),
    (SRUN, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)
_NEEDED = {TORCHRUN: ("TORCHELASTIC_RUN_ID", "MASTER_PORT")}  # one of them; else others may have set the two
# What names a job on its machine, by launcher; and the ranks, or the machines, that tell whether that is the only one.
_JOB = {
    TORCHRUN: ("TORCHELASTIC_RUN_ID", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT"),
    SRUN: ("SLURM_JOB_ID", "SLURM_STEP_ID"),
}
_LOCAL_SIZE, _MACHINES = "LOCAL_WORLD_SIZE", "SLURM_STEP_NUM_NODES"


def detect(variables: Mapping[str, str] | None = None) -> Launch | None:
    """Return who started this process as a rank; None for nobody. Raises: LaunchError for what is no rank."""
    found = os.environ if variables is None else variables
    for launcher, rank, size in _VARIABLES:
        if rank in found and size in found and any(name in found for name in _NEEDED.get(launcher, (rank,))):
            return Launch(launcher, *_numbers(rank, found[rank], size, found[size]), _job(launcher, size, found))
    return None


def _job(launcher: str, size: str, found: Mapping[str, str]) -> str:
    """Return a name of the job where all its ranks are on this machine."""
    alone = found.get(_MACHINES, "") == "1" if launcher == SRUN else found.get(_LOCAL_SIZE, found[size]) == found[size]
    parts = [found.get(name, "") for name in _JOB.get(launcher, ())]
    return "-".join([launcher, *parts]) if alone and any(parts) else ""


def every_variable() -> set[str]:
    """Return the names of all variables that make a process a rank."""
    ranks = {name for _, rank, size in _VARIABLES for name in (rank, size)}
    return ranks.union([MEMORY, PROCESS, _LOCAL_SIZE, _MACHINES], *_NEEDED.values(), *_JOB.values())


def is_of_a_rank() -> bool:
    """Tell whether another process, a rank, has started this one."""
    return os.environ.setdefault(PROCESS, str(os.getpid())) != str(os.getpid())


def check() -> None:
    """Read what is meant for ranks, before they connect. Raises: LaunchError for what means nothing."""
    for name in (TIMEOUT, START_TIMEOUT):
        seconds(name, 1.0)
    choice(OVERLAP, OVERLAPS)
    choice(NODE_MEMORY, ("on", "off"))
    delay()
    node_ranks()


def choice(name: str, allowed: Sequence[str]) -> str:
    """Return one of few words from the environment, empty for none. Raises: LaunchError for another."""
    text = os.environ.get(name, "")
    if text and text not in allowed:
        raise LaunchError(f"{name} is {text!r}, expected {', '.join(allowed[:-1])} or {allowed[-1]}")
    return text


def node_ranks() -> int:
    """Return how many ranks count as a node, 0 for those of a machine. Raises: LaunchError for what is no number."""
    text = os.environ.get(NODE_RANKS)
    if not text:
        return 0
    if not text.isdecimal() or int(text) < 1:
        raise LaunchError(f"{NODE_RANKS} is {text!r}, expected how many ranks count as a node")
    return int(text)


def seconds(name: str, otherwise: float) -> float:
    """Return a limit from the environment. Raises: LaunchError for what is no number above 0."""
    text = os.environ.get(name)
    if not text:
        return otherwise
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value > 0:
        raise LaunchError(f"{name} is {text!r}, expected seconds, a number above 0")
    return value


def delay() -> dict[str, float]:
    """Return the fields of a session's config that make a rank late. Raises: LaunchError for what is no delay."""
    text = os.environ.get(DELAY)
    if not text:
        return {}
    rank, _, length = text.partition(":")
    try:
        found = {"delayed_rank": int(rank), "seconds_delay": float(length)}
    except ValueError:
        found = {"seconds_delay": -1.0}
    if not 0 <= found["seconds_delay"] < 3600:
        raise LaunchError(f"{DELAY} is {text!r}, expected RANK:SECONDS")
    return found


def _numbers(rank_name: str, rank: str, size_name: str, size: str) -> tuple[int, int]:
    if not (rank.isdecimal() and size.isdecimal() and int(rank) < int(size)):
        raise LaunchError(
            f"{rank_name} is {rank!r} and {size_name} is {size!r}, expected a rank and the number of ranks above it"
        )
    return int(rank), int(size)
