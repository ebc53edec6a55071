"""Callbacks that set the learning rate at the edges of epochs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from .base import Callback


class LearningRateScheduler(Callback):
    """Set the learning rate at the start of every epoch: schedule(epoch, lr) -> lr (or schedule(epoch)).

    Each epoch is asked for once: one that was interrupted and goes on keeps the rate that it was given.
    Raises: TypeError for a schedule that is no function of one or two arguments.
    """

    def __init__(self, schedule: Callable[..., float]) -> None:
        self._arguments = _arguments(schedule)
        self.schedule = schedule
        self.reset()

    def reset(self) -> None:
        self._epoch, self._lr = -1, 0.0  # what was asked for last, and the answer

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        optimizer = self.trainer.optimizer
        if epoch != self._epoch:
            lr = optimizer.lr_at(self.trainer.t)
            self._lr, self._epoch = float(self.schedule(*(epoch, lr)[: self._arguments])), epoch
        optimizer.lr = self._lr

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "lr": self._lr}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:  # earlier versions kept nothing
            self._epoch, self._lr = int(state["epoch"]), float(state["lr"])


def _arguments(schedule: Any) -> int:
    """Return how many of (epoch, lr) a schedule takes."""
    if not callable(schedule):
        raise TypeError(f"[LearningRateScheduler] schedule is {schedule!r}, expected a function (epoch, lr)")
    try:
        signature = inspect.signature(schedule)
    except ValueError:  # a built-in function that doesn't say
        return 2
    for count in (2, 1):
        try:
            signature.bind(*range(count))
            return count
        except TypeError:
            continue
    raise TypeError(f"[LearningRateScheduler] schedule takes {signature}, expected (epoch, lr) or (epoch)")
