"""Two ranks of one thread on two cores: how much faster they train than one, and how fast their collectives are.

  python bench/ranks.py train [--rounds 9]
  python bench/ranks.py collectives [--mpi PYTHON]       (of an environment with mpi4py and its mpiexec)
  python bench/ranks.py all_reduce [--mpi PYTHON]        (or another one alone)

Contenders are groups of processes that are all there from the start and take turns, in a rotating order; a turn's time
is the median of its calls, and ratios are medians over the rounds. Efficiency is the time of one rank over twice that
of two, with the same global batch. Ranks "apart" are two processes that each train half of the rows and exchange
nothing: what their memory and smaller products cost alone. Torch trains by DistributedDataParallel over gloo, with its
fused optimizer. Arrays that are exchanged were just written by their ranks: "own" are those of NumPy, "shared" of
comm.zeros, "started" those of NumPy in calls that are started, then finished; "copy" is one thread's copy of as many
bytes. A letter goes there and back. Ratios are those of the time of own arrays, and of shared ones.
"""

import argparse
import contextlib
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
SIZES = (1 << 10, 64 << 10, 1 << 20, 16 << 20, 100 << 20)
COLLECTIVES = ("all_reduce", "reduce_scatter", "all_gather", "broadcast", "barrier", "letter")


class Group:
    """Processes that do the same, on command: each reads numbers from its own pipe, rank 0 answers with seconds."""

    def __init__(self, folder: Path, name: str, ranks: int, start: list[str], *arguments: str) -> None:
        self.name = name
        self.ranks = [folder / f"{name}-{r}" for r in range(ranks)]
        self.answer = folder / f"{name}-answer"
        for path in [*self.ranks, self.answer]:
            os.mkfifo(path)
        worker = [str(HERE / "ranks_worker.py"), *arguments, str(folder), name]
        one = {k: "1" for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        self.processes = [
            subprocess.Popen(
                [word.replace("{rank}", str(r)) for word in start] + worker, env={**os.environ, **one, **root}
            )
            for r in range(ranks if "{rank}" in " ".join(start) else 1)
        ]

    def run(self, what: int, times: int) -> float:
        """Seconds of one of `times` calls of the job with this number."""
        for path in self.ranks:
            path.write_text(f"{what} {times}\n")
        return float(self.answer.read_text())

    def end(self) -> None:
        for path in self.ranks:
            path.write_text("end\n")
        for process in self.processes:
            process.wait(20)


@contextlib.contextmanager
def groups(*wanted: tuple) -> Iterator[list[Group]]:
    with tempfile.TemporaryDirectory() as folder:
        made = [Group(Path(folder), *w) for w in wanted]
        try:
            yield made
        finally:
            for group in made:
                group.end()


def interleave(contenders: list[Group], what: int, rounds: int, turn: float) -> dict[str, list[float]]:
    times = {}
    for group in contenders:
        group.run(what, 2)
        times[group.name] = max(1, round(turn / group.run(what, 3)))
    seconds: dict[str, list[float]] = {group.name: [] for group in contenders}
    for k in range(rounds):
        for group in contenders[k % len(contenders) :] + contenders[: k % len(contenders)]:
            seconds[group.name].append(group.run(what, times[group.name]))
    return seconds


def ratio(over: list[float], of: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(over, of, strict=True))


PYTHON = [sys.executable]
EACH = ["env", "THALWEG_BENCH_RANK={rank}", sys.executable]  # a process for each rank, without a launcher
LAUNCH = [sys.executable, "-c", "from thalweg_command import main; main()", "launch", "-n", "2"]


def train(options: argparse.Namespace) -> None:
    for network, rows in (("mlp", 256), ("resnet20", 128)):
        wanted = [("one", 1, PYTHON, "train", network, str(rows)), ("two", 2, LAUNCH, "train", network, str(rows)),
                  ("apart", 2, EACH, "apart", network, str(rows)),
                  ("ddp", 2, EACH, "ddp", network, str(rows))]  # fmt: skip
        with groups(*wanted) as made:
            seconds = interleave(made, 0, options.rounds, options.seconds)
        ms = {name: 1e3 * statistics.median(s) for name, s in seconds.items()}
        efficiency = {name: ratio(seconds["one"], seconds[name]) / 2 for name in ("two", "apart")}
        times = ", ".join(f"{name} {value:.2f} ms" for name, value in ms.items())
        over = ratio(seconds["ddp"], seconds["two"])
        reached = f"efficiency {efficiency['two']:.3f} (apart {efficiency['apart']:.3f})"
        print(f"{network} b{rows}: {times}; {reached}, {over:.2f} times DDP", flush=True)


def collectives(options: argparse.Namespace, names: tuple[str, ...] = COLLECTIVES) -> None:
    wanted = [("own", 2, LAUNCH, "own"), ("shared", 2, LAUNCH, "shared"), ("started", 2, LAUNCH, "started"),
              ("copy", 1, PYTHON, "copy")]  # fmt: skip
    if options.mpi:
        wanted.append(("mpi4py", 2, [str(Path(options.mpi).parent / "mpiexec"), "-n", "2", options.mpi], "mpi4py"))
    if importlib.util.find_spec("torch"):
        wanted.append(("gloo", 2, EACH, "gloo"))
    with groups(*wanted) as made:
        for name in names:
            for i, size in enumerate(SIZES if name != "barrier" else SIZES[:1]):
                which = COLLECTIVES.index(name) * len(SIZES) + i
                seconds = interleave(made, which, options.rounds, options.seconds)
                texts = [f"{n} {1e6 * statistics.median(s):,.1f} us" for n, s in seconds.items()]
                ratios = [
                    f"{n} / ours {ratio(seconds[n], seconds['own']):.2f}, {ratio(seconds[n], seconds['shared']):.2f}"
                    for n in seconds
                    if n in ("mpi4py", "gloo")
                ]
                size_text = f"{size:>11,} bytes" if name != "barrier" else f"{'':17}"
                print(f"{name:>14} {size_text}: {', '.join(texts)}; {'; '.join(ratios)}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "collectives", *COLLECTIVES])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.4, help="of a turn")
    parser.add_argument("--mpi", metavar="PYTHON")
    options = parser.parse_args()
    if options.what == "train":
        train(options)
    else:
        collectives(options, COLLECTIVES if options.what == "collectives" else (options.what,))
    return 0


if __name__ == "__main__":
    sys.exit(main())
