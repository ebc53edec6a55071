"""Activations, element by element. Shapes, dtypes, Returns and Raises as in elementwise.py."""

from __future__ import annotations

from .axes import number
from .dispatch import Array, one


def relu(x: Array) -> Array:
    """Rectify: max(x, 0); the derivative at 0 is 0. Source: Nair & Hinton 2010."""
    return one("relu", x)


def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    """Rectify with a leak: x for x > 0, negative_slope x below. Source: Maas et al. 2013.

    Raises: TypeError for a slope that is no number; ValueError for one that is not finite.
    """
    return one("leaky_relu", x, slope=number(negative_slope, "leaky_relu", "negative_slope"))


def tanh(x: Array) -> Array:
    """Take the hyperbolic tangent."""
    return one("tanh", x)


def sigmoid(x: Array) -> Array:
    """Take the logistic function: 1 / (1 + e^-x)."""
    return one("sigmoid", x)


def gelu(x: Array, approximate: str = "none") -> Array:
    """Weigh x by the normal distribution: x Phi(x), or its tanh form.

    approximate: "none" (with erf) or "tanh": x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
    Raises: ValueError for another name. Source: Hendrycks & Gimpel 2016, arXiv:1606.08415.
    """
    return one("gelu", x, approximate=approximate)


def softplus(x: Array) -> Array:
    """Rectify smoothly: log(1 + e^x), without overflow."""
    return one("softplus", x)
