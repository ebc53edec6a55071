"""What a sweep returns: a table with one row a run."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from .. import _core
from ..callbacks.base import direction
from . import export, table
from .over import Settings, names_of

if TYPE_CHECKING:
    from ..trainer.trainer import Trainer
    from .native import Data
    from .setup import Setup

Values = dict[str, np.ndarray]


@dataclass(eq=False, repr=False)
class SweepRun:
    """One run: its number, its settings, and what came of it.

    status: "finished", "diverged" (at update `updates` + 1; `error` says where), "failed" (no memory; `error` says for
    what), "interrupted" (by Ctrl-C, after `updates` updates) or "waiting" (never started). history: for each figure its
    value in every epoch that was done, as an array: loss, the metrics, grad_norm, lr, and val_ of loss and metrics.
    run["lr"] is a setting, run["val_loss"] the last epoch's figure: NaN unless the run is finished.
    """

    index: int
    settings: Settings
    columns: list[str]
    _setup: Setup
    _data: Data
    status: str = "waiting"
    updates: int = 0
    seconds: float = 0.0
    error: str = ""
    history: dict[str, np.ndarray] = field(default_factory=dict)
    _parameters: Values | None = None
    _buffers: Values | None = None

    def __getitem__(self, name: str) -> Any:
        if name in self.settings:
            return self.settings[name]
        return self.figure(name)

    def __repr__(self) -> str:
        figures = {name: self.figure(name) for name in self.columns if name not in ("grad_norm", "lr")}
        shown = [f"{name} {table.cell(name, v)}" for name, v in figures.items() if not math.isnan(v)]
        settings = ", ".join(f"{name}={table.value_text(v)}" for name, v in self.settings.items())
        return f"SweepRun({self.index}: {settings}; {', '.join([table.status_text(self), *shown])})"

    def figure(self, name: str) -> float:
        """Return a figure of the last epoch; NaN unless the run is finished. Raises: KeyError for an unknown name."""
        if name not in self.columns:
            raise KeyError(f"a run has no {name!r}; it has {', '.join([*self.settings, *self.columns])}")
        return float(self.history[name][-1]) if self.status == "finished" else math.nan

    def parameters(self) -> Values:
        """Return the trained parameters by name: those that were kept (see keep), or those of the run made again."""
        return self.trainer().parameters() if self._parameters is None else _copies(self._parameters)

    def buffers(self) -> Values:
        """Return the buffers (running statistics) by name, as parameters."""
        return self.trainer().buffers() if self._buffers is None else _copies(self._buffers)

    def trainer(self, *, threads: int = 0) -> Trainer:
        """Return the trainer of this run, as its training leaves it: to predict, save, or go on with fit.

        The run is made once more, alone, on the rows that the sweep was given; it costs what one run costs.
        Raises: RuntimeError where its losses are others than before: the rows were changed, or a function that makes a
        part of it does not give the same twice.
        """
        values = self._setup.values(self.settings)
        trainer, fit = self._setup.trainer(values, threads), self._setup.fit(values)
        x, y = self._data.given
        try:
            trainer.fit(x, y, epochs=fit.epochs, batch_size=fit.batch_size, shuffle=fit.shuffle, verbose=0)
        except _core.DivergedError:
            if self.status == "finished":
                raise
        before = self.history.get("loss", np.empty(0))
        if not np.array_equal(trainer.history.history.get("loss", [])[: len(before)], before, equal_nan=True):
            raise RuntimeError(
                f"[sweep] run {self.index} made again has other losses than in the sweep: the rows were changed, or a "
                "function of net, loss or optimizer does not give the same twice"
            )
        return trainer

    def take(self, raw: dict[str, Any]) -> None:
        """Take over what the engine says of the run."""
        self.status, self.updates, self.seconds, self.error = (
            raw[name] for name in ("status", "steps", "seconds", "error")
        )
        self.history = {name: raw["history"][:, i].copy() for i, name in enumerate(self.columns)}
        self._parameters, self._buffers = raw["parameters"], raw["buffers"]

    def drop(self) -> None:
        """Keep the parameters no longer."""
        self._parameters = self._buffers = None


class History:
    """The figures of all runs: history["val_loss"] is an array (runs, epochs), NaN where a run did not get."""

    def __init__(self, runs: Sequence[SweepRun], columns: list[str]) -> None:
        self._runs, self._columns = runs, columns

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._columns:
            raise KeyError(f"the history has no {name!r}; it has {', '.join(self._columns)}")
        rows = [run.history.get(name, np.empty(0)) for run in self._runs]
        values = np.full((len(rows), max(map(len, rows), default=0)), math.nan)
        for to, row in zip(values, rows, strict=True):
            to[: len(row)] = row
        return values

    def keys(self) -> list[str]:
        return list(self._columns)

    def __repr__(self) -> str:
        return f"History({len(self._runs)} runs: {', '.join(self._columns)})"


class SweepResult(Sequence[SweepRun]):
    """The runs of a sweep in the order of `over`. print(result) shows them as a table, the best first.

    result[3] is a run; result["lr"] and result["val_loss"] are columns, an array with an element for each run (NaN for
    figures of runs that are not finished); result.history["val_loss"] is an array (runs, epochs). result.best() is the
    best run, result.by("lr") the mean over all runs with the same lr. names: of the settings; columns: of the figures.
    interrupted: Ctrl-C ended the sweep; `unfinished` holds the settings of the runs that are missing, so that
    result + tw.sweep(..., over=result.unfinished) is whole.
    """

    def __init__(self, runs: list[SweepRun], columns: list[str], monitor: str | None, mode: str) -> None:
        self.runs, self.columns = runs, columns
        self.names = names_of([run.settings for run in runs])
        self.monitor = ("val_loss" if "val_loss" in columns else "loss") if monitor is None else monitor
        self.mode = mode
        self._sign(None, None)
        self.interrupted = False
        self.seconds, self.threads = 0.0, 0

    def __len__(self) -> int:
        return len(self.runs)

    @overload
    def __getitem__(self, key: str) -> np.ndarray: ...
    @overload
    def __getitem__(self, key: int) -> SweepRun: ...
    @overload
    def __getitem__(self, key: slice) -> list[SweepRun]: ...
    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return self.runs[key]
        if key in self.names:
            return table.column([run.settings.get(key) for run in self.runs])
        if key in ("status", "updates", "seconds", "error"):
            return np.array([getattr(run, key) for run in self.runs])
        self._known(key)
        return np.array([run.figure(key) for run in self.runs])

    def __iter__(self) -> Iterator[SweepRun]:
        return iter(self.runs)

    def __add__(self, other: SweepResult) -> SweepResult:
        """Return the runs of both; those of one's own that are not finished are left out where the other has them."""
        if not isinstance(other, SweepResult):
            return NotImplemented
        if other.columns != self.columns:
            raise ValueError(f"[sweep] one result has {', '.join(self.columns)}, the other {', '.join(other.columns)}")
        theirs = {repr(run.settings) for run in other.runs}
        made = [run for run in self.runs if not (_missing(run) and repr(run.settings) in theirs)]
        runs = [replace(run, index=i) for i, run in enumerate([*made, *other.runs])]
        both = SweepResult(runs, self.columns, self.monitor, self.mode)
        both.interrupted = any(_missing(run) for run in runs)
        both.seconds, both.threads = self.seconds + other.seconds, max(self.threads, other.threads)
        return both

    @property
    def history(self) -> History:
        return History(self.runs, self.columns)

    @property
    def unfinished(self) -> list[Settings]:
        """The settings of the runs that Ctrl-C kept from being finished."""
        return [dict(run.settings) for run in self.runs if _missing(run)]

    def best(self, monitor: str | None = None, mode: str | None = None) -> SweepRun:
        """Return the finished run with the best last value of a figure (by default the sweep's monitor).

        mode: "min", "max", or "auto" (max for names with "acc"). The first of equal ones is the best.
        Raises: ValueError for an unknown figure, or where no run is finished.
        """
        ranked = self.ranked(monitor, mode)
        if not ranked:
            raise ValueError(f"[sweep] no run has a best {monitor or self.monitor}: {self.headline()}")
        return ranked[0]

    def ranked(self, monitor: str | None = None, mode: str | None = None) -> list[SweepRun]:
        """Return the finished runs, the best first. Arguments and Raises as best."""
        name, sign = monitor or self.monitor, self._sign(monitor, mode)
        finished = [run for run in self.runs if not math.isnan(run.figure(name))]
        return sorted(finished, key=lambda run: -sign * run.figure(name))

    def by(self, *names: str, monitor: str | None = None, mode: str | None = None) -> table.Groups:
        """Return the mean of a figure over all runs with the same values of some settings, the best mean first.

        So by("lr") says which lr is the best over all seeds. Rows have these settings, runs, finished, mean, std (of
        the sample), best and worst; only finished runs count.
        Raises: ValueError for a name that is no setting.
        """
        name, sign = monitor or self.monitor, self._sign(monitor, mode)
        for setting in names:
            if setting not in self.names:
                raise ValueError(f"[sweep] {setting!r} is no setting; there are {', '.join(self.names)}")
        return table.groups(self.runs, names or tuple(self.names), name, sign)

    def parameters(self, run: int | None = None) -> Values:
        """Return the trained parameters of a run (of the best one) by name; see SweepRun.parameters."""
        return (self.best() if run is None else self.runs[run]).parameters()

    def trainer(self, run: int | None = None, *, threads: int = 0) -> Trainer:
        """Return the trainer of a run (of the best one) as its training leaves it; see SweepRun.trainer."""
        return (self.best() if run is None else self.runs[run]).trainer(threads=threads)

    def headline(self) -> str:
        """Return one line: how many runs ended how, how long it took, and the best."""
        return table.headline(self)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a table with a row for each run: settings, status, last figures. Raises: OSError."""
        export.to_csv(self, path)

    def to_jsonl(self, path: str | os.PathLike[str]) -> None:
        """Write a line of JSON for each run: as to_csv, with the history. Raises: OSError."""
        export.to_jsonl(self, path)

    def show(self, rows: int | None = None, monitor: str | None = None, mode: str | None = None) -> None:
        """Print the table of all runs, or of so many, the best by some figure first."""
        from ..console import Screen

        name, order = monitor or self.monitor, self.ranked(monitor, mode)
        Screen().line(table.text(self, order, name, len(self) if rows is None else rows))

    def __str__(self) -> str:
        return table.text(self, self.ranked(), self.monitor, table.SHOWN)

    __repr__ = __str__

    def drop_all_but_best(self) -> None:
        """Keep the parameters of the best run only."""
        ranked = self.ranked()
        for run in self.runs:
            if not ranked or run is not ranked[0]:
                run.drop()

    def _sign(self, monitor: str | None, mode: str | None) -> float:
        self._known(monitor or self.monitor)
        usual = self.mode if monitor in (None, self.monitor) else "auto"
        return direction(mode or usual, monitor or self.monitor, "sweep")

    def _known(self, name: str) -> None:
        if name not in self.columns:
            raise ValueError(f"[sweep] there is no {name!r}; there are {', '.join(self.columns)}")


def _missing(run: SweepRun) -> bool:
    return run.status in ("interrupted", "waiting")


def _copies(values: Values) -> Values:
    return {name: value.copy() for name, value in values.items()}
