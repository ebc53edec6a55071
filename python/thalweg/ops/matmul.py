"""Matrix products. Every output element is one fixed sequence of fused multiply-adds: K in blocks of 256, in order."""

from __future__ import annotations

from .dispatch import Array, apply, one


def matmul(a: Array, b: Array) -> Array:
    """Multiply matrices: y[..., i, j] = sum over k of a[..., i, k] b[..., k, j].

    Shapes: a (..., m, k), b (..., k, n) with equal leading axes, or b (k, n). dtypes: float32 or float64.
    Returns: y (..., m, n).
    Raises: TypeError for arrays that are no real numbers; ValueError for shapes that don't match.
    Cost: 2 m k n flops.
    """
    return one("matmul", a, b, transpose_a=False, transpose_b=False)


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Apply a dense layer to the last axis: y = x weight' + bias.

    Shapes: x (..., in), weight (out, in), bias (out). dtypes: float32 or float64.
    Returns: y (..., out).
    Raises: TypeError for arrays that are no real numbers; ValueError for shapes that don't match.
    Cost: 2 rows in out flops.
    """
    return apply("linear", [x, weight] if bias is None else [x, weight, bias])[0]
