"""Callbacks that watch a logged quantity, and decide by it."""

from __future__ import annotations

import math
from typing import Any

from ..ops.axes import integer, number
from ..schedules import as_schedule
from .base import Callback, direction, logged, say


class EarlyStopping(Callback):
    """Stop when a logged quantity has not improved by more than min_delta for `patience` epochs in a row.

    mode: "min", "max", or "auto" (max for names with "acc"). baseline: what has to be improved on at first.
    restore_best_weights: at the end the best epoch's parameters and buffers come back; checkpoints keep them until
    then. start_from_epoch: epochs before it are not looked at. verbose=1 prints a line when it stops.
    Raises: TypeError, ValueError for arguments out of range; ValueError when the quantity is not logged.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        where = "EarlyStopping"
        self.monitor, self.min_delta = monitor, abs(number(min_delta, where, "min_delta", None, None))
        self.patience = integer(patience, where, "patience", 0)
        self.start_from_epoch = integer(start_from_epoch, where, "start_from_epoch", 0)
        self.sign = direction(mode, monitor, where)
        self.baseline = None if baseline is None else number(baseline, where, "baseline", None, None)
        self.verbose, self.restore_best_weights = verbose, restore_best_weights
        self.reset()

    def reset(self) -> None:
        self.best = -math.inf if self.baseline is None else self.sign * self.baseline
        self.wait, self.best_epoch, self.stopped_epoch = 0, -1, -1
        self._weights: dict[str, Any] | None = None

    @property
    def _patient(self) -> bool:
        return self.wait < max(self.patience, 1)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not self._patient:  # decided before the training was interrupted
            self.stopped_epoch = self.trainer.epoch - 1
            self.trainer.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if epoch < self.start_from_epoch:
            return
        value = self.sign * logged(logs, self.monitor, "EarlyStopping")
        if value > self.best + self.min_delta:
            self.best, self.wait, self.best_epoch = value, 0, epoch
            if self.restore_best_weights:
                self._weights = {"parameters": self.trainer.parameters(), "buffers": self.trainer.buffers()}
            return
        self.wait += 1
        if not self._patient:
            self.stopped_epoch = epoch
            self.trainer.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.stopped_epoch >= 0 and self.verbose and not self._patient:
            say(f"epoch {self.stopped_epoch + 1}: early stopping, the best {self.monitor} was in epoch "
                f"{self.best_epoch + 1}")  # fmt: skip
        if self._weights is not None:
            self.trainer.set_parameters(self._weights["parameters"])
            self.trainer.set_buffers(self._weights["buffers"])
        if not self._patient:
            self.wait = 0  # this training is over: fit called again is the next

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "wait": self.wait, "best_epoch": self.best_epoch, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.wait, self.best_epoch = float(state["best"]), int(state["wait"]), int(state["best_epoch"])
        self._weights = state.get("weights") if self.restore_best_weights else None


class ReduceLROnPlateau(Callback):
    """Multiply the learning rate by `factor` when a logged quantity has stopped improving.

    Better is better by more than min_delta times the best value's size. After more than `patience` epochs in a row
    that are not, lr becomes max(lr factor, min_lr), in groups with a rate of their own too; then `cooldown` epochs
    don't count. mode as EarlyStopping. verbose=1 prints a line at every change. The loss of an epoch, monitor="loss",
    is the mean over the global batches; every rank has the same.
    Raises: TypeError, ValueError for arguments out of range, for a learning rate that is no number but a schedule, or
    when the quantity is not logged.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        where = "ReduceLROnPlateau"
        self.monitor, self.verbose = monitor, verbose
        self.factor = number(factor, where, "factor", 0, None)
        if self.factor >= 1:
            raise ValueError(f"[{where}] factor is {factor}, expected a number in [0, 1)")
        self.patience = integer(patience, where, "patience", 0)
        self.cooldown = integer(cooldown, where, "cooldown", 0)
        self.min_delta = number(min_delta, where, "min_delta", 0, None)
        self.min_lr = number(min_lr, where, "min_lr", 0, None)
        self.sign = direction(mode, monitor, where)
        self.reset()

    def reset(self) -> None:
        self.best, self.wait, self.cooldown_left = -math.inf, 0, 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        lr = self.trainer.optimizer.lr
        if isinstance(lr, bool) or not isinstance(lr, (int, float)):
            raise TypeError(f"[ReduceLROnPlateau] the optimizer's lr is {lr!r}, expected a number: give it no schedule")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        value = self.sign * logged(logs, self.monitor, "ReduceLROnPlateau")
        if self.best == -math.inf or value > self.best + self.min_delta * abs(self.best):
            self.best, self.wait = value, 0
        else:
            self.wait += 1
        if self.cooldown_left:
            self.cooldown_left, self.wait = self.cooldown_left - 1, 0
        if self.wait > self.patience:
            self.wait, self.cooldown_left = 0, self.cooldown
            self._reduce(epoch)

    def _reduce(self, epoch: int) -> None:
        optimizer = self.trainer.optimizer
        before = optimizer.lr
        optimizer.lr = min(before, max(before * self.factor, self.min_lr))
        for group in optimizer.groups:
            lr = group.get("lr")
            if isinstance(lr, (int, float)):
                group["lr"] = min(lr, max(lr * self.factor, self.min_lr))
                group["schedule"] = as_schedule(group["lr"])
        if self.verbose and optimizer.lr != before:
            say(f"epoch {epoch + 1}: lr {before:.3g} -> {optimizer.lr:.3g}, {self.monitor} has stopped improving")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "wait": self.wait, "cooldown_left": self.cooldown_left}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.wait = float(state["best"]), int(state["wait"])
        self.cooldown_left = int(state["cooldown_left"])


class TerminateOnNaN(Callback):
    """End fit without an exception when a step is not finite; the trainer keeps the state of the last good step."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            self.trainer.stop_training = True
