"""The function tw.sweep: checks, native calls, progress, the result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from .. import _core, arrays, fork, parallel
from .. import metrics as metrics_module
from ..callbacks.base import direction
from ..ops.axes import integer
from .native import Data, Preparation
from .over import check_names, runs_of
from .progress import SweepProgress
from .result import SweepResult, SweepRun
from .setup import Setup

_OPTIONS: dict[str, Any] = {
    "shuffle": True,
    "max_norm": None,
    "max_layer_norm": None,
    "clip_value": None,
    "on_nonfinite": "raise",
    "accumulate": 1,
    "precision": None,
    "dtype": "float32",
    "shards": 8,
}
_REFUSED = {
    "callbacks": "runs are one native call without Python between their steps: use Trainer.fit for one with callbacks",
    "world": "every run is on one rank, with the bits that it has on any number of ranks",
    "threads_per_run": "every run is on one thread: threads= says how many runs go on at a time",
}


def sweep(
    net: Any,
    loss: Any,
    optimizer: Any,
    x: Any,
    y: Any,
    *,
    over: Any,
    epochs: int | None = None,
    batch_size: int | None = None,
    validation_data: tuple[Any, Any] | None = None,
    metrics: Sequence[Any] = (),
    seed: int = 0,
    threads: int | None = None,
    monitor: str | None = None,
    mode: str = "auto",
    keep: str = "best",
    verbose: int = 1,
    **options: Any,
) -> SweepResult:
    """Train once for each of many settings, as one native call: each run with the bits that it would have alone.

        result = tw.sweep(lambda width: tw.models.mlp((width,)), tw.losses.CrossEntropy(),
                          lambda lr: tw.optim.SGD(lr, momentum=0.9), x, y, epochs=10, batch_size=32,
                          over={"width": [16, 64], "lr": [0.01, 0.1], "seed": range(10)})

    over: a dict of lists, for all combinations, or a list of dicts, for exactly these runs. Names are arguments of the
    training (seed, epochs, batch_size, shuffle, max_norm, max_layer_norm, clip_value, on_nonfinite, accumulate,
    precision) or parameters of net, optimizer or loss. Each of these three is what a Trainer takes, or a function (or
    class) that makes it and gets the values that it names; seed, epochs and batch_size of the run too.
    options: the others of these arguments, for all runs, dtype and shards. Run i is Trainer(net(...), loss,
    optimizer(...), seed=...).fit(...), to the last bit, for any number of threads.
    threads: runs that go on at a time, each on one thread; None for all cores. Ranks that are processes all call this
    and each makes the whole sweep: None is then a rank's share of the cores.
    monitor: what the best run is chosen by; None for "val_loss", or "loss" without validation_data. mode: "min", "max",
    or "auto" (max for names with "acc").
    keep: whose parameters stay in memory: "best", "all" or "none". result.parameters(i) makes run i again otherwise,
    with the same bits. verbose: 1 shows progress, 0 nothing.
    A run that diverges, or for which there is no memory, ends alone. Ctrl-C ends the sweep within a step, and what is
    finished is returned: result.interrupted is True, result.unfinished holds the settings of the rest.
    Returns: a SweepResult, a table with a row for each run; print it to see it.
    Raises: TypeError, ValueError for names that nobody takes, and for values, parts or data that don't fit;
    RuntimeError where every run failed.
    Cost: runs that differ in rates and seeds share one recording and its plans; a run costs its steps and 0.1 ms.
    """
    given = {**_checked(options), "epochs": epochs, "batch_size": batch_size, "seed": seed}
    runs, figures = runs_of(over), _figures(metrics, validation_data)
    check_names(runs, figures)
    fixed = {"dtype": arrays.check_dtype(given.pop("dtype"), "sweep"), "shards": given.pop("shards")}
    setup = Setup({"net": net, "loss": loss, "optimizer": optimizer}, runs, given, {**fixed, "metrics": metrics})
    data = Data(x, y, validation_data)
    made = [SweepRun(i, settings, figures, setup, data) for i, settings in enumerate(runs)]
    return _train(SweepResult(made, figures, monitor, mode), Preparation(setup, data, runs), threads, keep, verbose)


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    fork.check()
    for name in options:
        if name in _REFUSED:
            raise TypeError(f"[sweep] {name} makes no sense here: {_REFUSED[name]}")
        if name not in _OPTIONS:
            raise TypeError(f"[sweep] there is no argument {name!r}; options are {', '.join(_OPTIONS)}")
    return {**_OPTIONS, **options}


def _figures(metrics: Sequence[Any], validation_data: Any) -> list[str]:
    """Return the names of the columns of a run's history, in the engine's order."""
    names = ["loss", *metrics_module.named(metrics)]
    held_out = [] if validation_data is None else [f"val_{name}" for name in names]
    return [*names, "grad_norm", "lr", *held_out]


def _train(result: SweepResult, preparation: Preparation, threads: Any, keep: str, verbose: int) -> SweepResult:
    count = parallel.threads() if threads is None else integer(threads, "sweep", "threads", 1)
    if keep not in ("best", "all", "none"):
        raise ValueError(f"[sweep] keep is {keep!r}, expected 'best', 'all' or 'none'")
    started = time.perf_counter()
    with SweepProgress(result, preparation.updates(), bool(verbose)) as progress:
        try:
            _run(result, preparation, count, keep, progress)
        except KeyboardInterrupt:
            if all(run.status == "waiting" for run in result):
                raise
            result.interrupted = True  # between two native calls: what is done is returned
        result.seconds, result.threads = time.perf_counter() - started, count
        if all(run.status == "failed" for run in result):
            raise RuntimeError(f"[sweep] every run failed, the first by: {result[0].error}")
    return result


def _run(result: SweepResult, preparation: Preparation, threads: int, keep: str, progress: SweepProgress) -> None:
    column, sign = result.columns.index(result.monitor), direction(result.mode, result.monitor, "sweep")
    dtype = preparation.setup.fixed["dtype"]
    for wave in preparation.waves():
        raw, result.interrupted = _core.sweep(
            wave.networks, wave.runs, dtype, threads, keep, column, sign, progress.look
        )
        for number, found in zip(wave.numbers, raw, strict=True):
            result[number].take(found)
        if keep == "best":
            result.drop_all_but_best()
        progress.next_wave(len(raw), sum(found["steps"] for found in raw))
        if result.interrupted:
            return
