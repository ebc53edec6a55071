"""What one training step reports."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class StepReport:
    """Report of one step: loss (mean over the global batch), metrics by name, count (rows), grad_norm, lr, t (steps
    done, skipped ones too), skipped, seconds, seconds_comm, seconds_wait, bytes_comm, waited_for, seconds_waited_for.
    Metrics are attributes too: report.accuracy.

    seconds_comm: of `seconds` those in collectives; seconds_wait: of these those until the last rank had come. So
    seconds - seconds_comm were spent computing and seconds_comm - seconds_wait exchanging. waited_for: the rank that
    came last (-1: none), and seconds_waited_for how long the others waited for it, on average over those that are
    threads of this process; a rank that is a process knows what itself waited (Waits tells whose clock that is, and
    fit, in history.steps and history.waits, has the mean over all ranks).
    """

    def __init__(self, raw: dict[str, Any], names: Iterable[str], lr: float) -> None:
        """Take over `raw`, what the engine reports, with the metrics in the order of `names`."""
        raw["metrics"] = dict(zip(names, raw["metrics"], strict=True))
        raw["lr"] = lr
        self.__dict__ = raw

    def __getattr__(self, name: str) -> Any:
        metrics = self.__dict__.get("metrics", {})
        if name in metrics:
            return metrics[name]
        raise AttributeError(f"a StepReport has no {name!r}; it has {', '.join([*self.__dict__, *metrics])}")

    def __repr__(self) -> str:
        shown = {"loss": self.loss, **self.metrics, "grad_norm": self.grad_norm, "lr": self.lr, "seconds": self.seconds}
        return f"StepReport({', '.join(f'{k}={v:.4g}' for k, v in shown.items())})"
