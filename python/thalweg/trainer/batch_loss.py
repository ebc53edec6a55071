"""The loss of one batch as a function of the parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import ops
from ..nn.functional import functional_call

if TYPE_CHECKING:
    from .trainer import Trainer


def mean_loss(
    trainer: Trainer, data: list[np.ndarray]
) -> tuple[Callable[[dict[str, Any]], Any], dict[str, np.ndarray]]:
    """Return the mean loss as a function of the trained parameters, and copies of these."""
    built, values = trainer._shapes_known, trainer.parameters()
    spec = built.data
    trained = {name: values[name] for name in built.trained}
    fixed = {name: value for name, value in values.items() if name not in trained}
    xs, ys = tuple(data[: len(spec.inputs)]), tuple(data[len(spec.inputs) :])

    def loss_of(parameters: dict[str, Any]) -> Any:
        prediction = functional_call(trainer.net, {**fixed, **parameters}, xs, seed=trainer.seed, step=trainer.t)
        return ops.mean(trainer.loss(prediction, ys if spec.several else ys[0]))

    return loss_of, trained
