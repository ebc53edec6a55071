"""What one training step reports."""

from __future__ import annotations

from typing import Any


class StepReport:
    """Report of one step: loss (mean over the global batch), metrics by name, count (rows), grad_norm, lr, t (updates
    done), skipped, seconds, seconds_comm, seconds_wait, bytes_comm. Metrics are attributes too: report.accuracy."""

    def __init__(self, raw: dict[str, Any], names: list[str], lr: float) -> None:
        self.__dict__.update(raw)
        self.metrics: dict[str, float] = dict(zip(names, raw["metrics"], strict=True))
        self.lr = lr

    def __getattr__(self, name: str) -> Any:
        metrics = self.__dict__.get("metrics", {})
        if name in metrics:
            return metrics[name]
        raise AttributeError(f"a StepReport has no {name!r}; it has {', '.join([*self.__dict__, *metrics])}")

    def __repr__(self) -> str:
        shown = {"loss": self.loss, **self.metrics, "grad_norm": self.grad_norm, "lr": self.lr, "seconds": self.seconds}
        return f"StepReport({', '.join(f'{k}={v:.4g}' for k, v in shown.items())})"
