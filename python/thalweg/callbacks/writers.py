"""Callbacks that write: checkpoints, a table, the progress on the screen."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import parallel
from ..ops.axes import integer
from .base import Callback, direction, logged


class ModelCheckpoint(Callback):
    """Save the trainer after every epoch (save_freq="epoch") or every save_freq updates, into one folder, and when
    SIGTERM ends the program.

    save_best_only: only when the monitored quantity is better than at all saves before. mode as EarlyStopping.
    Raises: TypeError, ValueError for another save_freq; ValueError for a quantity that is not logged; what Trainer.save
    raises.
    """

    def __init__(
        self,
        filepath: Any,
        monitor: str = "val_loss",
        *,
        save_best_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
    ) -> None:
        if save_freq != "epoch":
            if isinstance(save_freq, str):
                raise ValueError(f"[ModelCheckpoint] save_freq is {save_freq!r}, expected 'epoch' or a whole number")
            save_freq = integer(save_freq, "ModelCheckpoint", "save_freq", 1)
        if save_best_only and save_freq != "epoch":
            raise ValueError("[ModelCheckpoint] save_best_only needs save_freq='epoch'")
        self.filepath, self.monitor, self.save_best_only, self.save_freq = filepath, monitor, save_best_only, save_freq
        self.sign = direction(mode, monitor, "ModelCheckpoint")
        self.reset()

    def reset(self) -> None:
        self.best = -math.inf

    @property
    def stop_every(self) -> int:
        return 0 if self.save_freq == "epoch" else int(self.save_freq)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.stop_every and self.trainer.t % self.stop_every == 0:
            self.trainer.save(self.filepath)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.save_freq != "epoch":
            return
        if self.save_best_only:
            value = self.sign * logged(logs, self.monitor, "ModelCheckpoint")
            if not value > self.best:
                return
            self.best = value
        self.trainer.save(self.filepath)

    def on_train_interrupted(self, error: BaseException) -> None:
        from ..trainer.run import Preempted

        if isinstance(error, Preempted):
            self.trainer.save(self.filepath)
            error.saved()

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = float(state["best"])


class CSVLogger(Callback):
    """Write the logs of every epoch as a row of a table; append=True keeps the rows that are there.

    Of ranks that are processes only rank 0 writes.
    """

    looks_only = True

    def __init__(self, filename: Any, separator: str = ",", append: bool = False) -> None:
        self.path, self.separator, self.append = Path(filename), separator, append
        self._columns: Sequence[str] = ()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._columns = ()
        if parallel.rank() > 0:
            return
        if self.append and self.path.exists() and self.path.stat().st_size:
            with self.path.open(newline="", encoding="utf-8") as file:
                self._columns = next(csv.reader(file, delimiter=self.separator))
        else:
            self.path.write_text("", encoding="utf-8")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if parallel.rank() > 0:
            return
        row = {"epoch": epoch, **(logs or {})}
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(
                file,
                self._columns or list(row),
                delimiter=self.separator,
                extrasaction="ignore",
                restval="",
                lineterminator="\n",
            )
            if not self._columns:
                self._columns = list(row)
                writer.writeheader()
            writer.writerow(row)


class Progress(Callback):
    """Show a bar on a terminal, and a line for each epoch everywhere."""

    looks_only = True

    def __init__(self) -> None:
        from ..console import Screen

        self._screen = Screen()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        images = all(len(spec.shape) == 3 for spec in self.trainer._data_spec.inputs)
        self._screen.rows = "images" if images else "samples"

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._screen.start_epoch(epoch + 1, self.params["epochs"], self.params["steps"])

    def on_progress(self, batch: int, batches: int, logs: dict[str, Any]) -> None:
        self._screen.advance(batch, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._screen.end_epoch()
        waits = self.trainer.history.waits
        text = [self._screen.progress(logs or {}), waits.line() if waits else ""]
        self._screen.line(f"epoch {epoch + 1:>3}/{self.params['epochs']}  {'  '.join(filter(None, text))}")

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._screen.end_epoch()

    def on_train_interrupted(self, error: BaseException) -> None:
        self._screen.end_epoch()
