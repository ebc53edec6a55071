"""Signals during training: the first only sets a flag that is looked at between steps; a second Ctrl-C ends at once."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

EXIT_CODES = {signal.SIGTERM: 75, signal.SIGINT: 130}


class Stopped(BaseException):
    """The run was asked to stop; raised between steps, so that everything is whole. No error: nothing catches it."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.exit_code = EXIT_CODES[number]


class StopFlag:
    """Holds the signal that came, while it is entered."""

    def __init__(self) -> None:
        self._number: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopFlag:
        self._before = {number: signal.signal(number, self._note) for number in EXIT_CODES}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._number = signal.Signals(number)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the checkpoint folder is whole at every instant

    def check(self) -> None:
        """Raises: Stopped, if a signal came."""
        if self._number is not None:
            raise Stopped(self._number)
