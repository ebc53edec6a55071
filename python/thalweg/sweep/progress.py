"""What a person sees of a sweep while it runs: a bar on a terminal, and a line at the end everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..console import Screen

if TYPE_CHECKING:
    from .result import SweepResult


class SweepProgress:
    """Shows the runs and updates that are done. `look` is what the engine calls."""

    def __init__(self, result: SweepResult, updates: int, shown: bool) -> None:
        self._result, self._updates, self._shown = result, updates, shown
        self._screen = Screen()
        self._runs, self._steps = 0, 0  # of earlier native calls

    def __enter__(self) -> SweepProgress:
        if self._shown:
            self._screen.start(f"{len(self._result):,} runs", self._updates)
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._screen.stop()
        if self._shown and kind is None:
            self._screen.line(self._result.headline())
            if self._result.interrupted:
                self._screen.line("interrupted; to make the rest: result + tw.sweep(..., over=result.unfinished)")

    def look(self, runs: int, steps: int) -> None:
        """Show what the present native call has done."""
        self._screen.show(self._steps + steps, f"{self._runs + runs:,} done")

    def next_wave(self, runs: int, steps: int) -> None:
        self._runs, self._steps = self._runs + runs, self._steps + steps
