"""Learning rates as functions of the step: how many updates were done before (0 for the first).

A schedule is any function step -> learning rate. Those here are classes, so that a checkpoint can hold them. Step
counts are updates, not epochs: trainer.steps_per_epoch(n, batch_size) helps. All raise TypeError for what is no number,
ValueError for one that is not finite or out of range.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from . import _core
from .nn.module import Module
from .ops.axes import integer, is_number, number


class Schedule:
    """A built-in schedule; call it with a step. The formulas are the engine's (cpp/formula/schedule.h)."""

    def __call__(self, step: int) -> float:
        return float(self.at(np.array([step], np.float64))[0])

    def at(self, steps: np.ndarray) -> np.ndarray:
        """Return the learning rates of an array of steps (float64)."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Return the schedule as data that build takes."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        plain = {k: v.describe() if isinstance(v, Schedule) else v for k, v in values.items()}
        if any(callable(v) for v in plain.values()):
            raise TypeError(f"{type(self).__name__} holds a function of one's own, which can't be described")
        return {"schedule": type(self).__name__, **plain}


@dataclass(frozen=True)
class Constant(Schedule):
    """lr at every step."""

    lr: float

    def __post_init__(self) -> None:
        _take(self, "lr", number, 0)

    def __call__(self, step: int) -> float:
        return self.lr

    def at(self, steps: np.ndarray) -> np.ndarray:
        return np.full_like(steps, self.lr)


@dataclass(frozen=True)
class Step(Schedule):
    """lr gamma^k, k the number of milestones reached: a list (or array) of steps, or every `milestones` steps if it is
    a number."""

    lr: float
    milestones: int | Sequence[int]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        _take(self, "lr", number, 0)
        _take(self, "gamma", number, 0)
        if isinstance(self.milestones, (tuple, list)) or np.ndim(self.milestones) == 1:
            steps = [integer(m, "Step", "a milestone", 0) for m in self.milestones]  # type: ignore[union-attr]
            object.__setattr__(self, "milestones", steps)
        else:
            _take(self, "milestones", integer, 1)

    def at(self, steps: np.ndarray) -> np.ndarray:
        if isinstance(self.milestones, int):
            return self.lr * _factor("step_factor", steps, self.milestones, self.gamma)
        reached = np.searchsorted(np.sort(np.asarray(self.milestones, np.float64)), steps, side="right")
        return self.lr * _factor("step_factor", reached.astype(np.float64), 1, self.gamma)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from lr to lr_min over `steps` updates, then lr_min. Source: Loshchilov & Hutter,
    arXiv:1608.03983."""

    lr: float
    steps: int
    lr_min: float = 0.0

    def __post_init__(self) -> None:
        _take(self, "lr", number, 0)
        _take(self, "steps", integer, 1)
        _take(self, "lr_min", number, 0)

    def at(self, steps: np.ndarray) -> np.ndarray:
        return self.lr_min + (self.lr - self.lr_min) * _factor("cosine_factor", steps, self.steps, 0)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from lr/div to lr over the first `warm` part of `steps`, down to lr/(div final_div), both by half cosines.

    Source: Smith & Topin, arXiv:1708.07120; the defaults are torch's OneCycleLR's.
    """

    lr: float
    steps: int
    warm: float = 0.3
    div: float = 25.0
    final_div: float = 1e4

    def __post_init__(self) -> None:
        _take(self, "lr", number, 0)
        _take(self, "steps", integer, 2)
        _take(self, "warm", number, 0, 1, open_low=True, open_high=True)
        _take(self, "div", number, 0, open_low=True)
        _take(self, "final_div", number, 0, open_low=True)

    def at(self, steps: np.ndarray) -> np.ndarray:
        rise = self.warm * self.steps - 1
        return self.lr * _factor("one_cycle_factor", steps, self.steps - 1, rise, self.div, self.final_div)


@dataclass(frozen=True)
class WarmUp(Schedule):
    """Up in a straight line over the first `steps` updates, then a schedule (which counts from the first step on)."""

    then: Any
    steps: int
    start: float = 0.0

    def __post_init__(self) -> None:
        _take(self, "steps", integer, 1)
        _take(self, "start", number, 0)
        object.__setattr__(self, "then", as_schedule(self.then))

    def at(self, steps: np.ndarray) -> np.ndarray:
        then = values(self.then, steps)
        return (self.start + (1 - self.start) * _factor("warmup_factor", steps, self.steps)) * then


@dataclass(frozen=True)
class InverseTime(Schedule):
    """lr c / (c + step). Source: Robbins & Monro 1951; Bottou 2012."""

    lr: float
    c: float

    def __post_init__(self) -> None:
        _take(self, "lr", number, 0)
        _take(self, "c", number, 0, open_low=True)

    def at(self, steps: np.ndarray) -> np.ndarray:
        return self.lr * _factor("inverse_time_factor", steps, self.c)


_SCHEDULES: dict[str, type[Schedule]] = {c.__name__: c for c in (Constant, Step, Cosine, OneCycle, WarmUp, InverseTime)}


def as_schedule(lr: Any) -> Callable[[int], float]:
    """Return a schedule for a number, a schedule or a function of the step.

    Raises: TypeError for anything else; ValueError for a number that is negative or not finite.
    """
    if is_number(lr):
        return Constant(number(lr, "optim", "lr", 0))
    if not callable(lr) or isinstance(lr, (Module, type)):
        hint = " (a class: add parentheses)" if isinstance(lr, type) else ""
        raise TypeError(f"[optim] lr is {lr!r}{hint}, expected a number, a schedule, or a function of the step")
    return lr  # type: ignore[no-any-return]


def build(description: dict[str, Any]) -> Schedule:
    """Make a schedule from its description; ValueError for an unknown one."""
    cls = _SCHEDULES.get(str(description.get("schedule")))
    if cls is None:
        raise ValueError(
            f"[schedules] unknown schedule {description.get('schedule')!r}, expected {', '.join(_SCHEDULES)}"
        )
    options = {k: build(v) if isinstance(v, dict) else v for k, v in description.items() if k != "schedule"}
    unknown = set(options) - {f.name for f in fields(cls)}  # type: ignore[arg-type]
    if unknown:
        raise ValueError(f"[schedules] {cls.__name__} has no argument {sorted(unknown)[0]!r}")
    return cls(**options)


def values(schedule: Callable[[int], float], steps: np.ndarray) -> np.ndarray:
    """Return what a schedule, or a function of the step, gives at an array of steps."""
    if isinstance(schedule, Schedule):
        return schedule.at(steps)
    return np.array([schedule(int(t)) for t in steps], np.float64)


def fixed(schedule: Callable[[int], float]) -> bool:
    """Tell whether the rate of a step is always the same: so for the schedules of this module without functions of
    one's own."""
    if isinstance(schedule, WarmUp):
        return type(schedule) is WarmUp and fixed(schedule.then)
    return type(schedule) in _SCHEDULES.values()


def _factor(formula: str, steps: np.ndarray, *constants: float) -> np.ndarray:
    return _core.formula(formula, steps, *(np.full_like(steps, c) for c in constants))


def _take(schedule: Schedule, name: str, check: Callable[..., Any], *bounds: float, **options: bool) -> None:
    """Replace a field by the number that the check makes of it."""
    value = check(getattr(schedule, name), type(schedule).__name__, name, *bounds, **options)
    object.__setattr__(schedule, name, value)
