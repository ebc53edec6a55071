"""Symbolic tensors: what a function of thalweg.ops is given while it is recorded instead of run.

A Recording owns one graph of the engine. Shapes and arguments are checked as nodes are recorded, so an error points at
the line of Python that made it. The same functions of thalweg.ops run at once on arrays and record on these tensors.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core, arrays, fork
from .operators import Operators

if TYPE_CHECKING:
    from .nn.module import Buffer, Module, Parameter

# Rows of a batch while it is recorded; every plan built from the graph has its own number. A prime that no layer has as
# an extent, so that messages can say `batch` for it.
NOMINAL_ROWS = 10007


class BatchAxis:
    """The size of the batch axis, not known while recording. In a shape for reshape it means "the batch stays"."""

    _only: BatchAxis | None = None

    def __new__(cls) -> BatchAxis:
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def __repr__(self) -> str:
        return "batch"


BATCH = BatchAxis()


class SymbolicTensor(Operators):
    """A value of a graph under construction."""

    __slots__ = ("_value", "recording")

    def __init__(self, recording: Recording, value: int) -> None:
        self.recording = recording
        self._value = value

    def resolve(self, kind: str) -> int:
        """Return the graph's value, to be used as kind ("real" or "index")."""
        return self._value

    @property
    def graph_shape(self) -> tuple[int, ...]:
        """The shape with the nominal number of rows in the place of the batch."""
        return self.recording.graph.shape(self._value)

    @property
    def shape(self) -> tuple[Any, ...]:
        """The shape; `batch` stands for the size of the batch axis."""
        shape = tuple(self.graph_shape)
        return (BATCH, *shape[1:]) if self.batched else shape

    @property
    def ndim(self) -> int:
        return len(self.graph_shape)

    @property
    def batched(self) -> bool:
        """Whether axis 0 is the global batch."""
        return self.recording.graph.batched(self._value)

    @property
    def kind(self) -> str:
        return self.recording.graph.kind(self._value)

    def __len__(self) -> int:
        raise TypeError("len() of a symbolic tensor: use x.shape")

    def __repr__(self) -> str:
        return f"SymbolicTensor{self.shape}"


class DeferredInput(SymbolicTensor):
    """An integer input that is recorded at its first use, as class numbers or as real numbers: the use decides."""

    __slots__ = ("batch", "declared", "name", "used_as")

    def __init__(self, recording: Recording, name: str, shape: tuple[int, ...], batch: bool) -> None:
        super().__init__(recording, -1)
        self.name, self.declared, self.batch, self.used_as = name, shape, batch, ""

    def resolve(self, kind: str) -> int:
        if not self.used_as:
            self.used_as = kind
            self._value = self.recording.graph.input(self.name, self.declared, kind, self.batch)
        elif self.used_as != kind:
            raise TypeError(
                f"{self.name} is used both as class numbers and as real numbers: convert it to float "
                "before it comes in, or use it in one way"
            )
        return self._value

    @property
    def graph_shape(self) -> tuple[int, ...]:
        return self.declared

    @property
    def batched(self) -> bool:
        return self.batch

    @property
    def kind(self) -> str:
        return self.used_as or "index"


class Recording:
    """A graph being recorded: by a function transform (session=False) or as a network's step (session=True)."""

    def __init__(self, *, rows: int = 0, train: bool = True, session: bool = False) -> None:
        fork.check()
        self.graph = _core.Graph(rows)
        self.rows = rows
        self.train = train
        self.session = session
        self.names: dict[int, str] = {}  # id of a Module, Parameter or Buffer -> its path
        self.given: dict[str, Any] = {}  # parameters whose values a caller gives by name
        self.functional = False
        self.scope: list[str] = []
        self.last_layer = ""  # the layer that was left last: what a loss's message names
        self.calls: dict[str, int] = {}  # how often a path was entered, so that masks differ
        self.layers: list[tuple[str, str, Any]] = []  # (path, class, shape of the output) of every layer called
        self.tape: list[Any] = []  # everything recorded, as a key for compiled functions
        self.parameters: dict[str, tuple[Parameter, SymbolicTensor]] = {}
        self.buffers: dict[str, tuple[Buffer, SymbolicTensor]] = {}
        self.updated: dict[str, SymbolicTensor] = {}  # what buffers are after their updates so far
        self.constants: dict[str, tuple[np.ndarray, int]] = {}  # arrays from outside, as buffers of a session
        self.captured: list[tuple[Any, str, int]] = []  # arrays from outside: (array, kind, value) of a function
        self.random: tuple[int, int] | None = None  # (seed, step) of a function's masks
        self.label_limits: dict[int, tuple[int, str]] = {}  # input value -> (classes, layer)
        self._numbers: dict[float, int] = {}
        self._seen: dict[tuple[int, str], int] = {}
        self._keep: list[Any] = []

    @property
    def path(self) -> str:
        return self.scope[-1] if self.scope else ""

    def input(self, name: str, shape: Sequence[int], kind: str = "real", batch: bool = False) -> SymbolicTensor:
        shape = (self.rows, *shape[1:]) if batch else tuple(shape)
        value = self.graph.input(name, shape, kind, batch)
        self.tape.append(("input", shape, kind, batch))
        return SymbolicTensor(self, value)

    def apply(
        self,
        op: str,
        inputs: Sequence[Any],
        attrs: dict[str, Any] | None = None,
        index: tuple[int, ...] = (),
        path: str | None = None,
    ) -> list[SymbolicTensor]:
        """Record one node. index: the positions of inputs that hold class numbers."""
        attrs = attrs or {}
        path = self.path if path is None else path
        values = [self.operand(x, "index" if i in index else "real", op) for i, x in enumerate(inputs)]
        try:
            outputs = self.graph.apply(op, values, attrs, path)
        except (TypeError, ValueError) as error:  # the engine knows the nominal number of rows only
            raise type(error)(re.sub(rf"\b{self.rows}\b", "batch", str(error)) if self.rows else str(error)) from None
        self.tape.append((op, tuple(values), freeze(attrs), path))
        return [SymbolicTensor(self, v) for v in outputs]

    def operand(self, x: Any, kind: str, where: str) -> int:
        """Return the graph's value for a tensor, a parameter, a number or an array from outside."""
        if isinstance(x, SymbolicTensor):
            if x.recording is not self:
                raise ValueError(
                    f"[{where}] a symbolic tensor of another recording came in: it was kept from an "
                    "earlier call, or an outer transform's tensor was used inside an inner one"
                )
            return x.resolve(kind)
        if isinstance(x, Operators):
            return x.tensor().resolve(kind)  # type: ignore[attr-defined]
        if arrays.is_number(x) and kind == "real":
            return self._number(float(x))
        return self._capture(x, kind, where)

    def tensor(self, x: Any) -> SymbolicTensor:
        """Return x as a tensor of this recording: itself, or an array captured as real numbers."""
        return x if isinstance(x, SymbolicTensor) else SymbolicTensor(self, self.operand(x, "real", "input"))

    def unique_path(self) -> str:
        """Return the current path, numbered when it is used again: random masks are keyed by it."""
        path = self.path
        self.calls[path] = count = self.calls.get(path, 0) + 1
        return path if count == 1 else f"{path}#{count}"

    @contextmanager
    def within(self, path: str) -> Iterator[None]:
        """Record what follows under a layer's path."""
        self.scope.append(path)
        try:
            yield
        finally:
            self.last_layer = self.scope.pop() or self.last_layer

    def bind(self, net: Module) -> None:
        """Give every module, parameter and buffer of a network its path."""
        self._keep.append(net)
        for path, part in net.named_parts():
            self.names.setdefault(id(part), path)

    def enter(self, module: Module) -> None:
        """Name a module that is called; one outside the network may only hold no parameters."""
        if id(module) in self.names:
            return
        if any(True for _ in module.named_parameters()) or any(True for _ in module.named_buffers()):
            raise ValueError(
                f"{type(module).__name__} holds parameters but is no part of the network: assign it to an "
                "attribute of the network in __init__, or call it through nn.functional_call"
            )
        self._keep.append(module)
        for path, part in module.named_modules():
            self.names.setdefault(id(part), ".".join(filter(None, (self.path, type(module).__name__, path))))

    def leave(self, module: Module, output: Any) -> None:
        """Note what a layer without layers inside returned, for the network's table."""
        if isinstance(output, SymbolicTensor) and not any(True for _ in module.children()):
            self.layers.append((self.names[id(module)], type(module).__name__, output.shape))

    def resolve_parameter(self, parameter: Parameter, shape: tuple[int, ...]) -> SymbolicTensor:
        """Return a parameter's tensor, recording it at its first use."""
        name = self._name_of(parameter)
        if self.functional:
            return self._given(name, shape)
        if name not in self.parameters:
            value = self.graph.parameter(name, shape, parameter.trainable)
            self.parameters[name] = (parameter, SymbolicTensor(self, value))
        return self._same_shape(name, self.parameters[name][1], shape)

    def resolve_buffer(self, buffer: Buffer, shape: tuple[int, ...]) -> SymbolicTensor:
        """Return a buffer's tensor, recording it at its first use; after an update, what it was updated to."""
        name = self._name_of(buffer)
        if name in self.updated:
            return self._same_shape(name, self.updated[name], shape)
        if self.functional:
            if name in self.given or not self.train:
                return self._given(name, shape)
            return SymbolicTensor(self, self.operand(np.full(shape, buffer.value, np.float32), "real", name))
        if name not in self.buffers:
            self.buffers[name] = (buffer, SymbolicTensor(self, self.graph.buffer(name, shape)))
        return self._same_shape(name, self.buffers[name][1], shape)

    def update_buffer(self, buffer: Buffer, value: SymbolicTensor) -> None:
        """Let value replace a buffer: at once for what is recorded later, at the end of a training step for good.

        A function keeps no state, so there it ends with the recording; in evaluation nothing happens.
        Raises: ValueError for a value of another shape than the buffer's.
        """
        if not self.train:
            return
        name, value = self._name_of(buffer), self.tensor(value)
        if self.session and not self.functional:
            self.resolve_buffer(buffer, buffer.shape or value.graph_shape)
            self.graph.update_buffer(self.buffers[name][1].resolve("real"), value.resolve("real"))
        self.updated[name] = value

    @contextmanager
    def functional_network(self, net: Module, given: dict[str, Any], train: bool) -> Iterator[None]:
        """Record a network whose parameters a caller gives by name."""
        saved = self.names, self.given, self.functional, self.train, self.calls, self.updated
        self.names, self.given, self.functional, self.train, self.calls, self.updated = {}, given, True, train, {}, {}
        self.bind(net)
        try:
            yield
        finally:
            self.names, self.given, self.functional, self.train, self.calls, self.updated = saved

    def limit_labels(self, tensor: Any, classes: int, path: str) -> None:
        """Note that an input holds class numbers below `classes`, so that they can be checked as they come in."""
        if isinstance(tensor, SymbolicTensor):
            self.label_limits[tensor.resolve("index")] = (classes, path)

    def _name_of(self, part: Any) -> str:
        name = self.names.get(id(part))
        if name is None:
            raise ValueError(f"{part!r} is no part of the network: assign it to an attribute of a module in __init__")
        return name

    def _given(self, name: str, shape: tuple[int, ...]) -> SymbolicTensor:
        if name not in self.given:
            raise ValueError(
                f"[functional_call] no value for {name!r} {shape} was given; given are "
                f"{', '.join(sorted(self.given)) or 'none'}"
            )
        return self._same_shape(name, SymbolicTensor(self, self.operand(self.given[name], "real", name)), shape)

    def _same_shape(self, name: str, tensor: SymbolicTensor, shape: tuple[int, ...]) -> SymbolicTensor:
        if tuple(tensor.shape) != tuple(shape):
            raise ValueError(
                f"[{self.path}] parameter {name!r} has shape {tuple(tensor.shape)}, this input needs {shape}"
            )
        return tensor

    def _number(self, x: float) -> int:
        if x not in self._numbers or x == 0:  # 0.0 and -0.0 are equal but differ
            self._numbers[x] = self.graph.constant(x)
            self.tape.append(("constant", repr(x)))
        return self._numbers[x]

    def _capture(self, x: Any, kind: str, where: str) -> int:
        known = self._seen.get((id(x), kind))
        if known is not None:
            return known
        array = arrays.index(x, where) if kind == "index" else arrays.as_numpy(x, where)
        value = self._keep_constant(array, where) if self.session else self._keep_array(array, kind)
        self._keep.append(x)
        self._seen[id(x), kind] = value
        return value

    def _keep_array(self, array: np.ndarray, kind: str) -> int:
        value = self.graph.input(f"captured.{len(self.captured)}", array.shape, kind, False)
        self.captured.append((array, kind, value))
        self.tape.append(("captured", array.shape, kind))
        return value

    def _keep_constant(self, array: np.ndarray, where: str) -> int:
        if array.dtype.kind in "iu" and where in ("cross_entropy", "correct"):
            raise TypeError(f"[{where}] the labels are an array inside the network: give them as the target")
        array = np.require(array, np.float64, ("C", "A"))
        name = "constant." + hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()[:16]
        if name not in self.constants:
            self.constants[name] = (array, self.graph.buffer(name, array.shape))
        return self.constants[name][1]


def freeze(attrs: dict[str, Any]) -> tuple[Any, ...]:
    """Return attributes as a hashable key."""
    return tuple((k, tuple(v) if isinstance(v, (list, tuple)) else v) for k, v in sorted(attrs.items()))


class _Stack(threading.local):
    def __init__(self) -> None:
        self.items: list[Recording] = []


_stack = _Stack()


def current() -> Recording | None:
    """Return the innermost recording of this thread, None outside of all."""
    return _stack.items[-1] if _stack.items else None


def active(r: Recording) -> bool:
    """Tell whether this thread is recording r now."""
    return any(item is r for item in _stack.items)


@contextmanager
def recording(r: Recording) -> Iterator[Recording]:
    """Make r the current recording of this thread."""
    _stack.items.append(r)
    try:
        yield r
    finally:
        _stack.items.pop()
