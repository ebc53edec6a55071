"""The networks of the comparison, described once and built for both sides with the same weights."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Network:
    """layers: ("linear", out), ("conv", out, kernel, stride, padding, bias), ("norm",), ("relu",), ("pool", size),
    ("flatten",), ("global_pool",), ("residual", body, shortcut or None)."""

    input: tuple[int, ...]  # of one sample
    layers: tuple[Any, ...]

    @property
    def images(self) -> bool:
        return len(self.input) == 3


def dense(*sizes: int, norm: bool = False) -> Network:
    layers: list[Any] = []
    for size in sizes[1:-1]:
        layers += [("linear", size), *([("norm",)] if norm else []), ("relu",)]
    return Network((sizes[0],), (*layers, ("linear", sizes[-1])))


def conv_net(*channels: int) -> Network:
    """Conv 3x3, batch norm, ReLU, max-pool 2 for each width, then linear 10, on 32x32x3."""
    layers: list[Any] = []
    for c in channels:
        layers += [("conv", c, 3, 1, 1, False), ("norm",), ("relu",), ("pool", 2)]
    return Network((32, 32, 3), (*layers, ("flatten",), ("linear", 10)))


def lenet5() -> Network:
    features = (("conv", 6, 5, 1, 2, True), ("relu",), ("pool", 2), ("conv", 16, 5, 1, 0, True), ("relu",), ("pool", 2))
    head = (("flatten",), ("linear", 120), ("relu",), ("linear", 84), ("relu",), ("linear", 10))
    return Network((28, 28, 1), (*features, *head))


def resnet20() -> Network:
    def block(width: int, stride: int) -> Any:
        body = (
            *(("conv", width, 3, stride, 1, False), ("norm",), ("relu",)),
            *(("conv", width, 3, 1, 1, False), ("norm",)),
        )
        return ("residual", body, (("conv", width, 1, stride, 0, False), ("norm",)) if stride > 1 else None)

    layers: list[Any] = [("conv", 16, 3, 1, 1, False), ("norm",), ("relu",)]
    for width in (16, 32, 64):
        for i in range(3):
            layers += [block(width, 2 if width > 16 and i == 0 else 1), ("relu",)]
    return Network((32, 32, 3), (*layers, ("global_pool",), ("linear", 10)))


def batch(network: Network, rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, *network.input), dtype=np.float32), rng.integers(0, 10, rows)


def flops(network: Network, rows: int) -> float:
    """Of the products of one training step: forward, weight gradients, and input gradients but the first layer's."""
    total, first = 0.0, 0.0
    for layer_flops in _forward_flops(network.layers, network.input)[0]:
        first = first or layer_flops
        total += 3 * layer_flops
    return rows * (total - first)


def _forward_flops(layers: Any, shape: tuple[int, ...]) -> tuple[list[float], tuple[int, ...]]:
    found: list[float] = []
    for kind, *args in layers:
        if kind == "linear":
            found.append(2.0 * shape[-1] * args[0])
            shape = (args[0],)
        elif kind == "conv":
            out, kernel, stride, padding, _ = args
            h, w = ((extent + 2 * padding - kernel) // stride + 1 for extent in shape[:2])
            found.append(2.0 * h * w * out * kernel * kernel * shape[2])
            shape = (h, w, out)
        elif kind == "pool":
            shape = (shape[0] // args[0], shape[1] // args[0], shape[2])
        elif kind == "flatten":
            shape = (int(np.prod(shape)),)
        elif kind == "global_pool":
            shape = shape[2:]
        elif kind == "residual":
            side = _forward_flops(args[1], shape)[0] if args[1] else []
            body, shape = _forward_flops(args[0], shape)
            found += body + side
    return found, shape
