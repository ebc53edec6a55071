"""What a trainer has from its first data on: the network's recording, the native session, the door for batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import _core, fork, parallel
from ..nn.module import Module
from ..optim import Optimizer
from ..parallel import environment
from .batch import Door
from .record import DataSpec, Recorded, complete, initial_buffers, initial_parameters, record

if TYPE_CHECKING:
    from .trainer import Trainer


@dataclass(frozen=True)
class Built:
    """A network that was built for certain rows, with its native session."""

    session: Any
    evaluate: Recorded
    door: Door
    data: DataSpec
    trained: list[str]  # names of the parameters that are trained
    rule: dict[str, Any]  # of the optimizer, which the session's state belongs to
    groups: dict[str, int]  # of the trained parameters


def build(
    trainer: Trainer, data: DataSpec, seed: int, shards: int, optimizer: Optimizer, *, draw: bool = True
) -> Built:
    """Record a trainer's network for such data and draw its parameters; the trainer itself does not change.

    draw=False leaves the parameters to be written.
    Raises: TypeError and ValueError of layers, operators, the loss and the optimizer's groups.
    """
    fork.check()
    train, evaluate = record_both(trainer.net, trainer.loss, trainer.metrics, data)
    trained = trained_names(train)
    groups = optimizer.assign(trainer.net, trained)
    config = native_config(trainer, seed, shards, optimizer, data)
    if trainer.peers is not None:
        parts = {"optimizer": optimizer.describe(), "inputs": data.describe(), "network": _named(train)}
        config |= {"peers": trainer.peers, "same": signature({**config, "groups": groups, **parts})}
    session = _core.Session(native_model(train, evaluate, groups, trainer.precision), config)
    if draw:
        session.set_parameters(initial_parameters(train.recording, trainer.dtype, seed))
        session.set_buffers(initial_buffers(train.recording, trainer.dtype))
    door = Door(data, train, trainer.dtype, trainer.accumulate)
    return Built(session, evaluate, door, data, trained, dict(optimizer.rule), groups)


def record_both(
    net: Module, loss: Callable[..., Any], metrics: dict[str, Callable[..., Any]], data: DataSpec
) -> tuple[Recorded, Recorded]:
    """Return the recordings of a training step and of an evaluation, with the same parameters and buffers."""
    train, evaluate = (record(net, loss, metrics, data, mode) for mode in (True, False))
    complete(train, evaluate)
    return train, evaluate


def trained_names(train: Recorded) -> list[str]:
    """Return the names of the parameters that are trained."""
    return [name for name, (p, _) in train.recording.parameters.items() if p.trainable]


def native_model(train: Recorded, evaluate: Recorded, groups: dict[str, int], precision: str) -> Any:
    """Return what sessions of one network share. groups: of the trained parameters."""
    mode = "bf16" if precision == "bf16" else "full"
    return _core.Model(train.recording.graph, evaluate.recording.graph, train.io, evaluate.io, groups, mode)


def check_optimizer(built: Built, optimizer: Optimizer, trainer: Trainer) -> None:
    """Raise ValueError for an optimizer that can't go on with the state of a built trainer: only rates may differ."""
    if different := different_rules(optimizer.rule, built.rule):
        raise ValueError(
            f"[Trainer] optimizer is {optimizer!r}, which differs in {different} from the rule ({built.rule['name']}) "
            "that this trainer was built with and whose state it holds: only rates may change. Make a new Trainer and "
            "give it set_parameters(old.parameters())"
        )
    if optimizer.assign(trainer.net, built.trained) != built.groups:
        raise ValueError(
            f"[Trainer] optimizer is {optimizer!r}, whose groups hold other parameters than those that this trainer "
            "was built with: only rates may change"
        )


def different_rules(a: dict[str, Any], b: dict[str, Any]) -> str:
    """Return the names of the fields in which two rules differ, as text; empty if they are the same."""
    return ", ".join(sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key)))


def _named(train: Recorded) -> dict[str, Any]:
    """What ranks can compare of a network: its parameters and layers."""
    recording = train.recording
    shapes = {name: list(value.shape) for name, (_, value) in recording.parameters.items()}
    return {"parameters": shapes, "layers": [(path, kind) for path, kind, _ in recording.layers]}


def signature(fields: dict[str, Any]) -> dict[str, str]:
    """Return the fields as texts that are equal on ranks that were told the same."""
    texts = {
        name: json.dumps(value, sort_keys=True, default=lambda v: type(v).__name__) for name, value in fields.items()
    }
    return {**texts, "version": _core.__version__}


def native_config(trainer: Trainer, seed: int, shards: int, optimizer: Optimizer, data: DataSpec) -> dict[str, Any]:
    """Return the configuration of a trainer's session."""
    return {
        "dtype": trainer.dtype,
        "precision": trainer.precision,
        "world": trainer.world,
        "threads": trainer.threads or (parallel.threads() if parallel.size() > 1 else 0),
        "shards": shards,
        "seed": seed,
        "labels": len(data.targets),
        "rule": optimizer.rule,
        "max_norm": trainer.max_norm or 0.0,
        "max_layer_norm": trainer.max_layer_norm or 0.0,
        "clip_value": trainer.clip_value or 0.0,
        "on_nonfinite": trainer.on_nonfinite,
        "accumulate": trainer.accumulate,
        "check_every": trainer.check_every,
        **environment.delay(),
    }
