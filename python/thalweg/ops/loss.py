"""Losses. reduction: "mean" or "sum" over all rows, or "none" for one value a row; a mean counts the rows of all
ranks."""

from __future__ import annotations

from typing import Any

from .. import arrays
from ..symbolic import DeferredInput, Operators, SymbolicTensor
from .dispatch import Array, apply, materialise, one, recording_of, shape_of
from .reduce import mean, sum


def cross_entropy(logits: Array, labels: Array, *, label_smoothing: float = 0.0, reduction: str = "mean") -> Array:
    """Measure -log of the probability that softmax(logits) gives to the label.

    With label smoothing s the target is (1 - s) at the label plus s / c everywhere.
    Shapes: logits (..., c); labels (...) integers in [0, c), or probabilities of the logits' shape.
    Returns: a scalar, or losses (...) for reduction "none".
    Raises: TypeError for labels that are neither integers nor probabilities of the logits' shape; ValueError for a
    label outside [0, c), shapes that don't match, label_smoothing outside [0, 1), or an unknown reduction.
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"[cross_entropy] label_smoothing is {label_smoothing}, expected a number in [0, 1)")
    logits, labels = materialise([logits, labels], "cross_entropy")
    if _are_classes(labels, logits):
        labels = _checked(labels, logits, "cross_entropy")
        loss = apply("cross_entropy", [logits, labels], {"label_smoothing": float(label_smoothing)}, index=(1,))[0]
    else:
        if label_smoothing:
            labels = (1 - label_smoothing) * labels + label_smoothing / shape_of(logits, "cross_entropy")[-1]
        loss = one("cross_entropy_soft", logits, labels)
    return reduce(loss, reduction, "cross_entropy")


def mse(prediction: Array, target: Array, *, reduction: str = "mean") -> Array:
    """Measure the squared error, averaged over the elements of a row: mean of (prediction - target)^2.

    Shapes: prediction and target (n, ...), equal.
    Returns: a scalar, or losses (n) for reduction "none".
    Raises: TypeError for arrays that are no real numbers; ValueError for shapes that differ or an unknown reduction.
    """
    return reduce(one("mse", prediction, target), reduction, "mse")


def correct(logits: Array, labels: Array) -> Array:
    """Tell where the greatest logit (the first of equals) is the label's: 1 or 0. No gradient.

    Shapes: logits (..., c), labels (...) integers in [0, c). Returns: (...).
    Raises: TypeError for labels that are no integers; ValueError for a label outside [0, c).
    """
    logits, labels = materialise([logits, labels], "correct")
    return one("correct", logits, _checked(labels, logits, "correct"), index=(1,))


def reduce(loss: Array, reduction: str, where: str) -> Array:
    """Apply a reduction by name; ValueError for an unknown one."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"[{where}] reduction is {reduction!r}, expected 'mean', 'sum' or 'none'")
    return {"mean": mean, "sum": sum}[reduction](loss) if reduction != "none" else loss


def _are_classes(labels: Any, logits: Any) -> bool:
    if isinstance(labels, SymbolicTensor):
        return isinstance(labels, DeferredInput) or labels.kind == "index"
    if isinstance(labels, Operators) or labels.dtype.kind in "iu":
        return not isinstance(labels, Operators)
    if labels.dtype.kind == "f" and labels.ndim and len(labels.shape) == len(shape_of(logits, "cross_entropy")):
        return False
    raise TypeError(
        f"[cross_entropy] labels have dtype {labels.dtype} and shape {labels.shape}, expected integers, or "
        f"probabilities of the logits' shape {shape_of(logits, 'cross_entropy')}"
    )


def _checked(labels: Any, logits: Any, where: str) -> Any:
    """Check class numbers now, or have them checked whenever they come in."""
    shape = shape_of(logits, where)
    if not shape:
        raise ValueError(f"[{where}] logits are a scalar, expected shape (..., classes)")
    recording = recording_of([logits, labels])
    if not isinstance(labels, Operators):
        return arrays.labels(labels, shape[-1], where, recording.path if recording else "", "labels")
    assert recording is not None
    recording.limit_labels(labels, shape[-1], recording.last_layer)
    return labels
