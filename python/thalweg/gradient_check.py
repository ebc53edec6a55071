"""Checks derivatives against central differences in float64.

Every element of every argument is moved by h either way (or all at once along random directions, for big networks). The
relative error is abs(a - n) / max(abs(a), abs(n), floor). An element where the slopes on both sides differ stands on a
kink, such as that of relu at 0, and is skipped. Source: Goodfellow, Bengio & Courville 2016, section 11.5.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import ops, transforms, tree
from .nn.functional import functional_call
from .nn.module import Module
from .ops.axes import integer, number
from .symbolic import Recording, recording
from .trainer import Trainer
from .trainer.record import initial_parameters


class GradientError(AssertionError):
    """A derivative differs from its central difference."""


@dataclass(frozen=True)
class GradReport:
    """What a check found. error: the worst relative error, at element `index` of `tensor`, where `analytic` should be
    `numeric`; checked and skipped: numbers of elements or directions."""

    error: float
    tensor: str
    index: tuple[int, ...]
    analytic: float
    numeric: float
    checked: int
    skipped: int

    def __str__(self) -> str:
        place = f"{self.tensor}[{', '.join(map(str, self.index))}]" if self.index else self.tensor
        return (
            f"relative error {self.error:.3g} at {place}: {self.analytic:.12g}, by differences {self.numeric:.12g} "
            f"({self.checked} checked, {self.skipped} on kinks skipped)"
        )


def gradcheck(
    target: Any,
    args: Any,
    *,
    h: float = 1e-6,
    tolerance: float = 1e-5,
    floor: float = 1e-4,
    directions: int | None = None,
    seed: int = 0,
) -> GradReport:
    """Compare the gradient of a function, a network, or a trainer's step with central differences.

    target: a function of arrays (args are its arguments, in a tuple or list, or one bare array; those of integers
    aren't moved); an nn.Module (args are its
    inputs; its parameters are drawn with `seed` and checked as well, in training mode with a fixed dropout mask); or a
    float64 Trainer (args are (x, y); checked is the gradient of one batch, on all its ranks, at its parameters).
    directions: how many random directions to check instead of every element; by default 10 for more than 2,000
    elements. floor: relative to the greatest gradient. Results that are no scalars are summed with fixed random
    weights. A gradient that is NaN is wrong.
    Returns: a report. Raises: GradientError above the tolerance, naming the worst tensor and index; TypeError for
    another target; ValueError for h, tolerance or floor that is not above 0, a trainer that is not in float64, or if
    all elements stand on kinks.
    """
    for name, value in (("h", h), ("tolerance", tolerance), ("floor", floor)):
        number(value, "gradcheck", name, 0, open_low=True)
    problem = _problem(target, transforms.as_arguments(args)[0], integer(seed, "gradcheck", "seed", 0))
    if directions is None:
        directions = 10 if problem.size > 2000 else 0
    directions = integer(directions, "gradcheck", "directions", 0)
    tests = _along(problem, directions, seed, h) if directions else _elements(problem, h)
    report = _judge(tests, floor * max(problem.scale(bool(directions)), 1e-6), tolerance)
    if not report.error <= tolerance:
        raise GradientError(f"[gradcheck] {report}")
    return report


@dataclass
class _Slope:
    """A derivative by formula, and those by differences: central, to the right, to the left."""

    tensor: str
    index: tuple[int, ...]
    analytic: float
    central: float
    right: float
    left: float


class _Problem:
    """A scalar function of named float64 arrays, and its gradient."""

    def __init__(
        self, f: Callable[..., Any], args: tuple[Any, ...], seed: int, names: Sequence[str] | None = None
    ) -> None:
        self.program = transforms.trace(_weighted(f, seed), *args)
        self.values = [np.array(a, np.float64) for a in self.program.arrays]
        self.names = list(names or (f"argument {i}" for i in range(len(self.values))))
        self.program.arrays = self.values
        self.gradients = [np.asarray(g) for g in self.program.gradient()]

    @property
    def size(self) -> int:
        return sum(v.size for v in self.values)

    def value(self) -> float:
        return float(self.program.value()[0])

    def scale(self, along: bool) -> float:
        """The greatest gradient element that is finite, or the norm of these for checks along directions."""
        finite = [g[np.isfinite(g)] for g in self.gradients]
        if along:
            return float(np.sqrt(sum(float((g * g).sum()) for g in finite)))
        return max((float(np.abs(g).max()) for g in finite if g.size), default=0.0)


def _problem(target: Any, args: tuple[Any, ...], seed: int) -> _Problem:
    if isinstance(target, Module):
        return _network(target, args, seed)
    if isinstance(target, Trainer):
        return _step(target, args)
    if not callable(target):
        raise TypeError(f"[gradcheck] {target!r} is no function, nn.Module or Trainer")
    return _Problem(target, tree.map_leaves(_as_double, args), seed)


def _network(net: Module, args: tuple[Any, ...], seed: int) -> _Problem:
    inputs = tuple(_as_double(a) for a in args)
    r = Recording(train=True, session=True)
    r.bind(net)
    with recording(r):
        net(*(r.input(f"x{i}", a.shape) for i, a in enumerate(inputs)))
    parameters = initial_parameters(r, "float64", seed)
    names = [*parameters, *(f"x{i}" if i else "x" for i in range(len(inputs)))]
    return _Problem(lambda p, *xs: functional_call(net, p, xs, seed=seed), (parameters, *inputs), seed, names)


def _step(trainer: Trainer, args: tuple[Any, ...]) -> _Problem:
    if trainer.dtype != "float64":
        raise ValueError(f"[gradcheck] the trainer runs in {trainer.dtype}, expected float64")
    gradients = trainer.gradients(*args)
    loss, parameters = trainer.batch_loss(*args)
    problem = _Problem(loss, (parameters,), 0, list(parameters))
    problem.gradients = [gradients[name] for name in parameters]
    return problem


def _elements(problem: _Problem, h: float) -> list[_Slope]:
    """Move every element alone."""
    middle, slopes = problem.value(), []
    for name, value, gradient in zip(problem.names, problem.values, problem.gradients, strict=True):
        for index in np.ndindex(value.shape):
            kept = value[index]
            step = h * max(1.0, abs(kept))
            value[index] = kept + step
            up = problem.value()
            value[index] = kept - step
            down = problem.value()
            value[index] = kept
            slopes.append(_slope(name, index, float(gradient[index]), up, middle, down, step))
    return slopes


def _along(problem: _Problem, directions: int, seed: int, h: float) -> list[_Slope]:
    """Move all elements along random unit vectors."""
    random, middle, slopes = np.random.default_rng(seed), problem.value(), []
    start = [v.copy() for v in problem.values]
    for k in range(directions):
        direction = [random.standard_normal(v.shape) for v in start]
        norm = np.sqrt(sum(float((d * d).sum()) for d in direction))
        ends = []
        for sign in (1, -1):
            for value, kept, d in zip(problem.values, start, direction, strict=True):
                value[...] = kept + sign * h / norm * d
            ends.append(problem.value())
        analytic = sum(float((g * d).sum()) for g, d in zip(problem.gradients, direction, strict=True)) / norm
        slopes.append(_slope(f"direction {k}", (), analytic, ends[0], middle, ends[1], h))
    for value, kept in zip(problem.values, start, strict=True):
        value[...] = kept
    return slopes


def _slope(name: str, at: tuple[int, ...], analytic: float, up: float, middle: float, down: float, h: float) -> _Slope:
    return _Slope(name, at, analytic, (up - down) / (2 * h), (up - middle) / h, (middle - down) / h)


def _judge(slopes: list[_Slope], floor: float, tolerance: float) -> GradReport:
    worst, checked = GradReport(-1.0, "", (), 0.0, 0.0, 0, 0), 0
    for s in slopes:
        error = _relative(s.analytic, s.central, floor)
        slopes_differ = math.isfinite(s.analytic + s.right + s.left) and _relative(s.right, s.left, floor) > 1e-3
        if error > tolerance and slopes_differ:
            continue  # a kink
        checked += 1
        if error > worst.error:
            worst = GradReport(error, s.tensor, s.index, s.analytic, s.central, 0, 0)
    if not checked:
        raise ValueError("[gradcheck] nothing could be checked: there are no elements, or all stand on kinks")
    return GradReport(
        worst.error, worst.tensor, worst.index, worst.analytic, worst.numeric, checked, len(slopes) - checked
    )


def _relative(a: float, b: float, floor: float) -> float:
    """The relative difference; infinite where a or b is no number."""
    error = abs(a - b) / max(abs(a), abs(b), floor)
    return math.inf if math.isnan(error) else error


def _weighted(f: Callable[..., Any], seed: int) -> Callable[..., Any]:
    """Return f as a scalar: its results summed with fixed random weights."""

    @functools.wraps(f)
    def scalar(*args: Any) -> Any:
        random, parts = np.random.default_rng(seed), []
        for leaf in tree.flatten(f(*args))[0]:
            shape = np.shape(leaf) if isinstance(leaf, np.ndarray) else leaf.shape
            parts.append(leaf if shape == () else ops.sum(leaf * random.uniform(0.5, 1.5, shape)))
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    return scalar


def _as_double(leaf: Any) -> Any:
    array = np.asarray(leaf)
    return array if array.dtype.kind in "iub" and not isinstance(leaf, (int, bool)) else array.astype(np.float64)
