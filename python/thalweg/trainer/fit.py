"""One call of Trainer.fit: its callbacks, its epochs, the validation after each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..callbacks import Callback
from ..parallel import together
from . import state
from .run import EpochRunner, survives

if TYPE_CHECKING:
    from .trainer import Trainer


def fit(trainer: Trainer, runner: EpochRunner, epochs: int, validation: list[np.ndarray] | None, verbose: int) -> None:
    """Run what is left of `epochs` epochs. Raises: what steps and callbacks raise; the trainer is whole then."""
    position, callbacks = trainer._position, runner.callbacks
    if position.epoch < epochs:
        trainer._door.check_epoch(runner.rows, runner.batch_size)
        position.begin(runner.rows, runner.batch_size, runner.shuffle)
    elif verbose and epochs:
        _say_done(trainer, epochs)
    _begin(trainer, callbacks, {"epochs": epochs, "steps": runner.steps, "verbose": verbose})
    try:
        with runner.interrupt.watching():
            _run(trainer, runner, epochs, validation)
    except BaseException as error:
        if not survives(error, callbacks):
            for callback in callbacks:
                callback.on_train_interrupted(error)
            raise
    trainer._unfinished = False
    for callback in callbacks:
        callback.on_train_end({})


def evaluate(
    trainer: Trainer, data: list[np.ndarray], batch_size: int, callbacks: Sequence[Callback]
) -> dict[str, float]:
    """Return the mean loss and metrics, between the callbacks' hooks."""
    for callback in callbacks:
        callback.on_test_begin({})
    result = trainer._session.evaluate(data, batch_size)
    logs = {"loss": result["loss"], **dict(zip(trainer.metrics, result["metrics"], strict=True))}
    for callback in callbacks:
        callback.on_test_end(dict(logs))
    return logs


def _begin(trainer: Trainer, callbacks: Sequence[Callback], params: dict[str, Any]) -> None:
    trainer.stop_training = False
    if trainer._unfinished and not trainer._callback_states:  # the objects may be new: a notebook's cell, run again
        trainer._callback_states = state.callback_states(trainer._callbacks)
    trainer._callbacks, trainer._unfinished = callbacks, True
    for callback in callbacks:
        callback.set_trainer(trainer)
        callback.set_params(params)
    state.give_callbacks(callbacks, trainer._callback_states)
    trainer._callback_states = []
    for callback in callbacks:
        callback.on_train_begin({})


def _run(trainer: Trainer, runner: EpochRunner, epochs: int, validation: list[np.ndarray] | None) -> None:
    position = trainer._position
    while position.epoch < epochs and not trainer.stop_training:
        epoch = position.epoch
        position.begin(runner.rows, runner.batch_size, runner.shuffle)
        for callback in runner.callbacks:
            callback.on_epoch_begin(epoch, {})
        logs = runner.epoch()
        if position.row < runner.rows:
            return  # stopped inside the epoch
        if validation is not None:
            with runner.interrupt.at_once(), together.inside(trainer.peers, "validation"):
                values = evaluate(trainer, validation, runner.batch_size, runner.callbacks)
            logs |= {f"val_{name}": value for name, value in values.items()}
        position.next_epoch()
        trainer.history.add(epoch, logs)
        for callback in runner.callbacks:
            callback.on_epoch_end(epoch, dict(logs))
        runner.interrupt.agree(trainer)


def _say_done(trainer: Trainer, epochs: int) -> None:
    from ..console import Screen

    done = f"all {epochs} epochs are done" if trainer.epoch == epochs else f"{trainer.epoch} epochs are done"
    Screen().line(f"{done}; epochs counts from the beginning: fit(epochs=trainer.epoch + 1) trains one more")
