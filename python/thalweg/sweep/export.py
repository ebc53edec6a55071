"""Results of a sweep as files."""

from __future__ import annotations

import csv
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .result import SweepResult, SweepRun


def to_csv(result: SweepResult, path: str | os.PathLike[str]) -> None:
    """Write a row for each run; empty where there is no value."""
    columns = ["run", *result.names, "status", "updates", "seconds", *_figures(result), "error"]
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: "" if v is None else v for k, v in _row(result, run).items()} for run in result.runs)


def to_jsonl(result: SweepResult, path: str | os.PathLike[str]) -> None:
    """Write a line of JSON for each run, null where there is no value."""
    with Path(path).open("w", encoding="utf-8") as file:
        for run in result.runs:
            history = {name: [_finite(v) for v in values.tolist()] for name, values in run.history.items()}
            file.write(json.dumps({**_row(result, run), "history": history}, default=str, allow_nan=False) + "\n")


def _figures(result: SweepResult) -> list[str]:
    """A setting has the place of a figure of its name: lr."""
    return [name for name in result.columns if name not in result.names]


def _row(result: SweepResult, run: SweepRun) -> dict[str, Any]:
    ends = {"status": run.status, "updates": run.updates, "seconds": run.seconds, "error": run.error}
    figures = {name: _finite(run.figure(name)) for name in _figures(result)}
    return {"run": run.index, **{k: _finite(v) for k, v in run.settings.items()}, **ends, **figures}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
