"""Metrics for a Trainer: functions (prediction, target) -> one value a row, shape (rows,), composed of thalweg.ops.

A metric of one's own is such a function; its name is the function's. In lists, built-in metrics may be named by
strings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import ops
from .ops.loss import per_row

Metric = Callable[[Any, Any], Any]


def accuracy(prediction: Any, target: Any) -> Any:
    """Share of rows whose greatest score is the target's class.

    Shapes: prediction (rows, ..., c); target (rows, ...) of class numbers, or one-hot rows of the prediction's shape.
    """
    return per_row(ops.correct(prediction, target))


def squared_error(prediction: Any, target: Any) -> Any:
    """Squared error, averaged over the elements of a row."""
    return ops.mse(prediction, target, reduction="none")


def absolute_error(prediction: Any, target: Any) -> Any:
    """Absolute error, averaged over the elements of a row."""
    return ops.l1(prediction, target, reduction="none")


_METRICS: dict[str, Metric] = {"accuracy": accuracy, "squared_error": squared_error, "absolute_error": absolute_error}


_TAKEN = {"loss", "count", "steps", "grad_norm", "lr", "samples_per_second"}


def named(metrics: Sequence[Any]) -> dict[str, Metric]:
    """Return metrics by name.

    Raises: ValueError for an unknown or repeated name; TypeError for what is no function.
    """
    if isinstance(metrics, str) or callable(metrics):
        metrics = [metrics]
    found: dict[str, Metric] = {}
    for metric in metrics:
        name, function = _resolve(metric)
        if name in _TAKEN:
            raise ValueError(f"[metrics] a metric is named {name!r}, which every step reports by itself: rename it")
        if name in found:
            raise ValueError(f"[metrics] two metrics are named {name!r}")
        found[name] = function
    return found


def describe(metrics: dict[str, Metric]) -> list[str] | None:
    """Return built-in metrics by name, None if there are others."""
    return list(metrics) if all(_METRICS.get(name) is f for name, f in metrics.items()) else None


def _resolve(metric: Any) -> tuple[str, Metric]:
    if isinstance(metric, str):
        if metric not in _METRICS:
            raise ValueError(f"[metrics] unknown metric {metric!r}, expected one of {', '.join(_METRICS)}")
        return metric, _METRICS[metric]
    if not callable(metric):
        raise TypeError(f"[metrics] {metric!r} is no function (prediction, target) -> value a row")
    return getattr(metric, "__name__", type(metric).__name__), metric
