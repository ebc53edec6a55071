"""Turns what a caller gives as x and y into the arrays of a plan, with complete checks."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core, arrays
from .record import DataSpec, Recorded, Spec, needs_two_rows


def as_arrays(x: Any, where: str, name: str) -> list[np.ndarray]:
    """Return one array, or the arrays of a tuple. Raises: TypeError as thalweg.arrays; ValueError for a scalar."""
    parts = x if isinstance(x, tuple) else (x,)
    found = [arrays.as_numpy(part, where, _numbered(name, i)) for i, part in enumerate(parts)]
    for i, array in enumerate(found):
        if array.ndim == 0:
            raise ValueError(f"[{where}] {_numbered(name, i)} is a scalar, expected an array whose axis 0 is the batch")
    return found


def data_spec(x: Any, y: Any, where: str) -> DataSpec:
    """Return what x and y look like. Raises: TypeError, ValueError where they can't be one batch of anything."""
    if y is None:
        raise TypeError(f"[{where}] y is None, expected the targets")
    named = [(name, as_arrays(given, where, name)) for name, given in (("x", x), ("y", y))]
    rows = named[0][1][0].shape[0] if named[0][1] else 0
    for name, parts in named:
        if not parts:
            raise ValueError(f"[{where}] {name} is an empty tuple, expected arrays")
        for i, part in enumerate(parts):
            check_rows(part, where, _numbered(name, i), rows)
    inputs, targets = ([Spec.of(a) for a in parts] for _, parts in named)
    return DataSpec(inputs, targets, isinstance(y, tuple))


class Door:
    """Checks and converts batches for a network that was built for certain rows.

    accumulate: the pieces that a batch is computed in, each of which is normalised on its own.
    """

    def __init__(self, data: DataSpec, recorded: Recorded, dtype: str, accumulate: int) -> None:
        self.inputs, self.targets, self.dtype = data.inputs, data.targets, dtype
        self.accumulate, self.norm = accumulate, needs_two_rows(recorded.recording)
        self._real = np.dtype(dtype)
        self.kinds, self.limits = recorded.kinds, recorded.limits

    def step(self, x: Any, y: Any) -> list[np.ndarray]:
        """Return all inputs of one step, not searched for NaN. Raises: as x and y."""
        xs = [x] if self._ready(x, self.inputs) else self.x(x, "step", finite=False)
        rows = xs[0].shape[0]
        if self.norm is not None:
            self.check_batch(rows, "step", "the batch")
        ready = self._ready_y(y, rows)
        return [*xs, ready] if ready is not None else xs + self.y(y, rows, "step", finite=False)

    def x(self, x: Any, where: str, finite: bool = True) -> list[np.ndarray]:
        """Return the network's inputs. Raises: TypeError, ValueError naming what is wrong and what is expected."""
        parts = as_arrays(x, where, "x")
        if len(parts) != len(self.inputs):
            raise ValueError(f"[{where}] x has {len(parts)} arrays, the network was built for {len(self.inputs)}")
        for i, (part, spec) in enumerate(zip(parts, self.inputs, strict=True)):
            self._check_rows(part, spec, where, _numbered("x", i), parts[0].shape[0])
            if finite:
                arrays.finite(part, where, _numbered("x", i))
        return [arrays.real(part, self.dtype, where) for part in parts]

    def y(self, y: Any, rows: int, where: str, finite: bool = True) -> list[np.ndarray]:
        """Return the targets; class numbers are checked against the outputs of their layer."""
        if y is None:
            raise TypeError(f"[{where}] y is None, expected the targets")
        parts = as_arrays(y, where, "y")
        if len(parts) != len(self.targets):
            raise ValueError(f"[{where}] y has {len(parts)} arrays, the network was built for {len(self.targets)}")
        return [self._one_y(i, part, rows, where, finite) for i, part in enumerate(parts)]

    def check_batch(self, rows: int, where: str, what: str) -> None:
        """Raise ValueError for a batch of training that leaves a batch norm with one value per channel."""
        pieces = min(self.accumulate, rows)
        if self.norm is None or rows >= 2 * pieces:
            return
        cut = f" in {pieces} pieces (accumulate)" if pieces > 1 else ""
        raise ValueError(
            f"[{where}] {what} has {rows} row{'s' if rows > 1 else ''}{cut}: the batch norm of layer "
            f"{self.norm or '(net)'!r} needs at least 2 values per channel to train"
        )

    def check_epoch(self, rows: int, batch_size: int) -> None:
        """Raise ValueError, before an epoch starts, for what its first or its last batch would fail with."""
        advice = f"; {rows} rows by batch_size {batch_size} leave it: choose another batch_size"
        try:
            self.check_batch(min(batch_size, rows), "fit", "a batch")
            if rows % batch_size:
                self.check_batch(rows % batch_size, "fit", "the last batch")
        except ValueError as error:
            raise ValueError(f"{error}{advice}") from None

    def _ready(self, x: Any, specs: list[Spec]) -> bool:
        """Tell whether x is the one array of `specs` as the engine takes it: what most calls give, told quickly."""
        return (
            type(x) is np.ndarray
            and len(specs) == 1
            and x.dtype == self._real
            and x.ndim > 0
            and x.shape[0] > 0
            and x.shape[1:] == specs[0].shape
            and x.flags.c_contiguous
            and x.flags.aligned
        )

    def _ready_y(self, y: Any, rows: int) -> np.ndarray | None:
        """Return the one target as the engine takes it where no more than a look is needed, else None."""
        limit = self.limits[0]
        if limit is None or len(self.targets) > 1:
            return y if self.kinds[0] == "real" and self._ready(y, self.targets) and len(y) == rows else None
        plain = type(y) is np.ndarray and y.shape == (rows, *self.targets[0].shape)
        return _core.class_numbers(y, limit[0]) if plain else None

    def _one_y(self, i: int, part: np.ndarray, rows: int, where: str, finite: bool) -> np.ndarray:
        name = _numbered("y", i)
        if self.kinds[i] == "index" and part.dtype.kind not in "iu":
            raise TypeError(f"[{where}] {name} has dtype {part.dtype}, expected integers (class numbers)")
        self._check_rows(part, self.targets[i], where, name, rows)
        if self.kinds[i] == "real":
            if finite:
                arrays.finite(part, where, name)
            return arrays.real(part, self.dtype, where, name)
        limit = self.limits[i]
        return (
            arrays.labels(part, limit[0], "cross_entropy", limit[1], name) if limit else arrays.index(part, where, name)
        )

    def _check_rows(self, part: np.ndarray, spec: Spec, where: str, name: str, rows: int) -> None:
        if part.shape[1:] != spec.shape:
            raise ValueError(
                f"[{where}] {name} has shape {part.shape}, expected (rows, {', '.join(map(str, spec.shape))})".replace(
                    ", )", ",)"
                )
                + ": the network was built for rows of that shape"
            )
        check_rows(part, where, name, rows)


def check_rows(part: np.ndarray, where: str, name: str, rows: int) -> None:
    """Raise ValueError for an array that has not as many rows as x, or none."""
    if part.shape[0] != rows:
        raise ValueError(f"[{where}] {name} has {part.shape[0]} rows, x has {rows}")
    if rows == 0:
        raise ValueError(f"[{where}] {name} has no rows, expected at least 1")


def _numbered(name: str, i: int) -> str:
    return f"{name}[{i}]" if i else name
