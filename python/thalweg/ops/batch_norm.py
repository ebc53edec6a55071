"""Batch normalization: with the statistics of the batch, or with given ones.

Source: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1.
"""

from __future__ import annotations

from typing import Any

from .axes import number
from .dispatch import Array, apply, materialise, one


def batch_norm(x: Array, gamma: Array | None = None, beta: Array | None = None, *, eps: float = 1e-5) -> Array:
    """Normalise each channel over the batch: y = gamma (x - mean) / sqrt(var + eps) + beta, var biased.

    Shapes: x (..., c) with the channel last, gamma, beta (c), both or none. dtypes: float32 or float64.
    The gradient goes through the statistics, which are merged over all ranks.
    Returns: y, of x's shape.
    Raises: TypeError for arrays that are no real numbers; ValueError for shapes that don't match, eps < 0, or one
    value per channel. With eps = 0 a constant channel gives NaN.
    """
    return batch_norm_with_statistics(x, gamma, beta, eps=eps)[0]


def batch_norm_with_statistics(
    x: Array, gamma: Array | None = None, beta: Array | None = None, *, eps: float = 1e-5, sync: str = "all"
) -> tuple[Array, Array]:
    """As batch_norm; returns (y, statistics), the latter (2, c): mean and sum of squared deviations.

    sync="rank": y is normalised by what the rank's own rows give. The statistics are those of all ranks either way.
    """
    [x] = materialise([x], "batch_norm")
    attrs: dict[str, Any] = {"eps": number(eps, "batch_norm", "eps", 0)}
    if sync == "rank":
        attrs["sync"] = sync
    statistics = one("moments", x)
    return apply("batch_norm", [x, statistics, *_affine(gamma, beta, "batch_norm")], attrs)[0], statistics


def batch_norm_inference(
    x: Array,
    running_mean: Array,
    running_var: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    *,
    eps: float = 1e-5,
) -> Array:
    """Normalise with given statistics: y = gamma (x - running_mean) / sqrt(running_var + eps) + beta.

    Shapes: x (..., c), all others (c). Returns and Raises as batch_norm, one value per channel allowed.
    """
    inputs = [x, running_mean, running_var, *_affine(gamma, beta, "batch_norm_inference")]
    return apply("batch_norm_inference", inputs, {"eps": number(eps, "batch_norm_inference", "eps", 0)})[0]


def batch_norm_running(
    running_mean: Array, running_var: Array, statistics: Array, x: Array, *, momentum: float, unbiased: bool
) -> list[Array]:
    """Move running statistics towards a batch's: new = (1 - momentum) old + momentum batch."""
    attrs = {"momentum": float(momentum), "unbiased": bool(unbiased)}
    return apply("batch_norm_running", [running_mean, running_var, statistics, x], attrs)


def _affine(gamma: Any, beta: Any, where: str) -> list[Any]:
    if (gamma is None) != (beta is None):
        raise ValueError(f"[{where}] gamma and beta come together or not at all")
    return [] if gamma is None else [gamma, beta]
