"""Softmax and its logarithm. dtypes: float32 or float64; the batch axis of a symbolic tensor can't be normalised
over."""

from __future__ import annotations

from .axes import single
from .dispatch import Array, materialise, one, shape_of


def softmax(x: Array, axis: int = -1) -> Array:
    """Turn scores into probabilities along an axis: e^x / sum of e^x, without overflow.

    Returns: y, of x's shape.
    Raises: TypeError for arrays that are no real numbers; ValueError for an axis outside x.
    """
    return _along("softmax", x, axis)


def log_softmax(x: Array, axis: int = -1) -> Array:
    """Take the logarithm of softmax, exact for large scores: x - log(sum of e^x). Returns and Raises as softmax."""
    return _along("log_softmax", x, axis)


def _along(op: str, x: Array, axis: int) -> Array:
    [x] = materialise([x], op)
    return one(op, x, axis=single(axis, len(shape_of(x, op)), op))
