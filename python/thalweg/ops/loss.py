"""Losses. reduction: "mean" or "sum" over all rows, or "none" for one value a row; a mean counts the rows of all
ranks, and of no rows it is refused."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import arrays
from ..symbolic import DeferredInput, Operators, SymbolicTensor
from .activation import softplus
from .axes import number, one_of
from .dispatch import Array, apply, materialise, one, recording_of, shape_of
from .elementwise import abs, add, clip, equal, mul, neg, sub
from .reduce import average, logsumexp, max, mean, sum


def cross_entropy(logits: Array, labels: Array, *, label_smoothing: float = 0.0, reduction: str = "mean") -> Array:
    """Measure -log of the probability that softmax(logits) gives to the label.

    With label smoothing s the target is (1 - s) at the label plus s / c everywhere.
    Shapes: logits (..., c); labels (...) integers in [0, c), or one-hot rows or probabilities of the logits' shape.
    Returns: a scalar, or losses (...) for reduction "none".
    Raises: TypeError for labels that are neither integers nor of the logits' shape; ValueError for a
    label outside [0, c), shapes that don't match, label_smoothing outside [0, 1), an unknown reduction, or a mean of no
    rows.
    """
    smoothing = number(label_smoothing, "cross_entropy", "label_smoothing", 0, 1, open_high=True)
    logits, labels = materialise([logits, labels], "cross_entropy")
    if _are_classes(labels, logits, "cross_entropy"):
        labels = _checked(labels, logits, "cross_entropy")
        loss = apply("cross_entropy", [logits, labels], {"label_smoothing": smoothing}, index=(1,))[0]
    else:
        loss = one("cross_entropy_soft", logits, _smooth(labels, logits, smoothing))
    return reduce(loss, reduction, "cross_entropy")


def nll(log_probabilities: Array, labels: Array, *, reduction: str = "mean") -> Array:
    """Measure minus the log-probability at the label: what log_softmax leaves of cross_entropy.

    Shapes: log_probabilities (..., c); labels (...) integers in [0, c).
    Returns: a scalar, or losses (...) for reduction "none".
    Raises: TypeError for labels that are no integers; ValueError for a label outside [0, c), shapes that don't match,
    an unknown reduction, or a mean of no rows.
    """
    log_p, labels = materialise([log_probabilities, labels], "nll")
    if not _are_integers(labels):
        raise _wrong_labels(labels, "nll", "")
    if shape_of(labels, "nll") != shape_of(log_p, "nll")[:-1]:
        expected = f"{shape_of(log_p, 'nll')[:-1]} = leading axes of log_probabilities {shape_of(log_p, 'nll')}"
        raise ValueError(f"[nll] labels have shape {shape_of(labels, 'nll')}, expected {expected}")
    labels = _checked(labels, log_p, "nll")
    entropy = apply("cross_entropy", [log_p, labels], {"label_smoothing": 0.0}, index=(1,))[0]
    return reduce(sub(entropy, logsumexp(log_p, -1)), reduction, "nll")  # log sum e^x - x_label, less the sum


def mse(prediction: Array, target: Array, *, reduction: str = "mean") -> Array:
    """Measure the squared error, averaged over the elements of a row: mean of (prediction - target)^2.

    Shapes: prediction and target (n, ...), equal.
    Returns: a scalar, or losses (n) for reduction "none".
    Raises: TypeError for arrays that are no real numbers; ValueError for shapes that differ, an unknown reduction, or a
    mean of no rows.
    """
    return reduce(one("mse", prediction, target), reduction, "mse")


def l1(prediction: Array, target: Array, *, reduction: str = "mean") -> Array:
    """Measure the absolute error, averaged over the elements of a row: mean of |prediction - target|.

    Shapes, Returns and Raises as mse.
    """
    prediction, target = _pair(prediction, target, "l1")
    return reduce(per_row(abs(sub(prediction, target))), reduction, "l1")


def huber(prediction: Array, target: Array, *, delta: float = 1.0, reduction: str = "mean") -> Array:
    """Measure the squared error up to delta and the absolute one beyond, averaged over the elements of a row.

      r^2 / 2 for |r| <= delta, else delta (|r| - delta / 2), r = prediction - target: c (r - c / 2), c = r within delta
    Shapes and Returns as mse. Raises: as mse; TypeError or ValueError for delta that is no number above 0.
    Source: Huber 1964.
    """
    bound = number(delta, "huber", "delta", 0, open_low=True)
    prediction, target = _pair(prediction, target, "huber")
    distance = sub(prediction, target)
    within = clip(distance, -bound, bound)
    return reduce(per_row(mul(within, sub(distance, mul(0.5, within)))), reduction, "huber")


def bce_with_logits(logits: Array, targets: Array, *, reduction: str = "mean") -> Array:
    """Measure -log of the probability of yes-or-no answers, averaged over the elements of a row, without overflow.

      -t log sigmoid(x) - (1 - t) log(1 - sigmoid(x)) = t softplus(-x) + (1 - t) softplus(x)
    Shapes: logits x and targets t (n, ...), equal; targets are 0 or 1, or probabilities.
    Returns and Raises as mse.
    """
    x, t = _pair(logits, targets, "bce_with_logits")
    loss = add(mul(t, softplus(neg(x))), mul(sub(1.0, t), softplus(x)))
    return reduce(per_row(loss), reduction, "bce_with_logits")


def correct(logits: Array, labels: Array) -> Array:
    """Tell where the greatest logit (the first of equals) is the label's: 1 or 0. No gradient.

    Shapes: logits (..., c); labels (...) integers in [0, c), or one-hot rows or probabilities of the logits' shape,
    whose greatest counts. Returns: (...).
    Raises: TypeError for labels that are neither; ValueError for a label outside [0, c) or shapes that don't match.
    """
    logits, labels = materialise([logits, labels], "correct")
    if _are_classes(labels, logits, "correct"):
        return one("correct", logits, _checked(labels, logits, "correct"), index=(1,))
    logits, labels = _pair(logits, labels, "correct", "logits", "labels")
    return equal(_first_greatest(logits), _first_greatest(labels))


def per_row(values: Array) -> Array:
    """Average over all axes but the first."""
    axes = tuple(range(1, len(shape_of(values, "mean"))))
    return mean(values, axes) if axes else values


def reduce(loss: Array, reduction: str, where: str) -> Array:
    """Apply a reduction by name; ValueError for an unknown one."""
    if one_of(reduction, where, "reduction", ("mean", "sum", "none")) == "mean":
        return average(loss, None, False, where)
    return sum(loss) if reduction == "sum" else loss


def _smooth(probabilities: Array, logits: Array, smoothing: float) -> Array:
    """What smooth_target of formula/loss.h does for class numbers."""
    if not smoothing:
        return probabilities
    return add(mul(1 - smoothing, probabilities), smoothing / shape_of(logits, "cross_entropy")[-1])


def _first_greatest(x: Array) -> Array:
    """Number the place of the greatest element along the last axis, c for the first down to 1 for the last."""
    places = np.arange(shape_of(x, "correct")[-1], 0, -1, dtype=np.float32)
    return max(mul(equal(x, max(x, -1, keepdims=True)), places), -1)


def _pair(a: Any, b: Any, where: str, name_a: str = "prediction", name_b: str = "target") -> list[Any]:
    """Two arrays of one shape, which is asked for: broadcasting (n, 1) with (n) would compare all with all."""
    pair = materialise([a, b], where)
    shape, other = (shape_of(x, where) for x in pair)
    if not shape or shape != other:
        raise ValueError(f"[{where}] {name_b} has shape {other}, expected {shape or '(n, ...)'} = shape of {name_a}")
    return pair


def _are_classes(labels: Any, logits: Any, where: str) -> bool:
    """Tell class numbers from one-hot rows or probabilities of the logits' shape; TypeError for what is neither."""
    shape, expected = shape_of(labels, where), shape_of(logits, where)
    if _are_integers(labels):
        return shape != expected or not shape
    if shape and len(shape) == len(expected) and (isinstance(labels, Operators) or labels.dtype.kind == "f"):
        return False
    raise _wrong_labels(labels, where, f", or probabilities of the logits' shape {expected}")


def _are_integers(labels: Any) -> bool:
    if isinstance(labels, Operators):
        return isinstance(labels, DeferredInput) or (isinstance(labels, SymbolicTensor) and labels.kind == "index")
    return labels.dtype.kind in "iu"


def _wrong_labels(labels: Any, where: str, also: str) -> TypeError:
    dtype = "a float dtype" if isinstance(labels, Operators) else f"dtype {labels.dtype}"
    return TypeError(f"[{where}] labels have {dtype} and shape {shape_of(labels, where)}, expected integers{also}")


def _checked(labels: Any, logits: Any, where: str) -> Any:
    """Check class numbers now, or have them checked whenever they come in."""
    shape = shape_of(logits, where)
    if not shape:
        raise ValueError(f"[{where}] logits are a scalar, expected shape (..., classes)")
    recording = recording_of([logits, labels], where)
    if not isinstance(labels, Operators):
        return arrays.labels(labels, shape[-1], where, recording.path if recording else "", "labels")
    assert recording is not None
    recording.limit_labels(labels, shape[-1], recording.last_layer)
    return labels
