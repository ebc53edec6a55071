"""The epochs of Trainer.fit: steps in native chunks, callbacks between them, a position that survives an
interruption."""

from __future__ import annotations

import collections
import math
import signal
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .. import _core
from ..callbacks import Callback, TerminateOnNaN
from ..parallel import together
from ..waits import TIMES, Waits
from .rates import current_rates

if TYPE_CHECKING:
    from .trainer import Trainer

_CHUNK_SECONDS = 0.05  # steps run natively for about this long before signals and callbacks are looked at
_PROGRESS_SECONDS = 0.1
_NO_STEPS = np.empty((2, 0))


class Sums:
    """Sums over the steps of one epoch, in the order of the steps, so that they don't depend on interruptions."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self._fields = ["loss", *names, "count", "grad_norm", "steps"]
        self._totals = np.zeros(len(self._fields))

    def add(self, columns: dict[str, np.ndarray]) -> None:
        """Add the steps of one chunk; skipped steps don't count."""
        _core.add_steps(self._totals, columns)

    def means(self) -> dict[str, float]:
        """Return loss, metrics and grad_norm averaged over the epoch; NaN if every step was skipped."""
        *sums, count, grad_norm, steps = self._totals.tolist()
        means = {name: total / (count or math.nan) for name, total in zip(self._fields, sums, strict=False)}
        return {**means, "grad_norm": grad_norm / (steps or math.nan)}

    def state_dict(self) -> dict[str, float]:
        return dict(zip(self._fields, self._totals.tolist(), strict=True))

    def load_state_dict(self, state: dict[str, float]) -> None:
        self._totals = np.array([float(state.get(name, 0.0)) for name in self._fields])


class Preempted(SystemExit):
    """SIGTERM came while fit ran; raised at a step's edge. Ends the program: code 75 once a callback has saved."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)

    def saved(self) -> None:
        self.code = 75


class Interrupt:
    """Notes Ctrl-C and SIGTERM while native steps run, so that they are obeyed at a step's edge, by ranks that are
    processes at the same one; a second Ctrl-C leaves at once."""

    _DEFAULT: ClassVar[dict[signal.Signals, Any]] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }

    def __init__(self, peers: Any = None) -> None:
        self._noted = 0  # the number of the signal that came
        self._agreed: int | None = None  # of any rank; None: there are no others
        self._peers = peers
        if peers is not None:
            self._agreed = 0
        self._at_edge = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        main = threading.current_thread() is threading.main_thread()  # else signals aren't ours
        ours = [n for n, default in self._DEFAULT.items() if main and signal.getsignal(n) is default]
        for number in ours:  # the others have a handler that was chosen
            signal.signal(number, self._note)
        try:
            yield
        finally:
            for number in ours:
                signal.signal(number, self._DEFAULT[number])

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Obey them at once here, where no step is under way; ranks that are processes at the next common edge."""
        self.check()
        self._at_edge = self._peers is None
        try:
            yield
        finally:
            self._at_edge = False

    def check(self) -> None:
        """Raise what was asked for; between ranks that are processes, once they agree (agree)."""
        asked = self._noted if self._agreed is None else self._agreed
        if asked:
            raise Preempted if asked == signal.SIGTERM else KeyboardInterrupt

    def agree(self, trainer: Trainer, waits: np.ndarray = _NO_STEPS) -> np.ndarray:
        """Let ranks that are processes take the same decisions: end, stop, and how many steps go before the next.

        Returns: what each of them waited in the last steps, where there are others; else the own alone.
        """
        if self._peers is None:
            return waits[np.newaxis]
        # A signal may come meanwhile: it stays noted and is agreed on the next time.
        asked, stop, pace, all_waits = together.agree(
            self._peers, self._noted, trainer.stop_training, trainer._pace, waits
        )
        self._agreed, trainer.stop_training, trainer._pace = int(asked), bool(stop), pace
        return all_waits

    def _note(self, number: int, _: Any) -> None:
        again = self._noted == number == signal.SIGINT
        self._noted = number
        if again:
            raise KeyboardInterrupt
        if self._at_edge:
            self.check()


class EpochRunner:
    """Runs epochs of one call of fit."""

    def __init__(
        self, trainer: Trainer, arrays: list[np.ndarray], batch_size: int, shuffle: bool, callbacks: Sequence[Callback]
    ) -> None:
        self.trainer, self.arrays, self.batch_size, self.shuffle = trainer, arrays, batch_size, shuffle
        self.callbacks = callbacks
        self.rows = arrays[0].shape[0]
        self.steps = -(-self.rows // batch_size)
        self.stop_every = math.gcd(*(c.stop_every for c in callbacks)) if callbacks else 0
        self.interrupt = Interrupt(trainer.peers)
        self._shown = 0.0
        self._paces: collections.deque[float] = collections.deque(maxlen=5)  # one chunk may have been held up

    def check_same(self, epochs: int, validation: list[np.ndarray] | None) -> None:
        """Raise ValueError on every rank where ranks that are processes were told different things."""
        choices = {
            **{"epochs": epochs, "batch_size": self.batch_size, "shuffle": self.shuffle, "t": self.trainer.t},
            "callbacks": [type(c).__name__ for c in self.callbacks if not c.looks_only],
            "stop_every": self.stop_every,
        }
        together.check_fit(self.trainer.peers, self.arrays, validation, choices)

    def epoch(self) -> dict[str, Any]:
        """Run the rest of the current epoch; returns its logs. The trainer's position is right at every exit."""
        trainer, position = self.trainer, self.trainer._position
        order = self._order(position.epoch)
        started, first = time.perf_counter(), position.row
        while position.row < self.rows and not (trainer.stop_training and position.row):
            self._chunk(order)
        seconds = max(time.perf_counter() - started, 1e-9)
        lr = trainer.optimizer.lr_at(max(trainer.t - 1, 0))
        return {**position.sums.means(), "lr": lr, "samples_per_second": (position.row - first) / seconds}

    def _order(self, epoch: int) -> np.ndarray | None:
        if not self.shuffle:
            return None
        return _core.permutation(self.rows, self.trainer.seed, f"epoch {epoch}")

    def _chunk(self, order: np.ndarray | None) -> None:
        trainer, position = self.trainer, self.trainer._position
        steps = self._chunk_steps(position.row)
        batch = position.row // self.batch_size
        if self.stop_every:
            self._call("on_train_batch_begin", batch, {})
        part = slice(position.row, position.row + steps * self.batch_size)
        arrays = [a[part] for a in self.arrays] if order is None else self.arrays
        rows = None if order is None else order[part]
        rates = current_rates(trainer).rows(trainer.t, steps)

        def done(columns: dict[str, np.ndarray]) -> None:
            position.row = min(position.row + len(columns["loss"]) * self.batch_size, self.rows)
            position.sums.add(columns)
            self._record(columns, rates)

        started = time.perf_counter()
        columns = trainer._session.run_epoch(arrays, rows, self.batch_size, rates, unfinished=done)
        done(columns)
        self._paces.append((time.perf_counter() - started) / steps)
        trainer._pace = statistics.median_low(self._paces)
        self._after(batch + steps, columns, rates)

    def _chunk_steps(self, row: int) -> int:
        left = -(-(self.rows - row) // self.batch_size)
        steps = max(1, min(left, int(_CHUNK_SECONDS / max(self.trainer._pace, 1e-6))))
        if self.stop_every:
            steps = min(steps, self.stop_every - self.trainer.t % self.stop_every)
        return steps

    def _record(self, columns: dict[str, np.ndarray], rates: np.ndarray) -> None:
        lrs = rates[: len(columns["loss"]), 0, 0]
        self.trainer.history.add_steps({"loss": columns["loss"], "grad_norm": columns["grad_norm"], "lr": lrs})

    def _after(self, done: int, columns: dict[str, np.ndarray], rates: np.ndarray) -> None:
        now = time.perf_counter()
        due = self.stop_every or now - self._shown >= _PROGRESS_SECONDS or done == self.steps
        if self.callbacks and due:
            logs = self._last(columns, rates)
            if self.stop_every and (self.trainer.t % self.stop_every == 0 or done == self.steps):
                self._call("on_train_batch_end", done - 1, logs)
            self._call("on_progress", done, self.steps, logs)
            self._shown = now
        self._share_waits(columns)
        self.interrupt.check()

    def _share_waits(self, columns: dict[str, np.ndarray]) -> None:
        trainer = self.trainer
        if trainer.world == 1 and trainer.peers is None:
            return
        found = self.interrupt.agree(trainer, np.stack([columns["waited_for"], columns["seconds_waited_for"]]))
        if trainer.world == 1:
            return
        history = trainer.history
        history.waits = history.waits or Waits(trainer.world)
        ranks, seconds = history.waits.add(columns, found)
        times = {name: columns[name] for name in TIMES}
        history.add_steps({**times, "waited_for": ranks, "seconds_waited_for": seconds})

    def _last(self, columns: dict[str, np.ndarray], rates: np.ndarray) -> dict[str, Any]:
        metrics = dict(zip(self.trainer._position.sums.names, columns["metrics"][-1].tolist(), strict=True))
        seconds, count = float(columns["seconds"].sum()), float(columns["count"].sum())
        return {
            "loss": float(columns["loss"][-1]),
            **metrics,
            "lr": float(rates[-1, 0, 0]),
            "grad_norm": float(columns["grad_norm"][-1]),
            "samples_per_second": count / max(seconds, 1e-9),
        }

    def _call(self, hook: str, *args: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(*args)


class Position:
    """Where a training stands: the epoch, the rows of it that are done, and the sums over them.

    rows, batch_size and shuffle are those of the epoch that was started last, None where none was.
    """

    def __init__(self, names: list[str]) -> None:
        self.epoch = 0
        self.row = 0
        self.sums = Sums(names)
        self.rows: int | None = None
        self.batch_size: int | None = None
        self.shuffle: bool | None = None

    def begin(self, rows: int, batch_size: int, shuffle: bool) -> None:
        """Start an epoch, or go on inside one. Raises: ValueError where it was started with other values."""
        if self.row == 0 or self.rows is None:
            self.rows, self.batch_size, self.shuffle = rows, batch_size, shuffle
        now = {"rows": rows, "batch_size": batch_size, "shuffle": shuffle}
        for name, given in now.items():
            was = getattr(self, name)
            if given != was:
                raise ValueError(
                    f"[fit] {name} is {given}, but epoch {self.epoch + 1} was interrupted after {self.row} of "
                    f"{self.rows} rows with {name} {was}: finish it with that by fit(epochs={self.epoch + 1}), then "
                    "change it"
                )

    def next_epoch(self) -> None:
        self.epoch, self.row, self.sums = self.epoch + 1, 0, Sums(self.sums.names)

    def state_dict(self) -> dict[str, Any]:
        data = {"rows": self.rows, "batch_size": self.batch_size, "shuffle": self.shuffle}
        return {"epoch": self.epoch, "position": self.row, "sums": self.sums.state_dict(), **data}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.row = int(state["epoch"]), int(state["position"])
        self.rows, self.batch_size, self.shuffle = (state.get(name) for name in ("rows", "batch_size", "shuffle"))
        self.sums = Sums(self.sums.names)
        self.sums.load_state_dict(state["sums"])


def survives(error: BaseException, callbacks: Sequence[Callback]) -> bool:
    """Tell whether a callback takes a diverged step as the end of the training."""
    return isinstance(error, _core.DivergedError) and any(isinstance(c, TerminateOnNaN) for c in callbacks)
