"""The rates of steps: as Optimizer.table, but what doesn't change is kept from call to call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import _core, schedules
from ..optim import Optimizer

if TYPE_CHECKING:
    from .trainer import Trainer

_AHEAD = 64  # steps whose rates are computed at once
_LR = _core.RATE_FIELDS.index("lr")


class StepRates:
    """Keeps the rates of the next steps for as long as the optimizer's rates and schedules are the same."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._schedules = optimizer.lr_schedules()
        self._rates = dict(optimizer.rates)
        self._groups = [dict(g["rates"]) for g in optimizer.groups]
        self._fixed = all(map(schedules.fixed, self._schedules))
        own_table = type(optimizer).table is not Optimizer.table  # it may give each step another momentum
        self._constant = not own_table and all(type(s) is schedules.Constant for s in self._schedules)
        self._first, self._rows = 0, np.empty((0, 0, 0))

    def of(self, optimizer: Optimizer) -> bool:
        """Tell whether these are the rates of an optimizer as it is now."""
        return (
            optimizer is self._optimizer
            and optimizer.rates == self._rates
            and optimizer.lr_schedules() == self._schedules
            and (not optimizer.groups or [g["rates"] for g in optimizer.groups] == self._groups)
        )

    def row(self, step: int) -> np.ndarray:
        """Return the rates of one update: (groups, fields)."""
        if not self._fixed:
            return self._asked(step)
        ahead = step - self._first
        if not 0 <= ahead < len(self._rows):
            ahead, self._first, self._rows = 0, step, self._table(step)
        return self._rows[ahead]

    def rows(self, first: int, steps: int) -> np.ndarray:
        """Return the rates of `steps` updates from update number `first` on: (steps, groups, fields)."""
        if not self._constant:
            return self._optimizer.table(first, steps)
        if len(self._rows) < steps:
            self._first, self._rows = first, self._optimizer.table(first, steps)
        return self._rows[:steps]

    def _table(self, step: int) -> np.ndarray:
        try:
            return self._optimizer.table(step, _AHEAD)
        except ValueError:  # a rate out of range is an error at its own step, not before
            return self._optimizer.table(step, 1)

    def _asked(self, step: int) -> np.ndarray:
        """Ask functions of one's own, which need not give the same twice."""
        if not len(self._rows):
            self._rows = self._optimizer.table(step, 1)
            return self._rows[0]
        row = self._rows[0].copy()
        for g in range(len(row)):
            row[g, _LR] = self._optimizer.lr_at(step, g)
        return row


def current_rates(trainer: Trainer) -> StepRates:
    """Return the rates of the trainer's optimizer as it is now."""
    if not trainer._step_rates.of(trainer.optimizer):
        trainer._step_rates = StepRates(trainer.optimizer)
    return trainer._step_rates
