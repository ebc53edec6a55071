"""Losses for a Trainer: what compares a prediction with its target.

A loss is any function (prediction, target) -> loss a row, shape (rows,), or a scalar mean, composed of thalweg.ops.
With losses a row, sums and counts are kept apart and divided once, so an uneven last batch and any split over ranks
are exact. Names are torch's without "Loss".
"""

from __future__ import annotations

from typing import Any

from . import ops
from .ops.axes import number
from .ops.loss import per_row


class Loss:
    """A built-in loss: its numbers are attributes, and data that a checkpoint holds."""

    def __call__(self, prediction: Any, target: Any) -> Any:
        """Return one loss a row, shape (rows,)."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Return the loss as data that build takes."""
        return {"loss": type(self).__name__, **vars(self)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


class CrossEntropy(Loss):
    """-log of the probability that softmax(prediction) gives to the target (see ops.cross_entropy).

    Raises: TypeError or ValueError for label_smoothing that is no number in [0, 1).
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = number(label_smoothing, "CrossEntropy", "label_smoothing", 0, 1, open_high=True)

    def __call__(self, prediction: Any, target: Any) -> Any:
        smoothing = self.label_smoothing
        return per_row(ops.cross_entropy(prediction, target, label_smoothing=smoothing, reduction="none"))


class NLL(Loss):
    """Minus the log-probability at the target (see ops.nll), for networks that end in LogSoftmax."""

    def __call__(self, prediction: Any, target: Any) -> Any:
        return per_row(ops.nll(prediction, target, reduction="none"))


class BCEWithLogits(Loss):
    """-log of the probability that sigmoid(prediction) gives to yes-or-no targets, averaged over the elements of a row
    (see ops.bce_with_logits)."""

    def __call__(self, prediction: Any, target: Any) -> Any:
        return ops.bce_with_logits(prediction, target, reduction="none")


class MSE(Loss):
    """The squared error, averaged over the elements of a row (see ops.mse)."""

    def __call__(self, prediction: Any, target: Any) -> Any:
        return ops.mse(prediction, target, reduction="none")


class L1(Loss):
    """The absolute error, averaged over the elements of a row (see ops.l1)."""

    def __call__(self, prediction: Any, target: Any) -> Any:
        return ops.l1(prediction, target, reduction="none")


class Huber(Loss):
    """The squared error up to delta, the absolute one beyond, averaged over the elements of a row (see ops.huber).

    Raises: TypeError or ValueError for delta that is no number above 0.
    """

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = number(delta, "Huber", "delta", 0, open_low=True)

    def __call__(self, prediction: Any, target: Any) -> Any:
        return ops.huber(prediction, target, delta=self.delta, reduction="none")


_LOSSES: dict[str, type[Loss]] = {c.__name__: c for c in (CrossEntropy, NLL, BCEWithLogits, MSE, L1, Huber)}


def describe(loss: Any) -> dict[str, Any] | None:
    """Return a built-in loss as data, None for one of one's own."""
    return loss.describe() if type(loss) in _LOSSES.values() else None


def build(description: dict[str, Any]) -> Loss:
    """Make a built-in loss from its description; ValueError for an unknown one or unknown options."""
    cls = _LOSSES.get(str(description.get("loss")))
    if cls is None:
        raise ValueError(f"[losses] unknown loss {description.get('loss')!r}, expected one of {', '.join(_LOSSES)}")
    try:
        return cls(**{name: value for name, value in description.items() if name != "loss"})
    except TypeError as error:
        raise ValueError(f"[losses] the description of the loss is damaged: {error}") from None
