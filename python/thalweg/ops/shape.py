"""Rearrangements: reshape, transpose, concat, split, slice, flatten, broadcast_to.

dtypes: as x. A symbolic batch axis stays axis 0: what would move, cut or join it is refused.
Returns: an array, or a symbolic tensor; split returns a list.
Raises: TypeError for arrays that are no real numbers; ValueError for shapes, axes or bounds that don't fit.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

from ..symbolic import BATCH
from .axes import extents_of, integer, single
from .dispatch import Array, apply, materialise, one, shape_of


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
    entries = _expand(at if isinstance(at, tuple) else (at,), len(extents))
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
    if all(part == (0, extent, 1) or part[1] < 0 for part, extent in zip(ranges, shape_of(x, "slice"), strict=True)):
        return x
    begin, end, step = (list(part) for part in zip(*ranges, strict=True))
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


def _expand(entries: tuple[Any, ...], rank: int) -> list[Any]:
    used = builtins.sum(entry is not None and entry is not Ellipsis for entry in entries)
    dots = builtins.sum(entry is Ellipsis for entry in entries)
    if used > rank or dots > 1:
        raise ValueError(f"[index] {used} entries and {dots} ellipses for an array with {rank} axes")
    whole = [builtins.slice(None)] * (rank - used)
    if not dots:
        return [*entries, *whole]
    at = next(i for i, entry in enumerate(entries) if entry is Ellipsis)
    return [*entries[:at], *whole, *entries[at + 1 :]]
