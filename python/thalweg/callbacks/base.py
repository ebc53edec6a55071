"""Callback, from which all callbacks are made, and the quantities that callbacks watch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..trainer import Trainer


class Callback:
    """Does nothing at each point of a training; subclasses override hooks. `self.trainer` is the trainer.

    Hooks run in the order of the list, ModelCheckpoint's last: one of your own that saves the trainer belongs at the
    end, where the state of the others is that of the same moment.
    Ranks that are processes must all have the same callbacks, but for those that say looks_only = True: these change
    nothing and ask the trainer for nothing that ranks do together, so that one rank alone may have them.
    """

    looks_only = False
    trainer: Trainer
    params: dict[str, Any]

    def set_trainer(self, trainer: Trainer) -> None:
        if getattr(self, "trainer", trainer) is not trainer:
            self.reset()
        self.trainer = trainer

    def reset(self) -> None:
        """Forget what belongs to a training: called when another trainer than before takes the callback."""

    def set_params(self, params: dict[str, Any]) -> None:
        """Take the call's arguments: epochs, steps (an epoch), verbose."""
        self.params = params

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None: ...
    def on_train_end(self, logs: dict[str, Any] | None = None) -> None: ...
    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None: ...
    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None: ...
    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None: ...
    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None: ...

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None: ...
    def on_test_end(self, logs: dict[str, Any] | None = None) -> None: ...
    def on_predict_begin(self, logs: dict[str, Any] | None = None) -> None: ...
    def on_predict_end(self, logs: dict[str, Any] | None = None) -> None: ...

    def on_train_interrupted(self, error: BaseException) -> None:
        """Called instead of on_train_end when fit ends by an exception, Ctrl-C included."""

    def on_progress(self, batch: int, batches: int, logs: dict[str, Any]) -> None:
        """Called about ten times a second: `batch` of the epoch's `batches` are done, logs is the last step's report.

        Look and draw only: the trainer can't be asked for anything while its steps run. An exception ends fit.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of this callback: JSON data, and arrays."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what a checkpoint kept."""

    @property
    def stop_every(self) -> int:
        """Let the batch hooks be called after every so many updates; 0 means only if a batch hook is overridden."""
        hooks = ("on_train_batch_begin", "on_train_batch_end")
        return int(any(getattr(type(self), hook) is not getattr(Callback, hook) for hook in hooks))


class LambdaCallback(Callback):
    """Hooks given as functions: LambdaCallback(on_epoch_end=lambda epoch, logs: ...).

    Raises: TypeError for a name that is no hook, or for what is no function.
    """

    def __init__(self, **hooks: Callable[..., Any]) -> None:
        for name, hook in hooks.items():
            if not name.startswith("on_") or not hasattr(Callback, name):
                raise TypeError(f"[LambdaCallback] {name!r} is no hook")
            if not callable(hook):
                raise TypeError(f"[LambdaCallback] {name} is {hook!r}, expected a function")
            setattr(self, name, hook)
        self._every = int(any("batch" in name for name in hooks))

    @property
    def stop_every(self) -> int:
        return self._every


def direction(mode: str, monitor: str, where: str) -> float:
    """Return 1 where greater values are better, -1 where smaller ones are."""
    if mode not in ("auto", "min", "max"):
        raise ValueError(f"[{where}] mode is {mode!r}, expected 'auto', 'min' or 'max'")
    return 1.0 if mode == "max" or (mode == "auto" and "acc" in monitor) else -1.0


def logged(logs: dict[str, Any] | None, name: str, where: str) -> float:
    """Return a logged value. Raises: ValueError when it is not logged."""
    if name not in (logs or {}):
        raise ValueError(f"[{where}] {name!r} is not logged; logged are {', '.join(logs or {})}")
    return float(logs[name])  # type: ignore[index]


def say(text: str) -> None:
    """Print one line as the progress does."""
    from ..console import Screen

    Screen().line(text)
