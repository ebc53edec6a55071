"""Records a network, its loss and its metrics as the two graphs of a training run: one step, one evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import tree
from ..nn.module import Module
from ..symbolic import NOMINAL_ROWS, DeferredInput, Recording, SymbolicTensor, recording


@dataclass(frozen=True)
class Spec:
    """What one input looks like: the shape of a row, and whether it holds integers."""

    shape: tuple[int, ...]
    integer: bool = False

    @classmethod
    def of(cls, array: np.ndarray) -> Spec:
        return cls(tuple(int(n) for n in array.shape[1:]), array.dtype.kind in "iu")

    def describe(self) -> dict[str, Any]:
        return {"shape": list(self.shape), "integer": self.integer}


@dataclass
class Recorded:
    """A recorded graph: its recording, the values of io, and the structure of the prediction."""

    recording: Recording
    io: dict[str, Any]
    structure: Any
    kinds: list[str]  # of the targets: "real" or "index"
    limits: list[tuple[int, str] | None]  # of the targets: (classes, layer) where they are class numbers


def record(
    net: Module,
    loss: Callable[..., Any],
    metrics: dict[str, Callable[..., Any]],
    inputs: Sequence[Spec],
    targets: Sequence[Spec],
    several_targets: bool,
    train: bool,
) -> Recorded:
    """Record one graph. Raises: TypeError and ValueError of layers and operators; ValueError for a loss of wrong
    shape."""
    r = Recording(rows=NOMINAL_ROWS, train=train, session=True)
    r.bind(net)
    with recording(r):
        xs = [r.input(f"x{i}" if i else "x", (r.rows, *spec.shape), "real", True) for i, spec in enumerate(inputs)]
        ys = [_target(r, i, spec) for i, spec in enumerate(targets)]
        prediction = net(*xs)
        target = tuple(ys) if several_targets else ys[0]
        value = _per_row(loss(prediction, target), "loss", scalar=True)
        measured = [_per_row(f(prediction, target), name, scalar=False) for name, f in metrics.items()]
    outputs, structure = tree.flatten(prediction)
    values = [x.resolve("real") for x in xs] + [_resolved(y) for y in ys]
    io = {"inputs": values, "loss": value, "metrics": measured}
    if not train:
        io["outputs"] = [_output(o) for o in outputs]
    limits = [r.label_limits.get(v) for v in values[len(xs) :]]
    return Recorded(r, io, structure, [y.kind for y in ys], limits)


def complete(train: Recorded, evaluate: Recorded) -> None:
    """Let both graphs hold the same parameters and buffers: what only one of them uses is declared in the other."""
    for one, other in ((train.recording, evaluate.recording), (evaluate.recording, train.recording)):
        for name, (parameter, tensor) in one.parameters.items():
            if name not in other.parameters:
                value = other.graph.parameter(name, tensor.graph_shape, parameter.trainable)
                other.parameters[name] = (parameter, SymbolicTensor(other, value))
        for name, (buffer, tensor) in one.buffers.items():
            if name not in other.buffers:
                other.buffers[name] = (buffer, SymbolicTensor(other, other.graph.buffer(name, tensor.graph_shape)))
        for name, (array, _) in one.constants.items():
            if name not in other.constants:
                other.constants[name] = (array, other.graph.buffer(name, array.shape))


def initial_parameters(r: Recording, dtype: str, seed: int) -> dict[str, np.ndarray]:
    """Draw every parameter. Raises: ValueError for an initialiser of one's own that returns another shape."""
    values = {}
    for name, (parameter, tensor) in r.parameters.items():
        value = np.require(parameter.init(tensor.graph_shape, dtype, seed, name), dtype, ("C", "A"))
        if value.shape != tuple(tensor.graph_shape):
            raise ValueError(
                f"[init] the initialiser of {name!r} returned shape {value.shape}, expected {tuple(tensor.graph_shape)}"
            )
        values[name] = value
    return values


def initial_buffers(r: Recording, dtype: str) -> dict[str, np.ndarray]:
    """Return the starting value of every buffer, and the arrays that the network holds."""
    values = {name: np.full(tensor.graph_shape, buffer.value, dtype) for name, (buffer, tensor) in r.buffers.items()}
    return values | {name: np.require(array, dtype, ("C", "A")) for name, (array, _) in r.constants.items()}


def _target(r: Recording, i: int, spec: Spec) -> SymbolicTensor:
    name = f"y{i}" if i else "y"
    shape = (r.rows, *spec.shape)
    return DeferredInput(r, name, shape, True) if spec.integer else r.input(name, shape, "real", True)


def _resolved(y: SymbolicTensor) -> int:
    if isinstance(y, DeferredInput) and not y.used_as:
        raise ValueError(f"[loss] neither the loss nor a metric uses the target {y.name}")
    return y.resolve(y.kind)


def _per_row(value: Any, name: str, scalar: bool) -> int:
    expected = "one value a row, shape (batch,)" + (", or a scalar mean" if scalar else "")
    if not isinstance(value, SymbolicTensor):
        raise TypeError(f"[{name}] the function returned a {type(value).__name__}, expected {expected}, by thalweg.ops")
    if not (value.batched and value.ndim == 1) and not (scalar and value.ndim == 0):
        raise ValueError(f"[{name}] the function returned shape {value.shape}, expected {expected}")
    return value.resolve("real")


def _output(value: Any) -> int:
    if not isinstance(value, SymbolicTensor):
        raise TypeError(f"[net] forward returned a {type(value).__name__}, expected tensors")
    return value.resolve("real")
