"""The function tw.sweep: checks, native calls, progress, the result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from .. import _core, arrays, fork
from .. import metrics as metrics_module
from ..callbacks.base import direction
from ..ops.axes import integer
from .native import Data, Preparation
from .over import check_names, runs_of
from .progress import SweepProgress
from .result import SweepResult, SweepRun
from .setup import Setup

_REFUSED = {
    "callbacks": "runs are one native call without Python between their steps: use Trainer.fit for one with callbacks",
    "world": "every run is on one rank, with the bits that it has on any number of ranks",
    "threads_per_run": "every run is on one thread: threads= says how many runs go on at a time",
    "initial_epoch": "runs start at the beginning",
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
    shuffle: bool = True,
    dtype: Any = "float32",
    shards: int = 8,
    max_norm: float | None = None,
    max_layer_norm: float | None = None,
    clip_value: float | None = None,
    on_nonfinite: str = "raise",
    accumulate: int = 1,
    threads: int | None = None,
    monitor: str | None = None,
    mode: str = "auto",
    keep: str = "best",
    verbose: int = 1,
    **refused: Any,
) -> SweepResult:
    """Train once for each of many settings, as one native call: each run with the bits that it would have alone.

        result = tw.sweep(lambda width: tw.models.mlp((width,)), tw.losses.CrossEntropy(),
                          lambda lr: tw.optim.SGD(lr, momentum=0.9), x, y,
                          over={"width": [16, 64], "lr": [0.01, 0.1], "seed": range(10)}, epochs=10, batch_size=32)

    over: a dict of lists, for all combinations, or a list of dicts, for exactly these runs. A name is either one of the
    training's (seed, epochs, batch_size, shuffle, max_norm, max_layer_norm, clip_value, on_nonfinite, accumulate), or a
    parameter of net, optimizer or loss: each may be what a Trainer takes, or a function (a class too) that makes it and
    is given those values that it names. Functions may also ask for the run's seed, epochs and batch_size.
    The other arguments are those of Trainer and of fit. Run i is Trainer(net(...), loss, optimizer(...), seed=...)
    followed by fit, to the last bit, for any number of threads.
    threads: how many runs go on at a time, each on one thread; None for all cores. monitor: what the best run is chosen
    by, "val_loss" (without validation_data "loss") by default; mode: "min", "max", or "auto" (max for names with
    "acc"). keep: whose parameters stay in memory: "best", "all" or "none"; of the others result.parameters(i) trains
    run i again, which gives the same bits. verbose: 1 shows progress, 0 nothing.
    A run that diverges, or that has no memory, ends; the others go on. Ctrl-C ends the sweep within a step: what is
    finished is returned (result.interrupted is True, result.unfinished holds the settings of the rest).
    Returns: a SweepResult, a table with a row for each run; print it to see it.
    Raises: TypeError, ValueError for names that nobody takes, values, parts or data that don't fit; RuntimeError where
    every run failed.
    Cost: a network is recorded and compiled once for all runs that share it; a run costs its steps and 0.1 ms or so.
    """
    fork.check()
    for name in refused:
        if name in _REFUSED:
            raise TypeError(f"[sweep] {name} makes no sense here: {_REFUSED[name]}")
        raise TypeError(f"[sweep] there is no argument {name!r}")
    options = {
        "epochs": epochs,
        "batch_size": batch_size,
        "shuffle": shuffle,
        "seed": seed,
        "max_norm": max_norm,
        "max_layer_norm": max_layer_norm,
        "clip_value": clip_value,
        "on_nonfinite": on_nonfinite,
        "accumulate": accumulate,
    }
    dtype = arrays.check_dtype(dtype, "sweep")
    runs = runs_of(over)
    named = metrics_module.named(metrics)
    fixed = {"dtype": dtype, "shards": shards, "metrics": metrics}
    setup = Setup({"net": net, "loss": loss, "optimizer": optimizer}, runs, options, fixed)
    data = Data(x, y, validation_data)
    columns = _columns(list(named), validation_data is not None)
    check_names(runs, columns)
    made = [SweepRun(i, settings, columns, setup, data) for i, settings in enumerate(runs)]
    result = SweepResult(made, columns, monitor, mode)
    count = _core.cpu_threads() if threads is None else integer(threads, "sweep", "threads", 1)
    if keep not in ("best", "all", "none"):
        raise ValueError(f"[sweep] keep is {keep!r}, expected 'best', 'all' or 'none'")
    updates = sum(setup.fit(setup.values(settings)).steps(data.count) for settings in runs)
    with SweepProgress(result, updates, bool(verbose)) as progress:
        _train(result, Preparation(setup, data, runs), dtype, count, keep, progress)
    return result


def _columns(metrics: list[str], validated: bool) -> list[str]:
    """Return the names of the columns of a run's history, in the engine's order."""
    held_out = [f"val_{name}" for name in ("loss", *metrics)] if validated else []
    return ["loss", *metrics, "grad_norm", "lr", *held_out]


def _train(
    result: SweepResult, preparation: Preparation, dtype: str, threads: int, keep: str, progress: SweepProgress
) -> None:
    column, sign = result.columns.index(result.monitor), direction(result.mode, result.monitor, "sweep")
    started = time.perf_counter()
    try:
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
                break
    except KeyboardInterrupt:
        if all(run.status == "waiting" for run in result):
            raise
        result.interrupted = True  # while the next call was prepared: what is done is returned
    result.seconds, result.threads = time.perf_counter() - started, threads
    if all(run.status == "failed" for run in result):
        raise RuntimeError(f"[sweep] every run failed, the first by: {result[0].error}")
