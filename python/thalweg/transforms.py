"""Function transforms: exact derivatives of any function composed of thalweg.ops.

Arguments are arrays or nested dicts, lists and tuples of arrays, and results have the same structure. A call records
the function (so Python's own control flow and the arrays that it closes over are always up to date) and runs a compiled
program, which is built once for each recorded graph. Float arrays are recorded; arrays of integers are handed to the
function as they are, to be used as labels: vjp, jvp and hvp have None in their places. Forward derivatives run on dual
numbers: no finite differences anywhere.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import _core, arrays, ops, tree
from .ops.dispatch import Cache
from .symbolic import Operators, Recording, SymbolicTensor, recording

_compiled = Cache(128)


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """Return the function that computes the gradient of f with respect to arguments.

    f: returns a scalar. argnums: the position of the argument, or several.
    Returns: a function of f's arguments; its result has the argument's structure (a tuple of these for several
    argnums). What is given by keyword goes to f as it is and is not differentiated.
    Raises (when called): ValueError if f's result is no scalar or a position is out of range; TypeError for arguments
    that are no real arrays. Cost: about 3 times f.
    """
    both = value_and_grad(f, argnums)
    return lambda *args, **options: both(*args, **options)[1]


def value_and_grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """Return the function that computes (f's value, gradient). Arguments and Raises as grad."""

    def compute(*args: Any, **options: Any) -> tuple[Any, Any]:
        program = Program(functools.partial(f, **options) if options else f, args, argnums, "grad")
        values, _ = program.run("grad", _gradient)
        return values[0], program.in_arguments(values[1:])

    return compute


def vjp(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """Return (f(*primals), pullback): pullback(cotangent) is cotangent' J, a tuple with one part per argument, None for
    arrays of integers.

    cotangent: of the structure and shapes of f's result.
    Raises: ValueError for another structure or shape; TypeError for arguments that are no real arrays.
    """
    primals = tree.map_leaves(_own, primals)  # what the caller does to the arrays later does not move the point
    program = Program(f, primals, None, "vjp")
    values, _ = program.run("value", lambda p: p.outputs)

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        again = Program(f, primals, None, "vjp")
        given = tree.flatten_as(again.out_structure, cotangent, "vjp", "the cotangent")
        return again.in_arguments(again.run("vjp", lambda p: _pull(p, given))[0])

    return program.in_outputs(values), pullback


def jvp(f: Callable[..., Any], primals: Any, tangents: Any) -> tuple[Any, Any]:
    """Return (f(*primals), J tangents), the derivative along the tangents, on dual numbers.

    primals: f's arguments as a tuple or list, or its one argument if that is neither. tangents: of the same structure
    and shapes, None for arrays of integers.
    Raises: ValueError if tangents differ from primals in structure or shape; TypeError for arguments that are no real
    arrays. Cost: about 3 times f.
    """
    primals, bare = as_arguments(primals)
    program = Program(f, primals, None, "jvp")
    values, derived = program.run("value", lambda p: p.outputs, (tangents,) if bare else tangents)
    return program.in_outputs(values), program.in_outputs(derived)


def hvp(f: Callable[..., Any], primals: Any, tangents: Any) -> Any:
    """Return the Hessian of f at the primals times the tangents, exactly: the gradient run on dual numbers.

    f: returns a scalar; batch norm in training mode differentiates its statistics. primals, tangents: as jvp's.
    Returns: the structure of primals, a tuple for a list, with None for arrays of integers.
    Raises: as jvp; ValueError if f's result is no scalar. Cost: about 3 times the gradient.
    """
    primals, bare = as_arguments(primals)
    program = Program(f, primals, None, "hvp")
    _, derived = program.run("grad", _gradient, (tangents,) if bare else tangents)
    parts = program.in_arguments(derived[1:])
    return parts[0] if bare else parts


def evaluate(f: Callable[..., Any], *args: Any) -> Any:
    """Return f(*args), recorded and run as one program. Arguments and Raises as jvp."""
    program = Program(f, args, (), "evaluate")
    return program.in_outputs(program.run("value", lambda p: p.outputs)[0])


def trace(f: Callable[..., Any], *args: Any) -> Program:
    """Return f recorded at the arguments, to be run many times: change the program's `arrays` in between."""
    program = Program(f, args, (), "trace")
    program.wrt = [program.inputs]
    return program


def as_arguments(args: Any) -> tuple[tuple[Any, ...], bool]:
    """Return (arguments, False) for a tuple or list, ((args,), True) for what can only be one argument."""
    return (tuple(args), False) if isinstance(args, (tuple, list)) else ((args,), True)


class Program:
    """A function recorded at given arguments. argnums None: all arguments, but for arrays of integers."""

    def __init__(
        self, f: Callable[..., Any], args: tuple[Any, ...], argnums: int | Sequence[int] | None, where: str
    ) -> None:
        self.where = where
        self.every = argnums is None
        self.single = argnums is not None and not isinstance(argnums, (tuple, list))
        self.argnums = _positions(range(len(args)) if argnums is None else argnums, len(args), where)
        self.recording = Recording()
        self.arrays: list[Any] = []  # the recorded arguments' arrays
        self.inputs: list[int] = []  # their values in the graph
        self.structures: list[Any] = []
        self._inputs_of: dict[int, list[int]] = {}  # of each differentiated argument
        tensors = [self._argument(i, arg) for i, arg in enumerate(args)]
        self.wrt = [self._inputs_of[position] for position in self.argnums]
        if self.every and not self.inputs:
            raise TypeError(f"[{where}] no argument is a number or an array of floats, so there is no derivative")
        with recording(self.recording):
            result = _called(f, tensors, where)
        self._take_result(result)

    def _argument(self, position: int, arg: Any) -> Any:
        leaves, structure = tree.flatten(arg)
        chosen = position in self.argnums
        tensors = [self._leaf(leaf, chosen) for leaf in leaves]
        recorded = [t for t in tensors if isinstance(t, SymbolicTensor)]
        if chosen:
            self._inputs_of[position] = [t.resolve("real") for t in recorded]
        places = [tree.LEAF if isinstance(t, SymbolicTensor) else None for t in tensors]
        self.structures.append(tree.unflatten(structure, places))
        return tree.unflatten(structure, tensors)

    def _leaf(self, leaf: Any, differentiated: bool) -> Any:
        name = f"argument {len(self.arrays)}"
        if isinstance(leaf, Operators):
            raise TypeError(f"[{self.where}] {name} is symbolic: transforms can't be nested")
        if not differentiated and (isinstance(leaf, (str, bytes)) or callable(leaf)):
            return leaf
        array = leaf if arrays.is_number(leaf) else arrays.as_numpy(leaf, self.where, name)
        if (self.every or not differentiated) and isinstance(array, np.ndarray) and array.dtype.kind != "f":
            return leaf
        self.arrays.append(array)
        tensor = self.recording.input(name, np.shape(array))
        self.inputs.append(tensor.resolve("real"))
        return tensor

    def _take_result(self, result: Any) -> None:
        leaves, self.out_structure = tree.flatten(result)
        if not leaves:
            raise ValueError(f"[{self.where}] the function returned no array")
        self.outputs = [self.recording.operand(leaf, "real", self.where) for leaf in leaves]

    def run(self, kind: str, outputs: Callable[[Program], list[int]], tangents: Any = None) -> Any:
        """Run the program with the given outputs; (values, tangents of the values or None)."""
        given = None if tangents is None else self._tangents(tangents)
        extra = outputs(self) if kind == "vjp" else None  # adds its own inputs before the key is taken
        dtype = arrays.common_dtype([*self.arrays, *(a for a, k, _ in self.recording.captured if k == "real")])
        key = (
            kind,
            dtype,
            tangents is not None,
            tuple(self.recording.tape),
            tuple(self.outputs),
            tuple(map(tuple, self.wrt)),
        )
        function = _compiled.get(key, lambda: self._compile(extra or outputs(self), dtype, tangents is not None))
        values = self._values(dtype)
        seed, step = self.recording.random or (0, 0)
        if given is None:
            return function(values, None, seed, step), None
        return function(values, self._planes(given, values, dtype), seed, step)

    def value(self) -> list[np.ndarray]:
        """Return the function's results at the program's arrays."""
        return self.run("value", lambda p: p.outputs)[0]  # type: ignore[no-any-return]

    def gradient(self) -> list[np.ndarray]:
        """Return the gradient of the scalar result with respect to each of the program's arrays."""
        return self.run("grad", _gradient)[0][1:]  # type: ignore[no-any-return]

    def _compile(self, outputs: list[int], dtype: str, dual: bool) -> Any:
        inputs = self.inputs + [value for _, _, value in self.recording.captured]
        return _core.Function(self.recording.graph, inputs, outputs, dtype, dual)

    def _values(self, dtype: str) -> list[np.ndarray]:
        own = [arrays.real(a, dtype, self.where) for a in self.arrays]
        return own + [
            arrays.index(a, self.where) if kind == "index" else arrays.real(a, dtype, self.where)
            for a, kind, _ in self.recording.captured
        ]

    def _tangents(self, tangents: Any) -> dict[int, Any]:
        """Return the tangent of each differentiated input, checked."""
        if not isinstance(tangents, (tuple, list)) or len(tangents) != len(self.structures):
            raise ValueError(
                f"[{self.where}] tangents must be a tuple with one entry per primal, {len(self.structures)} in all"
            )
        found: dict[int, Any] = {}
        for structure, tangent, inputs in zip(self.structures, tangents, self.wrt, strict=True):
            leaves = tree.flatten_as(structure, tangent, self.where, "a tangent (None for arrays of integers)")
            found.update(zip(inputs, leaves, strict=True))
        for value, array in zip(self.inputs, self.arrays, strict=True):
            if np.shape(found[value]) != np.shape(array):
                raise ValueError(
                    f"[{self.where}] a tangent has shape {np.shape(found[value])}, expected {np.shape(array)}"
                )
        return found

    def _planes(self, given: dict[int, Any], values: list[np.ndarray], dtype: str) -> list[np.ndarray | None]:
        own: list[np.ndarray | None] = [arrays.real(given[v], dtype, self.where, "the tangent") for v in self.inputs]
        return own + [None] * (len(values) - len(own))  # what f closes over stands still

    def in_arguments(self, values: Sequence[Any]) -> Any:
        """Put one value for each differentiated input into the arguments' structures."""
        parts, rest = [], list(values)
        for position, inputs in zip(self.argnums, self.wrt, strict=True):
            parts.append(tree.unflatten(self.structures[position], rest[: len(inputs)]))
            rest = rest[len(inputs) :]
        return parts[0] if self.single else tuple(parts)

    def in_outputs(self, values: Sequence[Any]) -> Any:
        return tree.unflatten(self.out_structure, values)


def _called(f: Callable[..., Any], args: list[Any], where: str) -> Any:
    """Return f(*args); a TypeError says how arguments are given where f can't take so many."""
    try:
        return f(*args)
    except TypeError:
        if _takes(f, args):
            raise
    raise TypeError(
        f"[{where}] the function can't be called with {len(args)} positional arguments: a tuple or list holds its "
        "arguments one by one, (x,) for a single one"
    )


def _takes(f: Callable[..., Any], args: list[Any]) -> bool:
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):
        return True  # nobody knows
    try:
        signature.bind(*args)
    except TypeError:
        return False
    return True


def _gradient(program: Program) -> list[int]:
    [output, *others] = program.outputs
    shape = program.recording.graph.shape(output)
    if others or shape != ():
        what = f"{len(others) + 1} arrays" if others else f"an array of shape {tuple(shape)}"
        raise ValueError(f"[{program.where}] the function returned {what}, expected one scalar")
    return [output, *program.recording.graph.gradient(output, [v for part in program.wrt for v in part])]


def _pull(program: Program, cotangents: list[Any]) -> list[int]:
    """Record d (sum of outputs times cotangents) / d arguments, the cotangents being inputs of the program."""
    parts = []
    with recording(program.recording):
        for value, cotangent in zip(program.outputs, cotangents, strict=True):
            output = SymbolicTensor(program.recording, value)
            if np.shape(cotangent) != output.shape:
                raise ValueError(f"[vjp] the cotangent has shape {np.shape(cotangent)}, expected {output.shape}")
            parts.append(ops.sum(output * cotangent))
        total = functools.reduce(ops.add, parts)
    return program.recording.graph.gradient(total.resolve("real"), [v for part in program.wrt for v in part])


def _own(leaf: Any) -> Any:
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def _positions(argnums: int | Sequence[int], count: int, where: str) -> list[int]:
    positions = list(argnums) if isinstance(argnums, (tuple, list, range)) else [argnums]
    for a in positions:
        if isinstance(a, bool) or not isinstance(a, int) or not 0 <= a < count:
            raise ValueError(f"[{where}] argnums holds {a!r}, expected positions in [0, {count})")
    return positions  # type: ignore[return-value]
