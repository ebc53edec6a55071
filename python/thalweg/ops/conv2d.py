"""Two-dimensional convolution on channels-last images."""

from __future__ import annotations

from typing import Any

from .axes import integer, one_of, pair
from .axes import padding as padding_of
from .dispatch import Array, apply, materialise, shape_of

ALGORITHMS = ("auto", "direct")


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> Array:
    """Convolve (cross-correlate, as all deep-learning libraries): each output is a sum over a window and its channels.

      y[n, i, j, o] = bias[o] + sum over a, b, c of x[n, i s + a d - p, j s + b d - p, c] weight[o, a, b, c]
    Shapes: x (n, h, w, in), weight (out, kh, kw, in/groups), bias (out). dtypes: float32 or float64.
    stride, dilation: an integer or a pair (height, width). padding: an integer, a pair, (top, bottom, left, right) or
    "same" (stride 1). groups: input and output channels are cut into this many independent parts.
    algorithm: "auto" computes 3x3 kernels of stride and dilation 1 in float32, with 16 or more channels of a group on
    both sides and outputs of 4 x 4 or more, by F(2x2, 3x3) (Winograd 1980; Lavin and Gray 2016): four outputs take 16
    multiplications for a pair of channels instead of 36, and a batch of images 1.1 to 1.9 times less time, forward and
    backward. Rounding errors are up to about twice those of the plain sum, and relative to the largest of the 4 x 4
    pixels that four outputs read together, not of each output's own 3 x 3; what is infinite may become nan. Gradients
    of weights are plain sums where there are very few images for a shard. "direct": plain sums always.
    Returns: y (n, h', w', out), h' = (h + top + bottom - d (kh - 1) - 1) // s + 1.
    Raises: TypeError for arrays that are no real numbers; ValueError for shapes or arguments that don't match.
    Cost: 2 n h' w' kh kw in/groups out flops.
    """
    x, weight = materialise([x, weight], "conv2d")
    extents = shape_of(weight, "conv2d")
    if len(extents) != 4:
        raise ValueError(f"[conv2d] weight has shape {extents}, expected (out, kh, kw, in/groups)")
    strides, dilations = pair(stride, "conv2d", "stride", 1), pair(dilation, "conv2d", "dilation", 1)
    attrs: dict[str, Any] = {
        "stride": strides,
        "dilation": dilations,
        "groups": integer(groups, "conv2d", "groups", 1),
        "padding": padding_of(padding, "conv2d", extents[1:3], dilations, strides),
    }
    if one_of(algorithm, "conv2d", "algorithm", ALGORITHMS) == "direct":
        attrs["algorithm"] = "direct"
    return apply("conv2d", [x, weight] if bias is None else [x, weight, bias], attrs)[0]
