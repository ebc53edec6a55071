"""Python's operators for everything that stands for a tensor while a network is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Operators:
    """Arithmetic as methods: + - * / ** @, unary -, comparisons, [], reshape, transpose, sum, mean, max, min."""

    __array_ufunc__: Any = None  # NumPy arrays leave `array + tensor` to the tensor
    __hash__ = object.__hash__

    def __add__(self, other: Any) -> Any:
        return _ops().add(self, other)

    def __radd__(self, other: Any) -> Any:
        return _ops().add(other, self)

    def __sub__(self, other: Any) -> Any:
        return _ops().sub(self, other)

    def __rsub__(self, other: Any) -> Any:
        return _ops().sub(other, self)

    def __mul__(self, other: Any) -> Any:
        return _ops().mul(self, other)

    def __rmul__(self, other: Any) -> Any:
        return _ops().mul(other, self)

    def __truediv__(self, other: Any) -> Any:
        return _ops().div(self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _ops().div(other, self)

    def __pow__(self, other: Any) -> Any:
        return _ops().pow(self, other)

    def __rpow__(self, other: Any) -> Any:
        return _ops().pow(other, self)

    def __matmul__(self, other: Any) -> Any:
        return _ops().matmul(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return _ops().matmul(other, self)

    def __neg__(self) -> Any:
        return _ops().neg(self)

    def __abs__(self) -> Any:
        return _ops().abs(self)

    def __gt__(self, other: Any) -> Any:
        return _ops().greater(self, other)

    def __ge__(self, other: Any) -> Any:
        return _ops().greater_equal(self, other)

    def __lt__(self, other: Any) -> Any:
        return _ops().less(self, other)

    def __le__(self, other: Any) -> Any:
        return _ops().less_equal(self, other)

    def __eq__(self, other: Any) -> Any:
        return _ops().equal(self, other)

    def __ne__(self, other: Any) -> Any:
        return _ops().not_equal(self, other)

    def __getitem__(self, at: Any) -> Any:
        return _ops().index(self, at)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        return _ops().sum(self, axis, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Any:
        return _ops().mean(self, axis, keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Any:
        return _ops().max(self, axis, keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Any:
        return _ops().min(self, axis, keepdims)

    def transpose(self, *axes: Any) -> Any:
        return _ops().transpose(self, _spread(axes) or None)

    def reshape(self, *shape: Any) -> Any:
        return _ops().reshape(self, _spread(shape))

    @property
    def T(self) -> Any:
        return _ops().transpose(self)

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("a symbolic tensor cannot be iterated over: use ops.split or x[...]")

    def __bool__(self) -> bool:
        raise TypeError("a symbolic tensor has no value yet, so Python cannot branch on it: use ops.where")

    def __float__(self) -> float:
        raise TypeError("a symbolic tensor has no value yet: it is being recorded, not run")


def _spread(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(args[0]) if len(args) == 1 and isinstance(args[0], (tuple, list)) else args


def _ops() -> Any:
    from . import ops

    return ops
