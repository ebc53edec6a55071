"""What a checkpoint holds of a trainer, and how a trainer is made from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core, arrays, losses, metrics, optim
from ..callbacks import Callback
from ..history import History
from ..nn.describe import build as build_network
from ..nn.describe import describe, difference
from ..parallel import together
from .build import build, different_rules
from .meta import checked
from .record import DataSpec
from .run import Position

if TYPE_CHECKING:
    from .trainer import Trainer

_OPTIONS = (
    "seed", "dtype", "precision", "shards", "max_norm", "max_layer_norm", "clip_value", "on_nonfinite", "accumulate",
)  # fmt: skip
_PARTS = ("net", "loss", "optimizer", "metrics", "precision")  # that may be given instead of those of a state
_ARRAY = "$array"  # in the meta, for an array of a callback: its name among the state's arrays


def collect(trainer: Trainer) -> dict[str, Any]:
    """Return the state of a trainer. Raises: RuntimeError before the network was built."""
    session = trainer._session
    states = callback_states(trainer._callbacks)
    kept: dict[str, np.ndarray] = {}
    callbacks = _without_arrays(states or trainer._callback_states, "callbacks", kept)
    state = {
        "parameters": trainer.parameters(),
        "buffers": session.buffers(),
        "optimizer": session.optimizer_state(),
        "meta": {**_meta(trainer), "callbacks": callbacks},
    }
    return {**state, "arrays": kept} if kept else state


def _meta(trainer: Trainer) -> dict[str, Any]:
    return {
        "t": trainer.t,
        **trainer._position.state_dict(),
        **_configuration(trainer),
        "metric_names": list(trainer.metrics),
        "optimizer": trainer.optimizer.describe(),
        "history": trainer.history.state_dict(),
        "config": _digest(trainer),
        "version": _core.__version__,
    }


def _configuration(trainer: Trainer) -> dict[str, Any]:
    """All choices that the bits of a training depend on, but for the data and the rates."""
    return {
        **{name: getattr(trainer, name) for name in _OPTIONS},
        "network": describe(trainer.net),
        "loss": losses.describe(trainer.loss),
        "metrics": metrics.describe(trainer.metrics),
        "rule": dict(trainer.optimizer.rule),
        **trainer._data_spec.describe(),
    }


def _digest(trainer: Trainer) -> str:
    return hashlib.sha256(json.dumps(_configuration(trainer), sort_keys=True, default=repr).encode()).hexdigest()


def save(trainer: Trainer, path: Any) -> Path:
    """Write a checkpoint, of ranks that are processes by rank 0 after all were found to hold the same."""
    from .. import checkpoint

    with together.inside(trainer.peers, "save"):
        if trainer.world > 1:
            trainer._session.digest()
        return together.once(trainer.peers, lambda: checkpoint.save(path, collect(trainer)))


def arguments(given: Any, parts: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the Trainer that a state describes. Raises: ValueError for a part that is needed."""
    meta = checked(given, "Trainer.load")
    made = {
        "net": _part("net", parts, meta["network"], build_network),
        "loss": _part("loss", parts, meta["loss"], losses.build),
        "optimizer": _part("optimizer", parts, meta["optimizer"], optim.build),
        "metrics": _part("metrics", parts, meta["metrics"], lambda names: names),
    }
    options = {name: meta.get(name) for name in _OPTIONS}
    options["precision"] = parts.get("precision") or options["precision"]
    return {**made, **options, "world": parts.get("world"), "threads": parts.get("threads") or 0}


def check_rebuilt(trainer: Trainer, given: dict[str, Any], parts: dict[str, Any]) -> None:
    """Raise ValueError where a trainer that was made of a state alone is not the one that the state was taken of."""
    meta = given["meta"]
    config = meta.get("config") if meta.get("version") == _core.__version__ else None  # others describe more
    if config is not None and all(parts.get(name) is None for name in _PARTS) and config != _digest(trainer):
        raise ValueError(
            "[Trainer.load] the trainer that the state describes is not the one that was saved: its digest is another, "
            f"so it was edited. Give the parts, {', '.join(f'{p}=...' for p in _PARTS)}"
        )


def restore(trainer: Trainer, given: Any, *, rates: bool = True, precision: str | None = None) -> None:
    """Put a state into a trainer, with the optimizer's rates unless rates=False.

    precision: that of the trainer, where the state may be of another.
    All is made and checked beside what the trainer has, which changes by assignments that can't fail.
    """
    meta = checked(given, "load_state_dict")
    _check_same(trainer, meta)
    _check_precision(trainer, meta, precision)
    callbacks = _with_arrays(meta["callbacks"], given.get("arrays") or {})
    position, history = Position(list(trainer.metrics)), History()
    position.load_state_dict(meta)
    history.load_state_dict(meta["history"])
    optimizer = _with_rates(trainer.optimizer, meta["optimizer"]) if rates else trainer.optimizer
    data = DataSpec.read(meta) if trainer._built is None else trainer._built.data
    built = build(trainer, data, meta["seed"], meta["shards"], optimizer, draw=False)
    _write(built.session, given, trainer.dtype)
    built.session.t = meta["t"]

    trainer.seed, trainer.shards, trainer._built = meta["seed"], meta["shards"], built
    vars(trainer.optimizer).update(vars(optimizer))  # whoever holds it goes on holding the trainer's optimizer
    vars(trainer._position).update(vars(position))
    vars(trainer.history).update(vars(history))
    trainer._callback_states, trainer._callbacks = callbacks, ()


def ready(values: dict[str, Any], dtype: str, what: str) -> dict[str, np.ndarray]:
    """Return arrays by name, ready for the engine. Raises: TypeError for what is no dict of arrays."""
    if not isinstance(values, dict):
        raise TypeError(f"[Trainer] {what}s came as a {type(values).__name__}, expected a dict of arrays by name")
    return {name: arrays.real(value, dtype, what, repr(name)) for name, value in values.items()}


def callback_states(callbacks: Sequence[Callback]) -> list[dict[str, Any]]:
    """Return what the callbacks keep, in order."""
    return [{"callback": type(c).__name__, "state": c.state_dict()} for c in callbacks]


def give_callbacks(callbacks: Sequence[Callback], states: list[dict[str, Any]]) -> None:
    """Hand the callbacks what a checkpoint kept of callbacks of their class, in order.

    Raises: ValueError for a state that a callback doesn't understand.
    """
    left = list(states)
    for callback in callbacks:
        name = type(callback).__name__
        at = next((i for i, s in enumerate(left) if s["callback"] == name), None)
        if at is None:
            continue
        try:
            callback.load_state_dict(left.pop(at)["state"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"[{name}] what the checkpoint kept of this callback is malformed: {error!r}") from error


def _part(name: str, parts: dict[str, Any], description: Any, make: Any) -> Any:
    if parts.get(name) is not None:
        return parts[name]
    if description is None:
        raise ValueError(f"[Trainer.load] the {name} of this checkpoint was of one's own making: give it, {name}=...")
    return make(description)


def _check_same(trainer: Trainer, meta: dict[str, Any]) -> None:
    if meta["dtype"] != trainer.dtype:
        raise ValueError(f"[load_state_dict] the state is in {meta['dtype']}, the trainer in {trainer.dtype}")
    rule = trainer.optimizer.rule
    if different := different_rules(meta["rule"], rule):
        raise ValueError(
            f"[load_state_dict] the state belongs to another optimizer: {different} differ "
            f"({meta['rule']['name']}, the trainer has {rule['name']})"
        )
    ours = describe(trainer.net)
    if meta["network"] is None or ours is None:  # layers of one's own: only shapes can tell
        return
    theirs = describe(build_network(meta["network"]))  # options that an earlier version had none of have their defaults
    if theirs is not None and (different := difference(theirs, ours)):
        raise ValueError(
            f"[load_state_dict] the state belongs to another network: {different}. Weights alone are taken over by "
            "set_parameters(state['parameters'])"
        )


def _check_precision(trainer: Trainer, meta: dict[str, Any], wanted: str | None) -> None:
    ours, theirs = trainer.precision, meta.get("precision") or meta["dtype"]
    if wanted is None and theirs != ours:
        raise ValueError(
            f"[load_state_dict] the state is of a training with precision {theirs!r}, the trainer has {ours!r}: give "
            f"precision={ours!r} to go on from it with other bits, or make a trainer like it by Trainer.load"
        )
    if wanted is not None and wanted != ours:
        raise ValueError(f"[load_state_dict] precision is {wanted!r}, expected {ours!r}, that of the trainer")


def _with_rates(optimizer: optim.Optimizer, described: dict[str, Any] | None) -> optim.Optimizer:
    """Return an optimizer with the rates and groups of a state; the trainer's own where the state's can't be made."""
    if described is None or described.get("optimizer") != type(optimizer).__name__:
        return optimizer
    made = optim.build(described)
    return made if type(made) is type(optimizer) else optimizer


def _write(session: Any, given: dict[str, Any], dtype: str) -> None:
    session.set_parameters(ready(given["parameters"], dtype, "parameter"))
    session.set_buffers(ready(given["buffers"], dtype, "buffer"))
    session.set_optimizer_state([ready(arena, dtype, "optimizer state") for arena in given["optimizer"]])


def _without_arrays(value: Any, path: str, kept: dict[str, np.ndarray]) -> Any:
    """Return a callback's state as JSON data, with its arrays put into `kept` under their path."""
    if isinstance(value, np.ndarray) and value.ndim:
        kept[path] = value
        return {_ARRAY: path}
    if isinstance(value, dict):
        return {key: _without_arrays(item, f"{path}/{key}", kept) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_arrays(item, f"{path}/{i}", kept) for i, item in enumerate(value)]
    return value


def _with_arrays(value: Any, kept: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        if value.keys() != {_ARRAY}:
            return {key: _with_arrays(item, kept) for key, item in value.items()}
        if value[_ARRAY] not in kept:
            raise ValueError(f"[load_state_dict] 'arrays' lacks {value[_ARRAY]!r}, which a callback's state names")
        return np.array(kept[value[_ARRAY]])
    return [_with_arrays(item, kept) for item in value] if isinstance(value, list) else value
