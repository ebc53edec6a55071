"""Inverted dropout. Source: Srivastava et al. 2014."""

from __future__ import annotations

from typing import Any

from .axes import integer, number
from .dispatch import Array, apply, recording_of


def dropout(x: Array, p: float, *, seed: int = 0, step: int = 0) -> Array:
    """Set elements to 0 with probability p and scale the others by 1 / (1 - p); the same call gives the same mask.

    The mask is keyed by (seed, step, layer path, row of the batch, index in the row), whatever the threads and ranks.
    Inside a network's training step the run's own seed and step count; there every call has a mask of its own.
    Shapes: any. dtypes: float32 or float64.
    Returns: y, of x's shape.
    Raises: TypeError for arrays that are no real numbers, p that is no number; ValueError for p outside [0, 1].
    """
    p = number(p, "dropout", "p", 0, 1)
    random = (integer(seed, "dropout", "seed", 0), integer(step, "dropout", "step", 0))
    recording = recording_of([x], "dropout")
    path = None
    if recording is not None:
        path = _note(recording, random)
    return apply("dropout", [x], {"p": p}, path=path, random=random)[0]


def _note(recording: Any, random: tuple[int, int]) -> str:
    """Return the path that keys the mask, and note the key of a function that is recorded."""
    if recording.session or recording.functional:
        return recording.unique_path()
    if recording.random not in (None, random):
        raise ValueError(f"[dropout] one function uses (seed, step) = {recording.random} and {random}: use one for all")
    recording.random = random
    return recording.path
