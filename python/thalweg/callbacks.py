"""Callbacks of Trainer.fit, under Keras's names.

Hooks are called between steps, on the thread that called fit. An exception in one ends fit at that step's edge, with
the trainer whole: fit called again goes on from there. Overriding a batch hook lets every step return to Python.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .trainer import Trainer


class Callback:
    """Does nothing at each point of a training; subclasses override hooks. `self.trainer` is the trainer."""

    trainer: Trainer
    params: dict[str, Any]

    def set_trainer(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def set_params(self, params: dict[str, Any]) -> None:
        """Take the call's arguments: epochs, steps (an epoch), verbose."""
        self.params = params

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None: ...
    def on_train_end(self, logs: dict[str, Any] | None = None) -> None: ...
    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None: ...
    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None: ...
    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None: ...
    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None: ...

    def on_train_interrupted(self, error: BaseException) -> None:
        """Called instead of on_train_end when fit ends by an exception, Ctrl-C included."""

    def on_progress(self, batch: int, batches: int, logs: dict[str, Any]) -> None:
        """Called about ten times a second: `batch` of the epoch's `batches` are done, logs is the last step's report.

        Look and draw only: the trainer can't be asked for anything while its steps run. An exception ends fit.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of this callback."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what a checkpoint kept."""

    @property
    def stop_every(self) -> int:
        """Let the batch hooks be called after every so many updates; 0 means only if a batch hook is overridden."""
        hooks = ("on_train_batch_begin", "on_train_batch_end")
        return int(any(getattr(type(self), hook) is not getattr(Callback, hook) for hook in hooks))


class LambdaCallback(Callback):
    """Hooks given as functions: LambdaCallback(on_epoch_end=lambda epoch, logs: ...).

    Raises: TypeError for a name that is no hook.
    """

    def __init__(self, **hooks: Callable[..., Any]) -> None:
        for name, hook in hooks.items():
            if not name.startswith("on_") or not hasattr(Callback, name):
                raise TypeError(f"[LambdaCallback] {name!r} is no hook")
            setattr(self, name, hook)
        self._every = int(any("batch" in name for name in hooks))

    @property
    def stop_every(self) -> int:
        return self._every


class EarlyStopping(Callback):
    """Stop when a logged quantity has not improved by more than min_delta for `patience` epochs in a row.

    mode: "min", "max", or "auto" (max for names with "acc"). restore_best_weights: at the end the best epoch's
    parameters and buffers come back. Raises: ValueError when the quantity is not logged.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
    ) -> None:
        self.monitor, self.min_delta, self.patience = monitor, abs(min_delta), patience
        self.sign = _sign(mode, monitor, "EarlyStopping")
        self.baseline, self.restore_best_weights = baseline, restore_best_weights
        self.best, self.wait, self.best_epoch, self.stopped_epoch = -math.inf, 0, -1, -1
        self._weights: tuple[Any, Any] | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self.baseline is not None and self.best == -math.inf:
            self.best = self.sign * self.baseline

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        value = self.sign * _logged(logs, self.monitor, "EarlyStopping")
        if value > self.best + self.min_delta:
            self.best, self.wait, self.best_epoch = value, 0, epoch
            if self.restore_best_weights:
                self._weights = (self.trainer.parameters(), self.trainer.buffers())
            return
        self.wait += 1
        if self.wait >= max(self.patience, 1):
            self.stopped_epoch = epoch
            self.trainer.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._weights is not None:
            self.trainer.set_parameters(self._weights[0])
            self.trainer.set_buffers(self._weights[1])

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "wait": self.wait, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.wait, self.best_epoch = float(state["best"]), int(state["wait"]), int(state["best_epoch"])


class ModelCheckpoint(Callback):
    """Save the trainer after every epoch (save_freq="epoch") or every save_freq updates, into one folder.

    save_best_only: only when the monitored quantity is better than at all saves before. mode as EarlyStopping.
    Raises: ValueError for another save_freq or a quantity that is not logged; what Trainer.save raises.
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
        if save_freq != "epoch" and (isinstance(save_freq, (str, bool)) or save_freq < 1):
            raise ValueError(f"[ModelCheckpoint] save_freq is {save_freq!r}, expected 'epoch' or a number of updates")
        if save_best_only and save_freq != "epoch":
            raise ValueError("[ModelCheckpoint] save_best_only needs save_freq='epoch'")
        self.filepath, self.monitor, self.save_best_only, self.save_freq = filepath, monitor, save_best_only, save_freq
        self.sign = _sign(mode, monitor, "ModelCheckpoint")
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
            value = self.sign * _logged(logs, self.monitor, "ModelCheckpoint")
            if not value > self.best:
                return
            self.best = value
        self.trainer.save(self.filepath)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = float(state["best"])


class LearningRateScheduler(Callback):
    """Set the learning rate at the start of every epoch: schedule(epoch, lr) -> lr (or schedule(epoch))."""

    def __init__(self, schedule: Callable[..., float]) -> None:
        self.schedule = schedule

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        lr = self.trainer.optimizer.lr_at(self.trainer.t)
        try:
            new = self.schedule(epoch, lr)
        except TypeError:
            new = self.schedule(epoch)
        self.trainer.optimizer.lr = float(new)


class CSVLogger(Callback):
    """Write the logs of every epoch as a row of a table; append=True keeps the rows that are there."""

    def __init__(self, filename: Any, separator: str = ",", append: bool = False) -> None:
        self.path, self.separator, self.append = Path(filename), separator, append
        self._columns: Sequence[str] = ()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._columns = ()
        if self.append and self.path.exists() and self.path.stat().st_size:
            with self.path.open(newline="", encoding="utf-8") as file:
                self._columns = next(csv.reader(file, delimiter=self.separator))
        else:
            self.path.write_text("", encoding="utf-8")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
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


class TerminateOnNaN(Callback):
    """End fit without an exception when a step is not finite; the trainer keeps the state of the last good step."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            self.trainer.stop_training = True


class Progress(Callback):
    """Show a bar on a terminal, and a line for each epoch everywhere."""

    def __init__(self) -> None:
        from .console import Screen

        self._screen = Screen()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._screen.start_epoch(epoch + 1, self.params["epochs"], self.params["steps"])

    def on_progress(self, batch: int, batches: int, logs: dict[str, Any]) -> None:
        self._screen.advance(batch, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        from .console import progress_text

        self._screen.end_epoch()
        self._screen.line(f"epoch {epoch + 1:>3}/{self.params['epochs']}  {progress_text(logs or {})}")

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._screen.end_epoch()

    def on_train_interrupted(self, error: BaseException) -> None:
        self._screen.end_epoch()


def _sign(mode: str, monitor: str, where: str) -> float:
    if mode not in ("auto", "min", "max"):
        raise ValueError(f"[{where}] mode is {mode!r}, expected 'auto', 'min' or 'max'")
    return 1.0 if mode == "max" or (mode == "auto" and "acc" in monitor) else -1.0


def _logged(logs: dict[str, Any] | None, name: str, where: str) -> float:
    if name not in (logs or {}):
        raise ValueError(f"[{where}] {name!r} is not logged; logged are {', '.join(logs or {})}")
    return float(logs[name])  # type: ignore[index]


__all__ = [
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "Progress",
    "TerminateOnNaN",
]
