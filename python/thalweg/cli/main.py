"""The `thalweg` command: its options, and how every failure becomes a message and an exit code (failure.py)."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ..console import Output, open_standard_streams
from ..failure import exit_code
from .config import MODELS, OPTIMIZERS, PRECISIONS, WHOLE_NUMBERS, ConfigError, TrainConfig, UsageError
from .interrupt import Stopped

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


def main() -> None:
    """Runs the command line and ends the process."""
    open_standard_streams()
    sys.stdout = Output(sys.stdout)  # type: ignore[assignment]
    app()


@app.callback(invoke_without_command=True)
def thalweg(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    """A training engine for deep networks."""
    if version:
        from .. import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.command()
def info() -> None:
    """Print the versions, the instruction sets and the threads that training would use."""
    import platform

    import numpy

    import thalweg

    core = thalweg._core
    with exit_codes():
        try:
            isa = core.isa()
        except ValueError as error:  # THALWEG_ISA asks for what isn't there
            raise UsageError(str(error)) from None
    rows = {
        "thalweg": thalweg.__version__,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "instruction set": f"{isa} (this processor can run {', '.join(core.isas())})",
        "threads": core.cpu_threads(),
        "checkpoint format": thalweg.checkpoint.FORMAT_VERSION,
    }
    for name, value in rows.items():
        typer.echo(f"{name:18}{value}")


Model = Annotated[str | None, typer.Option(help=f"One of {', '.join(MODELS)}; cnn if not given.")]
Optimizer = Annotated[str | None, typer.Option(help=f"One of {', '.join(OPTIMIZERS)}; sgd if not given.")]
Rate = Annotated[float | None, typer.Option(help="Highest learning rate; the optimizer's usual one if not given.")]
MaxNorm = Annotated[float | None, typer.Option(help="Limit of the gradient's norm; no limit if not given.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the data; 20 if not given.")]
BatchSize = Annotated[int | None, typer.Option(help="Images in one step, over all ranks; 64 if not given.")]
Seed = Annotated[int | None, typer.Option(help="Seed of all random numbers; 0 if not given.")]
Threads = Annotated[
    int | None, typer.Option(help="Threads of each rank; all cores, shared by the ranks, if not given.")
]
World = Annotated[int | None, typer.Option(help="Ranks, as threads of this process; 1 if not given.")]
Shards = Annotated[int | None, typer.Option(help="Slices of the batch with sums of their own; 8 if not given.")]
Precision = Annotated[
    str | None, typer.Option(help=f"Of products and activations: {' or '.join(PRECISIONS)}; float32 if not given.")
]
Out = Annotated[str | None, typer.Option(help="Run folder; runs/digits-MODEL if not given.")]
Resume = Annotated[
    str | None, typer.Option(help="Go on with the run in this folder; only --threads and --world may change.")
]
Fallback = Annotated[
    bool, typer.Option(help="With --resume: if the newest checkpoint is damaged, take the one before.")
]


@app.command()
def train(
    model: Model = None,
    optimizer: Optimizer = None,
    lr: Rate = None,
    max_norm: MaxNorm = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    seed: Seed = None,
    threads: Threads = None,
    world: World = None,
    shards: Shards = None,
    precision: Precision = None,
    out: Out = None,
    resume: Resume = None,
    fallback: Fallback = False,
) -> None:
    """Train a network on the handwritten digits that come with the package.

    Ctrl-C saves a checkpoint after the current step and says how to go on; a second Ctrl-C ends at once.
    """
    choices = {
        "model": model, "optimizer": optimizer, "lr": lr, "epochs": epochs, "batch_size": batch_size, "seed": seed,
        "threads": threads, "world": world, "shards": shards, "max_norm": max_norm, "precision": precision,
    }  # fmt: skip
    given = {key: value for key, value in choices.items() if value is not None}
    with exit_codes():
        if resume is not None and out is not None:
            raise ConfigError("out", out, f"nothing beside --resume, which goes on in {resume}")
        for key, folder in (("out", out), ("resume", resume)):
            if folder == "":  # which Path would take for the current folder
                raise ConfigError(key, folder, "the name of a folder")
        if fallback and resume is None:
            raise ConfigError("fallback", True, "a --resume beside it")
        _train(given, out, resume, fallback)


def _train(given: dict[str, Any], out: str | None, resume: str | None, fallback: bool) -> None:
    from ..checkpoint.durable import check_faults
    from .job import Job  # with the data and the checkpoints, which `thalweg --help` does not need

    check_faults()
    _check_alone("train", "give it --world instead")
    if resume is None:
        job = Job.start(TrainConfig(**given), None if out is None else Path(out))
    else:
        job = Job.resume(Path(resume), given, fallback)
    job.run()


def _check_alone(command: str, instead: str) -> None:
    """Raise UsageError in a process that a launcher started as one of several."""
    from .. import parallel

    if parallel.size() > 1:
        raise UsageError(f"thalweg {command} runs as one process, not as one of {parallel.size()}: {instead}")


Models = Annotated[str | None, typer.Option(help=f"Some of {', '.join(MODELS)}, as all lists with commas: cnn,mlp.")]
Optimizers = Annotated[str | None, typer.Option(help=f"Some of {', '.join(OPTIMIZERS)}; sgd if not given.")]
Rates = Annotated[str | None, typer.Option(help="Highest learning rates: 0.01,0.1.")]
MaxNorms = Annotated[str | None, typer.Option(help="Limits of the gradient's norm.")]
BatchSizes = Annotated[str | None, typer.Option(help="Images in one step; 64 if not given.")]
Seeds = Annotated[int, typer.Option(help="How many seeds each choice is trained with: 0, 1, 2, ...")]
SweepEpochs = Annotated[int, typer.Option(help="Passes over the data.")]
SweepThreads = Annotated[
    int | None, typer.Option(help="Trainings at a time, each on one thread; all cores if not given.")
]
SweepOut = Annotated[str | None, typer.Option(help="Folder of the tables; runs/sweep if not given.")]


@app.command()
def sweep(
    model: Models = None,
    optimizer: Optimizers = None,
    lr: Rates = None,
    max_norm: MaxNorms = None,
    batch_size: BatchSizes = None,
    precision: Precision = None,
    seeds: Seeds = 1,
    epochs: SweepEpochs = 20,
    threads: SweepThreads = None,
    out: SweepOut = None,
) -> None:
    """Train once for each combination of choices, and print which is the best.

    Every run has the bits that `thalweg train` has with the same choices. Ctrl-C ends the sweep; what is finished is
    printed and written.
    """
    lists = {
        "model": model, "optimizer": optimizer, "lr": lr, "max_norm": max_norm, "batch_size": batch_size,
        "precision": precision,
    }  # fmt: skip
    with exit_codes():
        _check_alone("sweep", "give it --threads instead")
        if out == "":
            raise ConfigError("out", out, "the name of a folder")
        from .sweep import SweepJob, configurations

        if threads is not None and not 1 <= threads <= WHOLE_NUMBERS["threads"][1]:
            raise ConfigError("threads", threads, f"a whole number from 1 to {WHOLE_NUMBERS['threads'][1]}")
        names, configs = configurations({k: v for k, v in lists.items() if v is not None}, seeds, epochs)
        SweepJob(names, configs, threads, None if out is None else Path(out)).run()


@app.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})
def launch(
    command: Annotated[list[str], typer.Argument(help="A Python script, -m and a module, or a program; arguments.")],
    ranks: Annotated[int, typer.Option("-n", "--ranks", help="Processes to start.", min=1, max=256)],
    show_all: Annotated[
        bool, typer.Option("--all", help="Show what every rank prints, with its number; else rank 0 alone.")
    ] = False,
) -> None:
    """Start a training script as several processes of this machine, which are the ranks of its trainers.

    Without --all, the other ranks' output is shown when they fail.
    """
    with exit_codes():
        from ..parallel import launch as launcher

        code = launcher.run(ranks, launcher.command(command), show_all=show_all)
    raise typer.Exit(code)


@app.command()
def doctor(
    out: Annotated[Path, typer.Option(help="The folder that runs will be written to.")] = Path("runs"),
    ranks: Annotated[int, typer.Option("-n", "--ranks", help="Ranks meant to run on this machine.", min=1)] = 2,
) -> None:
    """Look at what ranks need here: processor, threads, launchers, MPI, the output folder; say how to mend it.

    Under a launcher (mpiexec -n 4 thalweg doctor) its ranks are looked at. Ends with 1 if something is bad.
    """
    from .. import parallel
    from ..parallel import doctor as examiner

    bad = False
    for found in examiner.examine(out, ranks):
        bad |= found.state == examiner.BAD
        if parallel.rank():
            continue
        typer.echo(f"{found.state:5}{found.name:16}{found.text}")
        if found.fix:
            typer.echo(f"{'':21}-> {found.fix}")
    raise typer.Exit(int(bad))


@app.command("comm-bench")
def comm_bench(
    ranks: Annotated[int, typer.Option("-n", "--ranks", help="Processes to start.", min=2, max=256)] = 2,
) -> None:
    """Time the collectives between processes of this machine; under mpirun between its ranks, each beside mpi4py's."""
    with exit_codes():
        from .. import parallel
        from ..parallel import bench, launch

        if parallel.size() > 1:
            bench.main("table")
            return
        code = launch.run(ranks, [sys.executable, "-m", "thalweg.parallel.bench"])
    raise typer.Exit(code)


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """Ends the command with the exit code and the message that belong to an exception."""
    try:
        yield
    except Stopped as stop:
        raise typer.Exit(stop.exit_code) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except ConfigError as error:
        option = "--" + error.key.replace("_", "-") if " " not in error.key else error.key
        _complain(f"{option} is {error.value!r}, expected {error.expected}")
        raise typer.Exit(error.exit_code) from None
    except Exception as error:
        code = exit_code(error)
        if code is None:  # a mistake of ours: all of it is shown
            traceback.print_exc()
            raise typer.Exit(1) from None
        _complain(_text(error))
        raise typer.Exit(code) from None


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _complain(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"thalweg: {text}", file=sys.stderr)
