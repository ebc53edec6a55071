"""What ranks that are processes decide and do together."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..failure import exit_code
from . import environment

CHECKPOINT_SECONDS = 600.0  # that the others wait for rank 0 to save
STEPS = 20  # that ranks wait for one another at least
SAMPLED_ROWS = 64
MOST_TOLD = 1 << 16  # characters of an error; as JSON they fit into a text of gather_texts


def agree(comm: Any, asked: int, stop: bool, pace: float, waits: np.ndarray) -> tuple[float, float, float, np.ndarray]:
    """Return the largest signal number that came to any rank, whether any wants to stop, rank 0's pace, and the waits
    of all ranks. waits (2, steps): for whom this rank waited in each step, and how long.

    Slow steps may take ranks longer to come: the limit follows them.
    """
    found = comm.all_gather(np.concatenate([[asked, stop, pace], waits.ravel()]).astype("f8"))
    comm.limit = max(environment.seconds(environment.TIMEOUT, environment.STEP_SECONDS), STEPS * float(found[0, 2]))
    return (
        float(found[:, 0].max()),
        float(found[:, 1].max()),
        float(found[0, 2]),
        found[:, 3:].reshape(len(found), *waits.shape),
    )


class inside:
    """Lets messages of ranks that are processes say that what they do meanwhile belongs to a call of a trainer."""

    def __init__(self, comm: Any, call: str) -> None:
        self.comm, self.call = comm, call

    def __enter__(self) -> None:
        if self.comm is not None:
            self.before, self.comm.inside = self.comm.inside, self.call

    def __exit__(self, *_: object) -> None:
        if self.comm is not None:
            self.comm.inside = self.before


def check_fit(
    comm: Any, arrays: Sequence[np.ndarray], validation: Sequence[np.ndarray] | None, choices: dict[str, Any]
) -> None:
    """Raise ValueError on every rank where they fit different data (told by some of the rows) or otherwise."""
    if comm is None:
        return
    texts = {name: repr(value) for name, value in choices.items()}
    texts |= {f"input {i}": _told(array) for i, array in enumerate(arrays)}
    texts["validation_data"] = repr(None) if validation is None else "; ".join(map(_told, validation))
    comm.check_same("fit", texts)


def _told(array: np.ndarray) -> str:
    rows = np.linspace(0, len(array) - 1, SAMPLED_ROWS if len(array) else 0).astype(int)
    digest = hashlib.sha256(np.ascontiguousarray(array[rows]).tobytes()).hexdigest()
    return f"{array.dtype} {array.shape}, rows with the digest {digest[:8]}"


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
            error = caught
            told = {"error": f"{type(caught).__name__}: {caught}"[:MOST_TOLD], "errno": getattr(caught, "errno", None)}
            told["exit_code"] = exit_code(caught)
    with _patient(comm):
        found = json.loads(comm.gather_texts(json.dumps(told))[0])
    if error is not None:
        raise error
    if "error" in found:
        copy = OSError(found["errno"] or 0, f"rank 0 failed: {found['error']}")
        if found["exit_code"] is not None:
            copy.exit_code = found["exit_code"]  # type: ignore[attr-defined]
        raise copy
    return Path(found["path"])


@contextmanager
def _patient(comm: Any) -> Iterator[None]:
    limit = comm.limit
    comm.limit = max(limit, CHECKPOINT_SECONDS)
    try:
        yield
    finally:
        comm.limit = limit
