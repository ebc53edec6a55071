"""Thalweg trains deep networks: one native call per step, the same bits on any number of threads and ranks.

import thalweg as tw
from thalweg import nn

net = nn.Sequential(nn.Conv2d(16, 3, padding=1), nn.BatchNorm(), nn.ReLU(), nn.Flatten(), nn.Linear(10))
trainer = tw.Trainer(net, loss=tw.losses.CrossEntropy(), optimizer=tw.optim.SGD(lr=0.1, momentum=0.9))
history = trainer.fit(x, y, epochs=15, batch_size=128)
"""

from typing import Any

from . import arrays, callbacks, init, losses, metrics, models, nn, ops, optim, parallel, schedules
from ._core import DivergedError, LostError, ReplicaError, __version__
from .history import History
from .sweep import SweepResult, SweepRun, sweep
from .trainer import Trainer
from .transforms import grad, hvp, jvp, value_and_grad, vjp
from .world import world

__all__ = [
    "DivergedError",
    "History",
    "LostError",
    "ReplicaError",
    "SweepResult",
    "SweepRun",
    "Trainer",
    "__version__",
    "arrays",
    "callbacks",
    "grad",
    "gradcheck",
    "hvp",
    "init",
    "jvp",
    "losses",
    "metrics",
    "models",
    "nn",
    "ops",
    "optim",
    "parallel",
    "profile",
    "schedules",
    "sweep",
    "value_and_grad",
    "vjp",
    "world",
]


def __getattr__(name: str) -> Any:
    """Import on first use what not every program needs."""
    if name == "gradcheck":
        from .gradient_check import gradcheck

        return gradcheck
    if name == "profile":
        from .profiler import profile

        return profile
    if name in ("checkpoint", "data"):
        import importlib

        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
