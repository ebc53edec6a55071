"""Losses for a Trainer: what compares a prediction with its target.

A loss is any function (prediction, target) -> loss a row, shape (rows,), or a scalar mean, composed of thalweg.ops.
With losses a row, sums and counts are kept apart and divided once, so an uneven last batch and any split over ranks
are exact.
"""

from __future__ import annotations

from typing import Any

from . import ops
from .nn.norm import number


class CrossEntropy:
    """-log of the probability that softmax(prediction) gives to the target (see ops.cross_entropy).

    Raises: TypeError or ValueError for label_smoothing that is no number in [0, 1).
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = number(label_smoothing, "CrossEntropy", "label_smoothing", 0, None)
        if self.label_smoothing >= 1:
            raise ValueError(f"[CrossEntropy] label_smoothing is {label_smoothing}, expected a number in [0, 1)")

    def __call__(self, prediction: Any, target: Any) -> Any:
        loss = ops.cross_entropy(prediction, target, label_smoothing=self.label_smoothing, reduction="none")
        return loss if loss.ndim == 1 else ops.mean(loss, tuple(range(1, loss.ndim)))

    def describe(self) -> dict[str, Any]:
        return {"loss": "CrossEntropy", "label_smoothing": self.label_smoothing}


class MSE:
    """The squared error, averaged over the elements of a row (see ops.mse)."""

    def __call__(self, prediction: Any, target: Any) -> Any:
        return ops.mse(prediction, target, reduction="none")

    def describe(self) -> dict[str, Any]:
        return {"loss": "MSE"}


def describe(loss: Any) -> dict[str, Any] | None:
    """Return a built-in loss as data, None for one of one's own."""
    return loss.describe() if type(loss) in (CrossEntropy, MSE) else None


def build(description: dict[str, Any]) -> Any:
    """Make a built-in loss from its description; ValueError for an unknown one."""
    if description.get("loss") == "CrossEntropy":
        return CrossEntropy(description.get("label_smoothing", 0.0))
    if description.get("loss") == "MSE":
        return MSE()
    raise ValueError(f"[losses] unknown loss {description.get('loss')!r}, expected 'CrossEntropy' or 'MSE'")
