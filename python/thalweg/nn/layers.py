"""Layers with parameters: Linear and Conv2d. Input sizes are inferred; what follows the output size is keyword-only."""

from __future__ import annotations

from typing import Any

from .. import init as initial
from .. import ops
from ..ops.axes import integer, one_of, pair
from ..ops.conv2d import ALGORITHMS
from ..symbolic import SymbolicTensor
from .module import Module, Parameter


class Weighted(Module):
    """A layer of units, each with its weights and perhaps a bias: what Linear and Conv2d share."""

    weight: Parameter
    bias: Parameter | None

    def _give_weights(
        self, units: int, bias: bool, weight_init: initial.Init | None, bias_init: initial.Init | None
    ) -> None:
        self.weight = Parameter(None, weight_init)
        self.bias = Parameter((units,), bias_init or initial.zeros()) if bias else None

    def options(self) -> dict[str, Any]:
        return {
            "bias": self.bias is not None,
            "weight_init": self.weight.init,
            "bias_init": self.bias.init if self.bias is not None else None,
        }

    def _usual(self) -> dict[str, Any]:
        zeros = initial.zeros() if self.bias is not None else None
        return {**super()._usual(), "weight_init": initial.kaiming_normal(), "bias_init": zeros}


class Linear(Weighted):
    """Dense layer on the last axis: y = x weight' + bias.

    Shapes: x (..., in), weight (out, in), bias (out). The weight starts in He's normal form, the bias at 0.
    Raises: TypeError for Linear(in, out): the input's size is inferred.
    """

    def __init__(
        self,
        out_features: int,
        *more: Any,
        bias: bool = True,
        weight_init: initial.Init | None = None,
        bias_init: initial.Init | None = None,
    ) -> None:
        super().__init__()
        if more:
            raise TypeError(
                f"Linear({out_features}, {', '.join(map(repr, more))}): input sizes are inferred, so give "
                f"the number of outputs only: Linear({more[0]!r})"
            )
        self.out_features = integer(out_features, "Linear", "out_features", 1)
        self._give_weights(self.out_features, bias, weight_init, bias_init)

    def forward(self, x: SymbolicTensor) -> Any:
        features = last_extent(x, "Linear", 1, "(..., features)")
        return ops.linear(x, self.weight.infer(self.out_features, features), self.bias)

    def options(self) -> dict[str, Any]:
        return {"out_features": self.out_features, **super().options()}


class Conv2d(Weighted):
    """Convolution of channels-last images (see ops.conv2d).

    Shapes: x (n, h, w, in), weight (out, kh, kw, in/groups), bias (out). The weight starts in He's normal form, the
    bias at 0. kernel_size, stride, dilation: an integer or a pair; padding: an integer, a pair, (top, bottom, left,
    right) or "same". algorithm: "auto" or "direct" (see ops.conv2d).
    Raises: TypeError for Conv2d(in, out, kernel): the input's channels are inferred.
    """

    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        *more: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        weight_init: initial.Init | None = None,
        bias_init: initial.Init | None = None,
        algorithm: str = "auto",
    ) -> None:
        super().__init__()
        if more:
            raise TypeError(
                f"Conv2d({out_channels}, {kernel_size}, {', '.join(map(repr, more))}): input channels are "
                f"inferred, and all that follows the kernel is named: Conv2d({kernel_size}, {more[0]!r})"
            )
        self.out_channels = integer(out_channels, "Conv2d", "out_channels", 1)
        self.groups = integer(groups, "Conv2d", "groups", 1)
        if self.out_channels % self.groups:
            raise ValueError(f"[Conv2d] out_channels is {out_channels}, expected a multiple of groups = {groups}")
        self.kernel_size = pair(kernel_size, "Conv2d", "kernel_size", 1)
        self.stride = pair(stride, "Conv2d", "stride", 1)
        self.dilation = pair(dilation, "Conv2d", "dilation", 1)
        self.padding = padding
        ops.axes.padding(padding, "Conv2d", self.kernel_size, self.dilation, self.stride)
        self.algorithm = one_of(algorithm, "Conv2d", "algorithm", ALGORITHMS)
        self._give_weights(self.out_channels, bias, weight_init, bias_init)

    def forward(self, x: SymbolicTensor) -> Any:
        channels = last_extent(x, "Conv2d", 4, "(n, h, w, channels)")
        if channels % self.groups:
            raise ValueError(f"[Conv2d] x has {channels} channels, expected a multiple of groups = {self.groups}")
        weight = self.weight.infer(self.out_channels, *self.kernel_size, channels // self.groups)
        return ops.conv2d(
            x,
            weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            algorithm=self.algorithm,
        )

    def options(self) -> dict[str, Any]:
        return {
            "out_channels": self.out_channels,
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "algorithm": self.algorithm,
            **super().options(),
        }


def last_extent(x: SymbolicTensor, layer: str, least_rank: int, expected: str) -> int:
    """Return the extent of the last axis; ValueError if x has too few axes."""
    from ..symbolic import BATCH, current

    recording = current()
    where = f"{layer} {recording.path!r}" if recording is not None else layer
    shape = x.shape
    exact = least_rank == 4
    if len(shape) < least_rank or (exact and len(shape) != 4) or shape[-1] is BATCH:
        raise ValueError(f"[{where}] x has shape {shape}, expected {expected}")
    return int(shape[-1])
