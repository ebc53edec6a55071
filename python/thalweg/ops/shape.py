"""Rearrangements: reshape, transpose, concat, stack, split, slice, squeeze, expand_dims, flatten, broadcast_to.

dtypes: as x. A symbolic batch axis stays axis 0: what would move, cut or join it is refused.
Returns: an array of the caller's own, never the argument itself, or a symbolic tensor; split returns a list.
Raises: TypeError for arrays that are no real numbers; ValueError for shapes, axes or bounds that don't fit.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

from .. import arrays
from ..symbolic import BATCH, Operators
from .axes import extents_of, integer, normalise, single
from .dispatch import Array, apply, batched, materialise, one, recording_of, shape_of


def reshape(x: Array, shape: Any) -> Array:
    """Give x another shape with the same number of elements; one extent may be -1. Of a batch, axis 0 stays."""
    return one("reshape", x, shape=extents_of(shape, "reshape"))


def flatten(x: Array) -> Array:
    """Join all axes but the first: (n, a, b, c) -> (n, a b c)."""
    [x] = materialise([x], "flatten")
    extents = shape_of(x, "flatten")
    if not extents:
        raise ValueError("[flatten] x has no axes, expected at least 1")
    size = 1
    for extent in extents[1:]:
        size *= extent
    return one("reshape", x, shape=[-1 if extents[0] is BATCH else extents[0], size])


def transpose(x: Array, axes: Sequence[int] | None = None) -> Array:
    """Permute the axes; reversed if none are given. The batch axis of a symbolic tensor stays first."""
    [x] = materialise([x], "transpose")
    rank = len(shape_of(x, "transpose"))
    order = list(range(rank))[::-1] if axes is None else [single(a, rank, "transpose") for a in axes]
    if sorted(order) != list(range(rank)):
        raise ValueError(f"[transpose] axes {tuple(order)} is no permutation of {tuple(range(rank))}")
    return one("transpose", x, axes=order)


def concat(xs: Sequence[Array], axis: int = 0) -> Array:
    """Join arrays along an axis; all other extents are equal."""
    if not isinstance(xs, (tuple, list)) or not xs:
        raise TypeError("[concat] xs must be a list of at least one array")
    xs = materialise(xs, "concat")
    return apply("concat", xs, {"axis": single(axis, len(shape_of(xs[0], "concat")), "concat")})[0]


def stack(xs: Sequence[Array], axis: int = 0) -> Array:
    """Join arrays of one shape along a new axis."""
    if not isinstance(xs, (tuple, list)) or not xs:
        raise TypeError("[stack] xs must be a list of at least one array")
    xs = materialise(xs, "stack")
    if recording_of(xs, "stack") is None:  # one dtype before anything is converted
        dtype = arrays.common_dtype(xs)
        xs = [arrays.real(x, dtype, "stack") for x in xs]
    shapes = [shape_of(x, "stack") for x in xs]
    for shape in shapes:
        if shape != shapes[0]:
            raise ValueError(f"[stack] an array has shape {shape}, expected {shapes[0]} as the first")
    at = single(axis, len(shapes[0]) + 1, "stack")
    return apply("concat", [_expand(x, [at], "stack") for x in xs], {"axis": at})[0]


def expand_dims(x: Array, axis: int | Sequence[int]) -> Array:
    """Put in axes of extent 1, at these places of the result."""
    [x] = materialise([x], "expand_dims")
    added = len(axis) if isinstance(axis, (tuple, list)) else 1
    return _expand(x, normalise(axis, len(shape_of(x, "expand_dims")) + added, "expand_dims"), "expand_dims")


def squeeze(x: Array, axis: int | Sequence[int] | None = None) -> Array:
    """Take out axes of extent 1: all of them, or the given ones."""
    [x] = materialise([x], "squeeze")
    extents = shape_of(x, "squeeze")
    if axis is None:
        axes = [a for a, extent in enumerate(extents) if extent == 1]
    else:
        axes = normalise(axis, len(extents), "squeeze")
    for a in axes:
        if extents[a] != 1:
            raise ValueError(f"[squeeze] axis {a} of x {extents} has extent {extents[a]}, expected 1")
    return reshape(x, [extent for a, extent in enumerate(extents) if a not in axes])


def split(x: Array, sizes_or_sections: int | Sequence[int], axis: int = 0) -> list[Array]:
    """Cut along an axis, into equal sections (an integer) or into the given sizes, which add up to the extent."""
    [x] = materialise([x], "split")
    extents = shape_of(x, "split")
    at = single(axis, len(extents), "split")
    sizes = _sizes(sizes_or_sections, integer(extents[at], "split", "extent"))
    return apply("split", [x], {"axis": at, "sizes": sizes})


def slice(x: Array, begin: Sequence[int], end: Sequence[int], step: Sequence[int] | None = None) -> Array:
    """Take x[begin[0]:end[0]:step[0], ...]: one entry per axis, negative bounds count from the end, step >= 1."""
    [x] = materialise([x], "slice")
    extents = shape_of(x, "slice")
    step = [1] * len(extents) if step is None else step
    if not len(begin) == len(end) == len(step) == len(extents):
        raise ValueError(
            f"[slice] begin, end and step have {len(begin)}, {len(end)} and {len(step)} entries, expected "
            f"{len(extents)}: one per axis"
        )
    return _slice(x, [_range(*part) for part in zip(begin, end, step, extents, strict=True)])


def index(x: Array, at: Any) -> Array:
    """Take x[at] with integers (which drop their axis), slices of positive step, ... and None. What [] of tensors
    does."""
    [x] = materialise([x], "index")
    extents = shape_of(x, "index")
    entries = _entries(at if isinstance(at, tuple) else (at,), len(extents))
    ranges: list[tuple[int, int, int]] = []
    result: list[int] = []
    for entry in entries:
        if entry is None:
            result.append(1)
            continue
        extent = extents[len(ranges)]
        ranges.append(_entry(entry, extent))
        if isinstance(entry, builtins.slice):
            begin, end, step = ranges[-1]
            result.append(-1 if end < 0 else -(-(end - begin) // step))
    taken = _slice(x, ranges)
    return taken if len(result) == len(extents) and None not in entries else one("reshape", taken, shape=result)


def broadcast_to(x: Array, shape: Any) -> Array:
    """Repeat x along axes of extent 1 (and new leading axes) up to a shape."""
    return one("broadcast_to", x, shape=extents_of(shape, "broadcast_to"))


def _expand(x: Array, axes: Sequence[int], where: str) -> Array:
    extents = list(shape_of(x, where))
    if batched(x) and 0 in axes:
        raise ValueError(f"[{where}] axis 0 is the batch axis, which stays first: expected axis 1 or later")
    for a in axes:
        extents.insert(a, 1)
    return reshape(x, extents)


def _sizes(given: int | Sequence[int], extent: int) -> list[int]:
    if isinstance(given, (tuple, list)):
        sizes = [integer(v, "split", "size", 0) for v in given]
        if builtins.sum(sizes) != extent:
            raise ValueError(f"[split] sizes {tuple(sizes)} add up to {builtins.sum(sizes)}, the axis has {extent}")
        return sizes
    sections = integer(given, "split", "sections", 1)
    if extent % sections:
        raise ValueError(f"[split] an axis of {extent} can't be cut into {sections} equal sections")
    return [extent // sections] * sections


def _slice(x: Array, ranges: Sequence[tuple[int, int, int]]) -> Array:
    whole = (part == (0, extent, 1) or part[1] < 0 for part, extent in zip(ranges, shape_of(x, "slice"), strict=True))
    if isinstance(x, Operators) and all(whole):
        return x
    begin, end, step = ([part[i] for part in ranges] for i in range(3))
    return one("slice", x, begin=begin, end=end, step=step)


def _range(begin: Any, end: Any, step: Any, extent: Any) -> tuple[int, int, int]:
    """Bounds with negative ones counted from the end and cut to the extent; (0, -1, 1) is the whole batch."""
    step = 1 if step is None else integer(step, "slice", "step", 1)
    if extent is BATCH:
        if begin in (None, 0) and end in (None, BATCH) and step == 1:
            return 0, -1, 1
        raise ValueError("[slice] the batch axis can't be cut: its size is not known while recording")
    begin, end, _ = builtins.slice(begin, end, step).indices(extent)
    return begin, builtins.max(begin, end), step


def _entry(entry: Any, extent: Any) -> tuple[int, int, int]:
    if isinstance(entry, builtins.slice):
        return _range(entry.start, entry.stop, entry.step, extent)
    if extent is BATCH:
        raise ValueError("[index] the batch axis can't be indexed: its size is not known while recording")
    at = integer(entry, "index", "index")
    if not -extent <= at < extent:
        raise ValueError(f"[index] {at} is outside [{-extent}, {extent}), the extent of its axis")
    return at % extent, at % extent + 1, 1


def _entries(entries: tuple[Any, ...], rank: int) -> list[Any]:
    used = builtins.sum(entry is not None and entry is not Ellipsis for entry in entries)
    dots = builtins.sum(entry is Ellipsis for entry in entries)
    if used > rank or dots > 1:
        raise ValueError(f"[index] {used} entries and {dots} ellipses for an array with {rank} axes")
    whole = [builtins.slice(None)] * (rank - used)
    if not dots:
        return [*entries, *whole]
    at = next(i for i, entry in enumerate(entries) if entry is Ellipsis)
    return [*entries[:at], *whole, *entries[at + 1 :]]
