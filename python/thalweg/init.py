"""Initialisation: how parameters start.

An initialiser is called as init(shape, dtype, seed, path). Random numbers come from a counter-based generator keyed by
(seed, path of the parameter), so they don't depend on the order of layers, on threads or on ranks. Deviations and
bounds are the engine's (cpp/formula/init.h). All raise TypeError for what is no number, ValueError for one that is not
finite and for a negative deviation.
fan_in of a weight (out, in) is in, of a convolution weight (out, kh, kw, in/groups) kh kw in/groups; fan_out is out,
and kh kw out. The default of Linear and Conv2d is He's normal form, with zero biases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from . import _core
from .ops.axes import number, one_of

_DISTRIBUTIONS = ("constant", "normal", "truncated_normal", "uniform", "normal_fan", "uniform_fan")


@dataclass(frozen=True, repr=False)
class Initializer:
    """One rule. distribution: "constant" (value a), "normal" or "truncated_normal" (mean a, deviation b), "uniform" (a
    to b), or the scaled forms "normal_fan" and "uniform_fan" (variance b / fan, fan "in", "out" or "mean" of both)."""

    distribution: str
    a: float = 0.0
    b: float = 0.0
    fan: str = "in"

    def __post_init__(self) -> None:
        if self.distribution not in _DISTRIBUTIONS:
            raise ValueError(f"[init] unknown distribution {self.distribution!r}")
        one_of(self.fan, "init", "fan", ("in", "out", "mean"))
        least = None if self.distribution == "uniform" else 0  # b is a bound there, else a scale
        object.__setattr__(self, "a", number(self.a, "init", "a"))
        object.__setattr__(self, "b", number(self.b, "init", "b", least))

    def __call__(self, shape: Sequence[int], dtype: str, seed: int, path: str) -> np.ndarray:
        name, a, b = self.drawn(shape)
        if name == "constant":
            return np.full(tuple(shape), a, dtype)
        return _core.fill_random(name, a, b, seed, path, tuple(shape), dtype)

    def drawn(self, shape: Sequence[int]) -> tuple[str, float, float]:
        """Return the rule for one shape as the engine takes it: (distribution, a, b), or ("constant", value, 0)."""
        if self.distribution == "constant":
            return "constant", self.a, 0.0
        return (self.distribution.removesuffix("_fan"), *self._range(shape))

    def _range(self, shape: Sequence[int]) -> tuple[float, float]:
        if not self.distribution.endswith("_fan"):
            return self.a, self.b
        fan_in, fan_out = fans(shape)
        fan = {"in": fan_in, "out": fan_out, "mean": (fan_in + fan_out) / 2}[self.fan]
        std = _formula("scaled_std", self.b, fan)
        if self.distribution == "normal_fan":
            return 0.0, std
        bound = _formula("uniform_bound", std)
        return -bound, bound

    def describe(self) -> dict[str, Any]:
        return asdict(self)

    def __repr__(self) -> str:
        if self.distribution.endswith("_fan"):
            return f"{self.distribution.removesuffix('_fan')}(variance={self.b}/fan_{self.fan})"
        if self.distribution == "constant":
            return f"constant({self.a})"
        names = ("low", "high") if self.distribution == "uniform" else ("mean", "std")
        return f"{self.distribution}({names[0]}={self.a}, {names[1]}={self.b})"


Init = Callable[[Sequence[int], str, int, str], np.ndarray]


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight with outputs first: (out, in) or (out, kh, kw, in/groups)."""
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    return math.prod(shape[1:]), shape[0] * math.prod(shape[1:-1])


def zeros() -> Initializer:
    """Start at 0."""
    return Initializer("constant", 0.0)


def ones() -> Initializer:
    """Start at 1."""
    return Initializer("constant", 1.0)


def constant(value: float) -> Initializer:
    """Start at a value."""
    return Initializer("constant", number(value, "init.constant", "value"))


def normal(std: float = 0.01, mean: float = 0.0) -> Initializer:
    """Draw from N(mean, std^2)."""
    return _normal("normal", std, mean)


def truncated_normal(std: float = 0.01, mean: float = 0.0) -> Initializer:
    """Draw from N(mean, std^2), again where it is further than 2 std from the mean: the deviation is 0.88 std then."""
    return _normal("truncated_normal", std, mean)


def uniform(low: float = -0.05, high: float = 0.05) -> Initializer:
    """Draw evenly from [low, high)."""
    a, b = number(low, "init.uniform", "low"), number(high, "init.uniform", "high")
    if a > b:
        raise ValueError(f"[init.uniform] low is {low}, above high = {high}")
    return Initializer("uniform", a, b)


def lecun_normal(gain: float = 1.0) -> Initializer:
    """Draw from N(0, gain^2 / fan_in). Source: LeCun et al. 1998, Efficient BackProp."""
    return Initializer("normal_fan", b=number(gain, "init", "gain") ** 2)


def lecun_uniform(gain: float = 1.0) -> Initializer:
    """Draw evenly with variance gain^2 / fan_in. Source: LeCun et al. 1998, Efficient BackProp."""
    return Initializer("uniform_fan", b=number(gain, "init", "gain") ** 2)


def xavier_normal(gain: float = 1.0) -> Initializer:
    """Draw from N(0, gain^2 2 / (fan_in + fan_out)). Source: Glorot & Bengio 2010."""
    return Initializer("normal_fan", b=number(gain, "init", "gain") ** 2, fan="mean")


def xavier_uniform(gain: float = 1.0) -> Initializer:
    """Draw evenly with variance gain^2 2 / (fan_in + fan_out). Source: Glorot & Bengio 2010."""
    return Initializer("uniform_fan", b=number(gain, "init", "gain") ** 2, fan="mean")


def kaiming_normal(gain: float = math.sqrt(2), fan: str = "in") -> Initializer:
    """Draw from N(0, gain^2 / fan); the gain sqrt(2) is right before a ReLU. Source: He et al. 2015,
    arXiv:1502.01852."""
    return Initializer("normal_fan", b=_square(gain), fan=fan)


def kaiming_uniform(gain: float = math.sqrt(2), fan: str = "in") -> Initializer:
    """Draw evenly with variance gain^2 / fan. Source: He et al. 2015, arXiv:1502.01852."""
    return Initializer("uniform_fan", b=_square(gain), fan=fan)


glorot_normal, glorot_uniform = xavier_normal, xavier_uniform
he_normal, he_uniform = kaiming_normal, kaiming_uniform


def build(description: dict[str, Any]) -> Initializer:
    """Make an initialiser from its description; ValueError for unknown fields."""
    unknown = set(description) - {"distribution", "a", "b", "fan"}
    if unknown or not isinstance(description.get("distribution"), str):
        raise ValueError(f"[init] a description with the fields {sorted(description)} is no initialiser's")
    return Initializer(**description)


def _formula(name: str, *numbers: float) -> float:
    return float(_core.formula(name, *(np.array([x], np.float64) for x in numbers))[0])


def _normal(distribution: str, std: float, mean: float) -> Initializer:
    where = f"init.{distribution}"
    return Initializer(distribution, number(mean, where, "mean"), number(std, where, "std", 0))


def _square(gain: float) -> float:
    value = number(gain, "init", "gain")
    return 2.0 if value == math.sqrt(2) else value**2  # He's 2, not its rounded root squared
