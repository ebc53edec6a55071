"""Sums, means, maxima and minima over axes, and what is made of them.

Shapes: x any; axis None (all axes), an integer or several. dtypes: as x. Sums run in a fixed order: 16 lanes in
blocks of 1024 elements, and a binary tree over the blocks; over the batch axis a tree over the shards, whatever the
threads and ranks. The mean over a batch divides the sum by the number of rows of the whole batch.
Returns: the reduced array (axes kept with extent 1 if keepdims), or a symbolic tensor.
Raises: TypeError for arrays that are no real numbers; ValueError for an axis outside the array, or for anything but
a sum of no elements.
"""

from __future__ import annotations

import math
from typing import Any

from ..symbolic import BATCH
from .axes import integer, normalise
from .dispatch import Array, batched, materialise, one, shape_of
from .elementwise import abs, add, exp, greater, less, log, mul, sqrt, square, sub, where
from .shape import squeeze


def sum(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """Sum over axes."""
    return _reduce("reduce_sum", x, axis, keepdims)


def mean(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """Average over axes: the sum over the count; a batch counts the rows of all ranks. Nothing has no average."""
    return average(x, axis, keepdims, "mean")


def average(x: Array, axis: Any, keepdims: bool, where: str) -> Array:
    """As mean, in the name of another operator."""
    [x] = materialise([x], where)
    axes, count = _counted(x, axis, where)
    if not (batched(x) and 0 in axes):
        return one("reduce_mean", x, axes=axes, keepdims=bool(keepdims))
    total = one("reduce_sum", x, axes=axes, keepdims=bool(keepdims))
    return one("divide_by_count", total, count=count, batch=True)


def var(x: Array, axis: Any = None, keepdims: bool = False, *, ddof: int = 0) -> Array:
    """Average the squared deviations from the mean: sum of (x - mean)^2 / (n - ddof), n elements each.

    ddof: 0, or 1 for the unbiased estimate, which torch takes by default; over a symbolic batch only 0.
    Raises: ValueError also for ddof outside [0, n).
    """
    return _variance(x, axis, keepdims, ddof, "var")


def std(x: Array, axis: Any = None, keepdims: bool = False, *, ddof: int = 0) -> Array:
    """Take the root of the variance; the derivative at 0 is 0. Arguments and Raises as var."""
    return _root(_variance(x, axis, keepdims, ddof, "std"))


def norm(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """Take the Euclidean length: sqrt(sum of x^2); the derivative at 0 is 0."""
    [x] = materialise([x], "norm")
    axes = normalise(axis, len(shape_of(x, "norm")), "norm")
    return _root(sum(square(x), axes, keepdims))


def logsumexp(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """Take log(sum of e^x) without overflow: m + log(sum of e^(x - m)), m the maximum."""
    [x] = materialise([x], "logsumexp")
    axes, _ = _counted(x, axis, "logsumexp")
    greatest = one("reduce_max", x, axes=axes, keepdims=True)
    m = where(less(abs(greatest), math.inf), greatest, 0.0)  # inf - inf would be NaN
    total = add(m, log(one("reduce_sum", exp(sub(x, m)), axes=axes, keepdims=True)))
    return total if keepdims else squeeze(total, axes)


def max(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """Take the maximum over axes; equal maxima share the gradient evenly."""
    return _reduce("reduce_max", x, axis, keepdims)


def min(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """Take the minimum over axes; equal minima share the gradient evenly."""
    return _reduce("reduce_min", x, axis, keepdims)


def _reduce(op: str, x: Array, axis: Any, keepdims: bool) -> Array:
    where = op.removeprefix("reduce_")
    [x] = materialise([x], where)
    return one(op, x, axes=normalise(axis, len(shape_of(x, where)), where), keepdims=bool(keepdims))


def _variance(x: Array, axis: Any, keepdims: bool, ddof: int, where: str) -> Array:
    [x] = materialise([x], where)
    axes, count = _counted(x, axis, where)
    less_by = integer(ddof, where, "ddof", 0)
    whole_batch = batched(x) and 0 in axes
    if less_by and whole_batch:
        raise ValueError(f"[{where}] ddof is {less_by} over the batch axis, whose size is not known while recording")
    if less_by >= count and not whole_batch:
        raise ValueError(f"[{where}] ddof is {less_by}, expected less than the {count} elements averaged")
    deviation = sub(x, average(x, axes, True, where))
    biased = average(square(deviation), axes, keepdims, where)
    return mul(biased, count / (count - less_by)) if less_by else biased


def _root(x: Array) -> Array:
    """The square root with derivative 0 at 0, where that of sqrt is infinite."""
    positive = greater(x, 0.0)
    return where(positive, sqrt(where(positive, x, 1.0)), mul(0.0, x))


def _counted(x: Array, axis: Any, where: str) -> tuple[list[int], int]:
    """Return the axes and how many elements each result is made of, a symbolic batch apart; ValueError for none."""
    shape = shape_of(x, where)
    axes = normalise(axis, len(shape), where)
    count = math.prod(shape[a] for a in axes if shape[a] is not BATCH)
    if not count:
        raise ValueError(f"[{where}] x has shape {shape}: no elements along axes {tuple(axes)}, expected at least one")
    return axes, count
