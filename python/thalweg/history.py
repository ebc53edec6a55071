"""What a training run recorded."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

from .waits import Waits


class _Steps:
    """The values of every step by name: they come in arrays, and become lists when they are looked at."""

    def __init__(self, *names: str) -> None:
        self._lists: dict[str, list[Any]] = {name: [] for name in names}
        self._new: dict[str, array[Any]] = {}

    def add(self, columns: dict[str, np.ndarray]) -> None:
        for name, values in columns.items():
            if name not in self._new:
                self._new[name] = array(values.dtype.char)
            self._new[name].frombytes(values.tobytes())

    def lists(self) -> dict[str, list[Any]]:
        for name, new in list(self._new.items()):
            count = len(new)  # another thread may add meanwhile
            self._lists.setdefault(name, []).extend(new[:count])
            del new[:count]
        return self._lists


class History:
    """The course of a training, in Keras's form: one for the trainer's life, which all calls of fit add to.

    epoch: the numbers of the finished epochs, from 0. history: for each logged quantity its values, one an epoch.
    waits: where the time of several ranks went, to be printed; None on one rank.
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}
        self.waits: Waits | None = None
        self._steps = _Steps("loss", "grad_norm", "lr")

    @property
    def steps(self) -> dict[str, list[Any]]:
        """loss, grad_norm and lr of every update of fit since the trainer was made or loaded (a checkpoint keeps the
        epochs only); on several ranks also seconds, seconds_comm, seconds_wait, waited_for and seconds_waited_for.
        The lists hold what was done when `steps` was asked for."""
        return self._steps.lists()

    def add_steps(self, columns: dict[str, np.ndarray]) -> None:
        """Append the values of some updates, an array a name."""
        self._steps.add(columns)

    def add(self, epoch: int, logs: dict[str, Any]) -> None:
        """Append one epoch."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> list[float]:
        return self.history[name]

    def __repr__(self) -> str:
        return f"History({len(self.epoch)} epochs: {', '.join(self.history)})"

    def state_dict(self) -> dict[str, Any]:
        """Return the epochs as data for a checkpoint."""
        return {"epoch": list(self.epoch), "history": {k: list(v) for k, v in self.history.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the epochs of a checkpoint."""
        self.epoch = [int(e) for e in state["epoch"]]
        self.history = {str(k): [float(x) for x in v] for k, v in state["history"].items()}
