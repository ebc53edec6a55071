"""Where the time of a training step goes, operator by operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .ops.axes import integer
from .trainer import Trainer


@dataclass(frozen=True)
class ProfileRow:
    """One instruction of a step: its operator, its layer, the shape of its result on rank 0 and what that is stored as
    ("float32", "bf16", ...), its median seconds, and what it computes (flops) and moves (bytes, each tensor once)."""

    op: str
    path: str
    shape: tuple[int, ...]
    stored: str
    seconds: float
    flops: float
    bytes: float


@dataclass(frozen=True)
class Profile:
    """The instructions of a step in their order; str() of it is a table, the dearest first."""

    rows: list[ProfileRow]

    @property
    def seconds(self) -> float:
        """Seconds of all instructions."""
        return sum(row.seconds for row in self.rows)

    def __str__(self) -> str:
        cells: list[tuple[str, ...]] = [("operator", "layer", "result", "stored", "time", "share", "GFLOP/s", "GB/s")]
        for r in sorted(self.rows, key=lambda r: -r.seconds):
            share = r.seconds / self.seconds if self.seconds else 0.0
            rates = [f"{amount / r.seconds / 1e9:.1f}" if amount and r.seconds else "" for amount in (r.flops, r.bytes)]
            cells.append((r.op, r.path, str(r.shape), r.stored, _duration(r.seconds), f"{share:.1%}", *rates))
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        lines = [
            "  ".join(c.ljust(w) if i < 4 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
            for row in cells
        ]
        lines.append(f"{len(self.rows)} instructions, {_duration(self.seconds)}; the update is not among them")
        return "\n".join(line.rstrip() for line in lines)


def profile(trainer: Trainer, x: Any, y: Any, *, repeats: int = 20) -> Profile:
    """Time every instruction of a training step on one batch: forward, backward and exchange, not the update.

    Nothing changes in the trainer. An instruction of less than a microsecond seems dearer than it is: looking at the
    clock takes about 30 ns. Rates count the arithmetic of formulas and every tensor moved once.
    Returns: a Profile; print it to see a table. seconds are medians over `repeats` runs.
    Raises: TypeError, ValueError for data that don't fit.
    """
    repeats = integer(repeats, "profile", "repeats", 1)
    with trainer._first_call(x, y, "profile"):
        instructions, seconds = trainer._session.profile(trainer._data(x, y, "profile"), repeats)
    medians = np.median(np.asarray(seconds), axis=0).tolist()
    return Profile([ProfileRow(**i, seconds=s) for i, s in zip(instructions, medians, strict=True)])


def _duration(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"
