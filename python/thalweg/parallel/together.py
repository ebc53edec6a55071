"""What ranks that are processes decide and do together."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

CHECKPOINT_SECONDS = 600.0  # that the others wait for rank 0 to save


def agree(comm: Any, asked: int, stop: bool, pace: float) -> tuple[float, float, float]:
    """Return the largest signal number that came to any rank, whether any wants to stop, and rank 0's pace."""
    found = comm.all_gather(np.array([asked, stop, pace], "f8"))
    return float(found[:, 0].max()), float(found[:, 1].max()), float(found[0, 2])


def once(comm: Any, action: Callable[[], Path]) -> Path:
    """Let rank 0 do what gives a path; every rank returns it, when it is done. comm None: just do it.

    Raises: what the action raises; on the other ranks an OSError that says the same.
    """
    if comm is None:
        return action()
    error: BaseException | None = None
    told: dict[str, Any] = {}
    if comm.rank == 0:
        try:
            told = {"path": os.fspath(action())}
        except Exception as caught:
            error, told = (
                caught,
                {"error": f"{type(caught).__name__}: {caught}"[:300], "errno": getattr(caught, "errno", None)},
            )
    with _patient(comm):
        found = json.loads(comm.gather_texts(json.dumps(told))[0])
    if error is not None:
        raise error
    if "error" in found:
        raise OSError(found["errno"] or 0, f"rank 0 failed: {found['error']}")
    return Path(found["path"])


@contextmanager
def _patient(comm: Any) -> Iterator[None]:
    limit = comm.limit
    comm.limit = max(limit, CHECKPOINT_SECONDS)
    try:
        yield
    finally:
        comm.limit = limit
