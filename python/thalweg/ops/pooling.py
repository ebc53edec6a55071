"""Pooling of channels-last images. dtypes: float32 or float64; shapes: x (n, h, w, c)."""

from __future__ import annotations

from typing import Any

from .axes import padding as padding_of
from .axes import pair
from .dispatch import Array, materialise, one, shape_of
from .reduce import average, max


def max_pool2d(x: Array, kernel_size: Any, *, stride: Any = None, padding: Any = 0) -> Array:
    """Take the maximum of each window; the first maximum in window order gets the gradient, NaN passes through.

    kernel_size, stride: an integer or a pair; the stride is the kernel's size by default. padding: an integer, a
    pair or four numbers; padded places never win.
    Returns: y (n, h', w', c), h' = (h + top + bottom - kh) // s + 1.
    Raises: TypeError for arrays that are no real numbers; ValueError for shapes or arguments that don't match.
    """
    return one("max_pool2d", x, **_window("max_pool2d", kernel_size, stride, padding))


def avg_pool2d(
    x: Array, kernel_size: Any, *, stride: Any = None, padding: Any = 0, count_include_pad: bool = True
) -> Array:
    """Average each window; padded places are zeros that count, or don't count if count_include_pad is False.

    Arguments, Returns and Raises as max_pool2d.
    """
    window = _window("avg_pool2d", kernel_size, stride, padding)
    return one("avg_pool2d", x, **window, count_include_pad=bool(count_include_pad))


def global_avg_pool2d(x: Array) -> Array:
    """Average each channel over the image: (n, h, w, c) -> (n, c)."""
    return average(_images(x, "global_avg_pool2d"), (1, 2), False, "global_avg_pool2d")


def global_max_pool2d(x: Array) -> Array:
    """Take the maximum of each channel over the image: (n, h, w, c) -> (n, c)."""
    return max(_images(x, "global_max_pool2d"), (1, 2))


def _window(where: str, kernel_size: Any, stride: Any, padding: Any) -> dict[str, Any]:
    kernel = pair(kernel_size, where, "kernel_size", 1)
    strides = kernel if stride is None else pair(stride, where, "stride", 1)
    return {"kernel": kernel, "stride": strides, "padding": padding_of(padding, where, kernel, [1, 1], strides)}


def _images(x: Array, where: str) -> Array:
    [x] = materialise([x], where)
    if len(shape_of(x, where)) != 4:
        raise ValueError(f"[{where}] x has shape {shape_of(x, where)}, expected images (n, h, w, c)")
    return x
