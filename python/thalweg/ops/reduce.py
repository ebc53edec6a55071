"""Sums, means, maxima and minima over axes.

Shapes: x any; axis None (all axes), an integer or several. dtypes: as x. Sums run in a fixed order: 16 lanes in
blocks of 1024 elements, and a binary tree over the blocks; over the batch axis a tree over the shards, whatever the
threads and ranks. The mean over a batch divides the sum by the number of rows of the whole batch.
Returns: the reduced array (axes kept with extent 1 if keepdims), or a symbolic tensor.
Raises: TypeError for arrays that are no real numbers; ValueError for an axis outside the array, or an empty maximum.
"""

from __future__ import annotations

import math
from typing import Any

from .axes import normalise
from .dispatch import Array, batched, materialise, one, shape_of


def sum(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """Sum over axes."""
    return _reduce("reduce_sum", x, axis, keepdims)


def mean(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """Average over axes: the sum over the count; a batch counts the rows of all ranks."""
    [x] = materialise([x], "mean")
    shape = shape_of(x, "mean")
    axes = normalise(axis, len(shape), "mean")
    if not (batched(x) and 0 in axes):
        return one("reduce_mean", x, axes=axes, keepdims=bool(keepdims))
    total = one("reduce_sum", x, axes=axes, keepdims=bool(keepdims))
    return one("divide_by_count", total, count=math.prod(shape[a] for a in axes if a), batch=True)


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
