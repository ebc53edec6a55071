"""Two-dimensional convolution on channels-last images."""

from __future__ import annotations

from typing import Any

from .axes import integer, pair
from .axes import padding as padding_of
from .dispatch import Array, apply, materialise, shape_of


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Array:
    """Convolve (cross-correlate, as all deep-learning libraries): each output is a sum over a window and its channels.

      y[n, i, j, o] = bias[o] + sum over a, b, c of x[n, i s + a d - p, j s + b d - p, c] weight[o, a, b, c]
    Shapes: x (n, h, w, in), weight (out, kh, kw, in/groups), bias (out). dtypes: float32 or float64.
    stride, dilation: an integer or a pair (height, width). padding: an integer, a pair, (top, bottom, left, right) or
    "same" (stride 1). groups: input and output channels are cut into this many independent parts.
    Returns: y (n, h', w', out), h' = (h + top + bottom - d (kh - 1) - 1) // s + 1.
    Raises: TypeError for arrays that are no real numbers; ValueError for shapes or arguments that don't match.
    Cost: 2 n h' w' kh kw in/groups out flops.
    """
    x, weight = materialise([x, weight], "conv2d")
    extents = shape_of(weight, "conv2d")
    if len(extents) != 4:
        raise ValueError(f"[conv2d] weight has shape {extents}, expected (out, kh, kw, in/groups)")
    strides, dilations = pair(stride, "conv2d", "stride", 1), pair(dilation, "conv2d", "dilation", 1)
    attrs = {
        "stride": strides,
        "dilation": dilations,
        "groups": integer(groups, "conv2d", "groups", 1),
        "padding": padding_of(padding, "conv2d", extents[1:3], dilations, strides),
    }
    return apply("conv2d", [x, weight] if bias is None else [x, weight, bias], attrs)[0]
