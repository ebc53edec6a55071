"""How every function of thalweg.ops reaches the engine: at once on arrays, as a node on symbolic tensors.

An eager call is a compiled graph of one node, cached by operator, shapes, dtype and attributes; there is no second
implementation. The caches belong to a thread, so several Python threads may compute at once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _core, arrays, fork
from ..symbolic import Operators, Recording, SymbolicTensor, active, current, freeze

Array = Any  # a NumPy array, a symbolic tensor, a number, or anything that thalweg.arrays takes
_CACHE_SIZE = 512


class Cache(threading.local):
    """A least-recently-used cache, one for each thread."""

    def __init__(self, size: int = _CACHE_SIZE) -> None:
        self.size = size
        self.items: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        found = self.items.get(key)
        if found is None:
            found = self.items[key] = make()
            if len(self.items) > self.size:
                self.items.popitem(last=False)
        else:
            self.items.move_to_end(key)
        return found


_functions = Cache()


def apply(
    op: str,
    inputs: Sequence[Array],
    attrs: dict[str, Any] | None = None,
    *,
    index: tuple[int, ...] = (),
    path: str | None = None,
    random: tuple[int, int] = (0, 0),
) -> list[Any]:
    """Run or record one operator; returns its outputs.

    index: positions of inputs that hold class numbers. random: (seed, step) of an eager call's random numbers.
    Raises: TypeError and ValueError of the operator's own checks and of thalweg.arrays.
    """
    recording = recording_of(inputs, op)
    if recording is not None:
        return recording.apply(op, inputs, attrs, index, path)
    return _run(op, inputs, attrs or {}, index, random)


def one(op: str, *inputs: Array, index: tuple[int, ...] = (), **attrs: Any) -> Any:
    """Run or record an operator with one output."""
    return apply(op, inputs, attrs, index=index)[0]


def recording_of(inputs: Sequence[Any], where: str = "ops") -> Recording | None:
    """Return the recording that the tensors among the inputs belong to, None if all are arrays.

    Raises: ValueError for a tensor whose recording has ended.
    """
    for x in inputs:
        if isinstance(x, SymbolicTensor):
            if not active(x.recording):
                raise ValueError(
                    f"[{where}] a symbolic tensor came in after its recording: it was kept from an earlier call, and "
                    "has no value; let the function or the network return what is needed"
                )
            return x.recording
        if isinstance(x, Operators):  # a parameter or buffer of a layer
            recording = current()
            if recording is None:
                raise TypeError(f"{x!r} has no value outside a network's forward: use it inside Module.forward")
            return recording
    return None


def shape_of(x: Array, where: str) -> tuple[Any, ...]:
    """Return the shape of an array or tensor; `batch` stands for a symbolic batch axis."""
    if isinstance(x, SymbolicTensor):
        return x.shape
    return x.tensor().shape if isinstance(x, Operators) else np.shape(arrays.as_numpy(x, where))  # type: ignore


def batched(x: Array) -> bool:
    """Tell whether axis 0 of x is the symbolic batch axis."""
    return isinstance(x, SymbolicTensor) and x.batched


def materialise(xs: Sequence[Array], where: str) -> list[Any]:
    """Replace array-like objects by arrays once, so that they are not converted twice."""
    return [x if isinstance(x, Operators) or arrays.is_number(x) else arrays.as_numpy(x, where) for x in xs]


def _run(op: str, inputs: Sequence[Any], attrs: dict[str, Any], index: tuple[int, ...], random: tuple[int, int]) -> Any:
    inputs = materialise(inputs, op)
    dtype = arrays.common_dtype(x for i, x in enumerate(inputs) if i not in index)
    ready = [arrays.index(x, op) if i in index else arrays.real(x, dtype, op) for i, x in enumerate(inputs)]
    key = (op, dtype, tuple(x.shape for x in ready), index, freeze(attrs))
    function = _functions.get(key, lambda: _compile(op, ready, attrs, index, dtype))
    return function(ready, None, *random)


def _compile(op: str, inputs: Sequence[np.ndarray], attrs: dict[str, Any], index: tuple[int, ...], dtype: str) -> Any:
    fork.check()
    graph = _core.Graph()
    values = [graph.input(f"in{i}", x.shape, "index" if i in index else "real") for i, x in enumerate(inputs)]
    return _core.Function(graph, values, graph.apply(op, values, attrs), dtype)
