"""What a sweep trains: the parts and options of every run, as the Trainer and the call of fit that it stands for."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .. import losses, optim
from ..nn.module import Module
from ..ops.axes import integer
from ..trainer.trainer import Trainer
from .over import Part, Settings, check_taken, is_factory, names_of

TRAINER_OPTIONS = ("seed", "precision", "max_norm", "max_layer_norm", "clip_value", "on_nonfinite", "accumulate")
FIT_OPTIONS = ("epochs", "batch_size", "shuffle")
OFFERED = ("seed", "epochs", "batch_size")  # to functions, swept or not
USUAL = {"seed": 0, "shuffle": True, "on_nonfinite": "raise", "accumulate": 1}


@dataclass(frozen=True)
class Fit:
    """The arguments of one run's fit."""

    epochs: int
    batch_size: int
    shuffle: bool

    def steps(self, rows: int) -> int:
        return self.epochs * -(-rows // self.batch_size)


class Setup:
    """Makes the trainer and the arguments of fit for a run's settings.

    options: those of TRAINER_OPTIONS and FIT_OPTIONS for all runs; fixed: dtype, shards and metrics.
    Raises: TypeError, ValueError for parts and names that don't fit together.
    """

    def __init__(
        self, parts: dict[str, Any], runs: Sequence[Settings], options: dict[str, Any], fixed: dict[str, Any]
    ) -> None:
        swept = names_of(runs)
        for name in swept:
            given = options.get(name) not in (None, USUAL.get(name))
            if given and all(name in settings for settings in runs):
                raise ValueError(f"[sweep] {name} is {options[name]!r}, but over has values of {name!r}: give it once")
        for name in ("epochs", "batch_size"):
            if options[name] is None and not all(name in settings for settings in runs):
                raise TypeError(f"[sweep] {name} is missing: give {name}=..., or values of it in over")
        self.options, self.fixed = options, fixed
        net, loss, optimizer = (parts[name] for name in ("net", "loss", "optimizer"))
        self.net = Part("net", _function("net", net, Module), isinstance(net, Module))
        factory = not isinstance(loss, losses.Loss) and is_factory(loss, [*swept, *OFFERED])
        self.loss = Part("loss", loss, not factory)
        self.optimizer = Part(
            "optimizer", _function("optimizer", optimizer, optim.Optimizer), isinstance(optimizer, optim.Optimizer)
        )
        for part in (self.net, self.loss, self.optimizer):
            part.check(runs, OFFERED)
        check_taken(swept, (self.net, self.loss, self.optimizer), (*FIT_OPTIONS, *TRAINER_OPTIONS))

    def values(self, settings: Settings) -> Settings:
        """Return a run's settings with all options of its training."""
        return {**self.options, **settings}

    def network_key(self, values: Settings) -> tuple[Any, ...]:
        """Return what tells runs whose networks and losses are recorded alike from others."""
        return self.net.key(values), self.loss.key(values), values["precision"]

    def fit(self, values: Settings) -> Fit:
        """Return the arguments of fit. Raises: TypeError, ValueError for values out of range."""
        epochs, batch_size = (integer(values[name], "sweep", name, 1) for name in ("epochs", "batch_size"))
        return Fit(epochs, batch_size, bool(values["shuffle"]))

    def trainer(self, values: Settings, threads: int = 1) -> Trainer:
        """Return the trainer of one run, not built. Raises: as Trainer, and as the functions that make its parts."""
        return Trainer(
            self.net.make(values),
            self.loss.make(values),
            _copy(self.optimizer.make(values)),
            **{name: values[name] for name in TRAINER_OPTIONS},
            **self.fixed,
            world=1,
            threads=threads,
        )


def _copy(optimizer: Any) -> Any:
    """Return an optimizer whose rates can be set without those of other runs."""
    if not isinstance(optimizer, optim.Optimizer):
        return optimizer  # which Trainer refuses
    made = copy.copy(optimizer)
    made.rates, made.groups = dict(optimizer.rates), [dict(group) for group in optimizer.groups]
    return made


def _function(what: str, given: Any, kind: type) -> Any:
    if isinstance(given, kind) or (callable(given) and not isinstance(given, (Module, optim.Optimizer))):
        return given
    article = "an nn.Module" if kind is Module else "one of thalweg.optim"
    raise TypeError(f"[sweep] {what} is {given!r}, expected {article}, or a function of swept values that makes one")
