"""Records a network, its loss and its metrics as the two graphs of a training run: one step, one evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable
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

    @classmethod
    def read(cls, described: dict[str, Any]) -> Spec:
        return cls(tuple(int(n) for n in described["shape"]), bool(described["integer"]))


@dataclass(frozen=True)
class DataSpec:
    """What a network is built for: its inputs, its targets, and whether the targets come as a tuple."""

    inputs: list[Spec]
    targets: list[Spec]
    several: bool

    def describe(self) -> dict[str, Any]:
        return {
            "inputs": [spec.describe() for spec in self.inputs],
            "targets": [spec.describe() for spec in self.targets],
            "several_targets": self.several,
        }

    @classmethod
    def read(cls, meta: dict[str, Any]) -> DataSpec:
        inputs, targets = ([Spec.read(d) for d in meta[name]] for name in ("inputs", "targets"))
        return cls(inputs, targets, bool(meta["several_targets"]))


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
    data: DataSpec,
    train: bool,
) -> Recorded:
    """Record one graph. Raises: TypeError and ValueError of layers and operators; ValueError for a loss of wrong
    shape."""
    r = Recording(rows=NOMINAL_ROWS, train=train, session=True)
    r.bind(net)
    with recording(r):
        xs = [r.input(f"x{i}" if i else "x", (r.rows, *spec.shape), "real", True) for i, spec in enumerate(data.inputs)]
        ys = [_target(r, i, spec) for i, spec in enumerate(data.targets)]
        prediction = net(*xs)
        target = tuple(ys) if data.several else ys[0]
        value = _per_row(loss(prediction, target), "loss", scalar=True)
        measured = [_per_row(f(prediction, target), name, scalar=False) for name, f in metrics.items()]
    outputs, structure = tree.flatten(prediction)
    values = [x.resolve("real") for x in xs] + [_resolved(y) for y in ys]
    io = {"inputs": values, "loss": value, "metrics": measured}
    if not train:
        io["outputs"] = [_output(o) for o in outputs]
    limits = [r.label_limits.get(v) for v in values[len(xs) :]]
    return Recorded(r, io, structure, [y.kind for y in ys], limits)


def needs_two_rows(r: Recording) -> str | None:
    """Return the path of the first layer that normalises one value a row over the batch, None if there is none."""
    for node in r.graph.nodes():
        shape = node["shapes"][0]
        if node["op"] == "batch_norm" and shape[0] == r.rows and math.prod(shape[1:-1]) == 1:
            return str(node["path"])
    return None


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
