"""Helpers for numbers, axes, pairs and shapes: what the public functions take, turned into what the engine takes."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..symbolic import BATCH, BatchAxis


def integer(x: Any, where: str, name: str, least: int | None = None) -> int:
    """Return x as an int; TypeError for anything but integers, ValueError below `least` or beyond 63 bits."""
    if isinstance(x, BatchAxis):
        raise TypeError(f"[{where}] {name} is the size of the batch axis, which is not known while recording")
    if isinstance(x, bool):
        raise TypeError(f"[{where}] {name} is a bool, expected an integer")
    try:
        value = operator.index(x)
    except TypeError:
        raise TypeError(f"[{where}] {name} is {x!r}, expected an integer") from None
    if least is not None and value < least:
        raise ValueError(f"[{where}] {name} is {value}, expected at least {least}")
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"[{where}] {name} is {value}, expected a number of 63 bits")
    return value


def one_of(x: Any, where: str, name: str, choices: Sequence[str]) -> str:
    """Return x, one of at least two words; ValueError for another."""
    if not isinstance(x, str) or x not in choices:
        *others, last = map(repr, choices)
        raise ValueError(f"[{where}] {name} is {x!r}, expected {', '.join(others)} or {last}")
    return x


def is_number(x: Any) -> bool:
    """Tell whether x is a real number: of Python or a scalar of NumPy, no bool."""
    return isinstance(x, (int, float, np.integer, np.floating)) and not isinstance(x, bool)


def number(
    x: Any,
    where: str,
    name: str,
    low: float | None = None,
    high: float | None = None,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Return x as a float; TypeError for anything but a number, ValueError outside a range or if it is not finite.

    open_low, open_high: the bound itself is outside.
    """
    if not is_number(x):
        raise TypeError(f"[{where}] {name} is {x!r}, expected a number")
    value = float(x)
    above = low is None or (value > low if open_low else value >= low)
    below = high is None or (value < high if open_high else value <= high)
    if not (math.isfinite(value) and above and below):
        left = "" if low is None else f"{low} {'<' if open_low else '<='} "
        right = "" if high is None else f" {'<' if open_high else '<='} {high}"
        bounds = f", {left}{name}{right}" if left or right else ""
        raise ValueError(f"[{where}] {name} is {value}, expected a finite number{bounds}")
    return value


def normalise(axis: Any, rank: int, where: str) -> list[int]:
    """Return axes (None: all; an integer; several) as sorted non-negative numbers.

    Raises: ValueError for an axis outside [-rank, rank) or named twice.
    """
    if axis is None:
        return list(range(rank))
    given = list(axis) if isinstance(axis, (tuple, list)) else [axis]
    axes = [single(a, rank, where) for a in given]
    if len(set(axes)) != len(axes):
        raise ValueError(f"[{where}] axis {tuple(given)} names an axis twice")
    return sorted(axes)


def single(axis: Any, rank: int, where: str) -> int:
    """Return one axis as a non-negative number; ValueError outside [-rank, rank)."""
    a = integer(axis, where, "axis")
    if not -rank <= a < rank:
        raise ValueError(f"[{where}] axis {a} is outside [{-rank}, {rank}): the array has {rank} axes")
    return a % rank


def pair(x: Any, where: str, name: str, least: int) -> list[int]:
    """Return an integer or a pair of integers as [height, width]."""
    if isinstance(x, (tuple, list)):
        if len(x) != 2:
            raise ValueError(f"[{where}] {name} has {len(x)} numbers, expected one or a pair (height, width)")
        return [integer(v, where, name, least) for v in x]
    return [integer(x, where, name, least)] * 2


def padding(x: Any, where: str, kernel: Sequence[int], dilation: Sequence[int], stride: Sequence[int]) -> list[int]:
    """Return padding as [top, bottom, left, right].

    x: an integer, a pair (height, width), four numbers, or "same" (stride 1 only; an odd rest goes to the end).
    """
    if isinstance(x, str):
        if x != "same":
            raise ValueError(f"[{where}] padding is {x!r}, expected an integer, a pair, four integers or 'same'")
        if any(s != 1 for s in stride):
            raise ValueError(f"[{where}] padding 'same' needs stride 1, the stride is {tuple(stride)}")
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [total[0] // 2, total[0] - total[0] // 2, total[1] // 2, total[1] - total[1] // 2]
    if isinstance(x, (tuple, list)) and len(x) == 4:
        return [integer(v, where, "padding", 0) for v in x]
    h, w = pair(x, where, "padding", 0)
    return [h, h, w, w]


def extents_of(x: Any, where: str) -> list[int]:
    """Return a shape as integers; `batch` becomes -1."""
    given = x if isinstance(x, (tuple, list)) else (x,)
    return [-1 if v is BATCH else integer(v, where, "shape") for v in given]
