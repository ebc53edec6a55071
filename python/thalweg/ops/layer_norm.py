"""Layer normalization. Source: Ba, Kiros & Hinton 2016, arXiv:1607.06450."""

from __future__ import annotations

from .axes import integer, number
from .dispatch import Array, apply


def layer_norm(
    x: Array, gamma: Array | None = None, beta: Array | None = None, *, dims: int = 1, eps: float = 1e-5
) -> Array:
    """Normalise each sample over its trailing axes: y = gamma (x - mean) / sqrt(var + eps) + beta, var biased.

    Shapes: x any, gamma and beta (both or none) the last `dims` extents of x. dtypes: float32 or float64.
    Returns: y, of x's shape.
    Raises: TypeError for arrays that are no real numbers; ValueError for shapes that don't match or eps < 0.
    With eps = 0 a constant row gives NaN.
    """
    if (gamma is None) != (beta is None):
        raise ValueError("[layer_norm] gamma and beta come together or not at all")
    inputs = [x] if gamma is None else [x, gamma, beta]
    attrs = {"dims": integer(dims, "layer_norm", "dims", 1), "eps": number(eps, "layer_norm", "eps", 0)}
    return apply("layer_norm", inputs, attrs)[0]
