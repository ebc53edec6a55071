"""A run folder: the resolved configuration, the metrics as JSON lines and as a table, and the checkpoints.

    runs/digits-cnn/  config.json  metrics.jsonl  metrics.csv  LATEST  step-00000420/
Every checkpoint carries the rows of the metrics up to its step, so that a run that was killed and resumed has one
table without a gap or a row twice.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from . import checkpoint

COLUMNS = (
    "epoch",
    "step",
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "lr",
    "grad_norm",
    "samples_per_second",
    "test_accuracy",
)
Row = dict[str, Any]


class RunExistsError(FileExistsError):
    """A folder that holds a run already."""


class RunFolder:
    """Writes and reads one run's folder. `rows` are the metrics so far, one dictionary for each row."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.rows: list[Row] = []

    def create(self, config: Mapping[str, Any]) -> None:
        """Makes the folder. Raises: RunExistsError; OSError."""
        if (self.path / "config.json").exists() or checkpoint.has_checkpoint(self.path):
            raise RunExistsError(f"{self.path} already holds a run")
        self.path.mkdir(parents=True, exist_ok=True)
        self._write_config(config)
        self._write_rows()

    def resume(self, config: Mapping[str, Any], rows: Iterable[Row]) -> None:
        """Takes the folder over from a run that ended: its leftovers go, its metrics end where its checkpoint does."""
        checkpoint.clean(self.path)
        self.rows = list(rows)
        self._write_config(config)
        self._write_rows()

    def add(self, row: Row) -> None:
        """One more row of metrics, at the end of both files."""
        unknown = set(row) - set(COLUMNS)
        if unknown:
            raise ValueError(f"a row of metrics has the unknown columns {sorted(unknown)}")
        self.rows.append(row)
        self._append("metrics.jsonl", _json_line(row))
        self._append("metrics.csv", _csv_lines([row]))

    def save(self, state: dict[str, Any], config: Mapping[str, Any]) -> Path:
        """A checkpoint of the trainer's state with this run's configuration and metrics in it."""
        meta = {**state["meta"], "run": {"config": dict(config), "rows": self.rows}}
        return checkpoint.save(self.path, {**state, "meta": meta})

    def config(self) -> Any:
        """The content of config.json. Raises: OSError; ValueError where it is no JSON."""
        return json.loads((self.path / "config.json").read_bytes())

    def load(self, *, resume: str = "latest") -> tuple[dict[str, Any], dict[str, Any], list[Row]]:
        """The newest checkpoint: (the trainer's state, the configuration, the rows). Raises: CheckpointError."""
        state = checkpoint.load(self.path, resume=resume)
        run = state["meta"].pop("run", None)
        run = run if isinstance(run, dict) else {}
        if not isinstance(run.get("config"), dict) or not isinstance(run.get("rows"), list):
            raise checkpoint.CheckpointError(f"[checkpoint] {self.path} was not written by `thalweg train`")
        return state, run["config"], run["rows"]

    def _write_config(self, config: Mapping[str, Any]) -> None:
        checkpoint.save_file(self.path / "config.json", (json.dumps(dict(config), indent=1) + "\n").encode())

    def _write_rows(self) -> None:
        checkpoint.save_file(self.path / "metrics.jsonl", "".join(map(_json_line, self.rows)).encode())
        checkpoint.save_file(self.path / "metrics.csv", (",".join(COLUMNS) + "\n" + _csv_lines(self.rows)).encode())

    def _append(self, name: str, text: str) -> None:
        with (self.path / name).open("a", encoding="utf-8", newline="") as file:
            file.write(text)


def new_folder(base: Path) -> Path:
    """Makes and returns `base`, or base-2, base-3, ... : the first that did not exist."""
    path, n = base, 1
    while True:
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            n += 1
            path = base.with_name(f"{base.name}-{n}")


def _json_line(row: Row) -> str:
    def finite(value: Any) -> Any:  # JSON knows no NaN
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps({key: finite(value) for key, value in row.items()}, allow_nan=False) + "\n"


def _csv_lines(rows: list[Row]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n").writerows(rows)
    return text.getvalue()
