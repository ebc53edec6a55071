"""The tables of a sweep as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..console import figure, table_text

if TYPE_CHECKING:
    from .result import SweepResult, SweepRun

SHOWN = 20  # rows of a table that is printed


@dataclass(frozen=True)
class Groups:
    """Runs with the same values of some settings taken together: rows as dicts, the best mean first; print it."""

    names: tuple[str, ...]
    monitor: str
    rows: list[dict[str, Any]]

    def __str__(self) -> str:
        figures = ("mean", "std", "best", "worst")
        cells = [
            [*(value_text(row[name]) for name in self.names), f"{row['finished']}/{row['runs']}"]
            + [cell(self.monitor, row[name]) for name in figures]
            for row in self.rows
        ]
        head = [*self.names, "finished", f"mean {self.monitor}", *figures[1:]]
        return table_text(head, cells)

    __repr__ = __str__

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return self.rows[i]


def groups(runs: Sequence[SweepRun], names: tuple[str, ...], monitor: str, sign: float) -> Groups:
    """Group runs by the values of some settings."""
    found: dict[tuple[str, ...], list[SweepRun]] = {}
    for run in runs:
        found.setdefault(tuple(repr(run.settings.get(name)) for name in names), []).append(run)
    rows: list[dict[str, Any]] = []
    for members in found.values():
        values = np.array([v for v in (run.figure(monitor) for run in members) if not math.isnan(v)])
        some = len(values) > 0
        rows.append(
            {
                **{name: members[0].settings.get(name) for name in names},
                "runs": len(members),
                "finished": len(values),
                "mean": float(values.mean()) if some else math.nan,
                "std": float(values.std(ddof=1)) if len(values) > 1 else math.nan,
                "best": float(sign * (sign * values).max()) if some else math.nan,
                "worst": float(sign * (sign * values).min()) if some else math.nan,
            }
        )
    rows.sort(key=lambda row: math.inf if math.isnan(row["mean"]) else -sign * row["mean"])
    return Groups(names, monitor, rows)


def text(result: SweepResult, ranked: list[SweepRun], monitor: str, most: int) -> str:
    """Return the table of a result: `ranked` runs first, then those that have no figures; `most` rows of it."""
    first = {id(run) for run in ranked}
    runs = [*ranked, *(run for run in result.runs if id(run) not in first)]
    shown = [name for name in result.columns if name not in ("grad_norm", "lr")]
    if monitor not in shown:
        shown.append(monitor)
    head = ["run", *result.names, *(f"{name} *" if name == monitor else name for name in shown), "status"]
    rows = [
        [str(run.index), *(value_text(run.settings[n]) if n in run.settings else "" for n in result.names)]
        + [cell(name, run.figure(name)) for name in shown]
        + [status_text(run)]
        for run in runs[:most]
    ]
    left = len(runs) - len(rows)
    more = f"\n... {left:,} more: result.show() prints all" if left else ""
    return f"{table_text(head, rows)}{more}\n{headline(result)}"


def headline(result: SweepResult) -> str:
    """Return one line: how many runs ended how, how long it took, and the best."""
    counts: dict[str, int] = {}
    for run in result.runs:
        counts[run.status] = counts.get(run.status, 0) + 1
    ends = ", ".join(f"{n:,} {'not started' if status == 'waiting' else status}" for status, n in counts.items())
    many = "s" if len(result) > 1 else ""
    threads = f" on {result.threads} thread{'s' if result.threads > 1 else ''}" if result.threads else ""
    line = f"{len(result):,} run{many} in {result.seconds:.2f} s{threads}: {ends}"
    ranked = result.ranked()
    if ranked:
        best = ranked[0]
        settings = ", ".join(f"{name} {value_text(value)}" for name, value in best.settings.items())
        line += f"; best {result.monitor} {cell(result.monitor, best.figure(result.monitor))} with {settings}"
    return line


def status_text(run: SweepRun) -> str:
    if run.status == "diverged":
        return f"diverged at update {run.updates + 1}"
    if run.status == "interrupted":
        return f"interrupted after {run.updates} updates"
    return {"waiting": "not started", "failed": f"failed: {run.error}"}.get(run.status, run.status)


def cell(name: str, value: float) -> str:
    """Return a figure; a share as percent, as fit shows it."""
    if math.isnan(value):
        return ""
    return f"{value:.2%}" if name.removeprefix("val_") == "accuracy" else figure(value)


def value_text(value: Any) -> str:
    """Return a setting in short."""
    if isinstance(value, float):
        return f"{value:g}"
    return str(getattr(value, "__name__", value))


def column(values: list[Any]) -> np.ndarray:
    """Return settings as an array; of objects where they are no numbers or texts of one kind."""
    kinds = {type(value) for value in values}
    if kinds <= {int, float} or kinds == {bool} or kinds == {str}:
        return np.array(values)
    found = np.empty(len(values), object)
    found[:] = values
    return found
