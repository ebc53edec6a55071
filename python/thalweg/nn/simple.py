"""Layers without parameters: pooling, activations, dropout, Flatten, Identity."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..ops.axes import integer, number, one_of, pair
from ..ops.axes import padding as padding_of
from ..symbolic import SymbolicTensor
from .module import Module, is_training


class _Pool(Module):
    def __init__(self, kernel_size: Any, *more: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        name = type(self).__name__
        if more:
            raise TypeError(
                f"{name}({kernel_size}, {', '.join(map(repr, more))}): what follows the kernel is named: "
                f"{name}({kernel_size}, stride={more[0]!r})"
            )
        self.kernel_size = pair(kernel_size, name, "kernel_size", 1)
        self.stride = self.kernel_size if stride is None else pair(stride, name, "stride", 1)
        self.padding = padding_of(padding, name, self.kernel_size, [1, 1], self.stride)

    def options(self) -> dict[str, Any]:
        return {"kernel_size": self.kernel_size, "stride": self.stride, "padding": self.padding}

    def _usual(self) -> dict[str, Any]:
        return {**super()._usual(), "stride": self.kernel_size}


class MaxPool2d(_Pool):
    """Maximum of each window (see ops.max_pool2d). The stride is the kernel's size by default."""

    def forward(self, x: SymbolicTensor) -> Any:
        return ops.max_pool2d(x, self.kernel_size, stride=self.stride, padding=self.padding)


class AvgPool2d(_Pool):
    """Average of each window (see ops.avg_pool2d). The stride is the kernel's size by default."""

    def __init__(
        self, kernel_size: Any, *more: Any, stride: Any = None, padding: Any = 0, count_include_pad: bool = True
    ) -> None:
        super().__init__(kernel_size, *more, stride=stride, padding=padding)
        self.count_include_pad = bool(count_include_pad)

    def forward(self, x: SymbolicTensor) -> Any:
        return ops.avg_pool2d(
            x, self.kernel_size, stride=self.stride, padding=self.padding, count_include_pad=self.count_include_pad
        )

    def options(self) -> dict[str, Any]:
        return {**super().options(), "count_include_pad": self.count_include_pad}


class GlobalAvgPool2d(Module):
    """Average of each channel: (n, h, w, c) -> (n, c)."""

    def forward(self, x: SymbolicTensor) -> Any:
        return ops.global_avg_pool2d(x)


class GlobalMaxPool2d(Module):
    """Maximum of each channel: (n, h, w, c) -> (n, c)."""

    def forward(self, x: SymbolicTensor) -> Any:
        return ops.global_max_pool2d(x)


class Flatten(Module):
    """All axes but the first joined: (n, h, w, c) -> (n, h w c)."""

    def forward(self, x: SymbolicTensor) -> Any:
        return ops.flatten(x)


class Identity(Module):
    """What comes in goes out."""

    def forward(self, x: Any) -> Any:
        return x


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: SymbolicTensor) -> Any:
        return ops.relu(x)


class LeakyReLU(Module):
    """x above 0, negative_slope x below."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = number(negative_slope, "LeakyReLU", "negative_slope")

    def forward(self, x: SymbolicTensor) -> Any:
        return ops.leaky_relu(x, self.negative_slope)

    def options(self) -> dict[str, Any]:
        return {"negative_slope": self.negative_slope}


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: SymbolicTensor) -> Any:
        return ops.tanh(x)


class Sigmoid(Module):
    """1 / (1 + e^-x)."""

    def forward(self, x: SymbolicTensor) -> Any:
        return ops.sigmoid(x)


class GELU(Module):
    """x Phi(x); approximate="tanh" for the tanh form."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = one_of(approximate, "GELU", "approximate", ("none", "tanh"))

    def forward(self, x: SymbolicTensor) -> Any:
        return ops.gelu(x, self.approximate)

    def options(self) -> dict[str, Any]:
        return {"approximate": self.approximate}


class Softplus(Module):
    """log(1 + e^x)."""

    def forward(self, x: SymbolicTensor) -> Any:
        return ops.softplus(x)


class _Along(Module):
    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = integer(dim, type(self).__name__, "dim")

    def options(self) -> dict[str, Any]:
        return {"dim": self.dim}


class Softmax(_Along):
    """Probabilities along an axis. Before a cross-entropy loss leave it out: the loss contains it."""

    def forward(self, x: SymbolicTensor) -> Any:
        return ops.softmax(x, self.dim)


class LogSoftmax(_Along):
    """Logarithms of probabilities along an axis: before the loss NLL. The loss CrossEntropy contains it."""

    def forward(self, x: SymbolicTensor) -> Any:
        return ops.log_softmax(x, self.dim)


class Dropout(Module):
    """Inverted dropout in training, the identity in evaluation (see ops.dropout).

    Raises: TypeError or ValueError for p that is no number in [0, 1].
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = number(p, "Dropout", "p", 0, 1)

    def forward(self, x: SymbolicTensor) -> Any:
        return ops.dropout(x, self.p) if is_training() and self.p > 0 else x

    def options(self) -> dict[str, Any]:
        return {"p": self.p}
