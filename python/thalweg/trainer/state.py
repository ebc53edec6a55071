"""What a checkpoint holds of a trainer, and how a trainer is made from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import arrays, losses, metrics, optim
from ..callbacks import Callback
from ..nn.describe import build, describe
from .record import Spec

if TYPE_CHECKING:
    from .trainer import Trainer

_OPTIONS = ("seed", "dtype", "shards", "max_norm", "max_layer_norm", "clip_value", "on_nonfinite", "accumulate")


def collect(trainer: Trainer) -> dict[str, Any]:
    """Return the state of a trainer. Raises: RuntimeError before the network was built."""
    session = trainer._session
    return {
        "parameters": trainer.parameters(),
        "buffers": session.buffers(),
        "optimizer": session.optimizer_state(),
        "meta": _meta(trainer),
    }


def _meta(trainer: Trainer) -> dict[str, Any]:
    states = [{"callback": type(c).__name__, "state": c.state_dict()} for c in trainer._callbacks]
    return {
        "t": trainer.t,
        **trainer._position.state_dict(),
        **{name: getattr(trainer, name) for name in _OPTIONS},
        "network": describe(trainer.net),
        "loss": losses.describe(trainer.loss),
        "metrics": metrics.describe(trainer.metrics),
        "metric_names": list(trainer.metrics),
        "optimizer": trainer.optimizer.describe(),
        "rule": dict(trainer.optimizer.rule),
        "inputs": [spec.describe() for spec in trainer._inputs],
        "targets": [spec.describe() for spec in trainer._targets],
        "several_targets": trainer._several,
        "history": trainer.history.state_dict(),
        "callbacks": states or trainer._callback_states,
    }


def arguments(meta: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the Trainer that a checkpoint describes. Raises: ValueError for a part that is needed."""
    made = {
        "net": _part("net", parts, meta["network"], build),
        "loss": _part("loss", parts, meta["loss"], losses.build),
        "optimizer": _part("optimizer", parts, meta["optimizer"], optim.build),
        "metrics": _part("metrics", parts, meta["metrics"], lambda names: names),
    }
    options = {name: meta[name] for name in _OPTIONS}
    return {**made, **options, "world": parts.get("world"), "threads": parts.get("threads") or 0}


def restore(trainer: Trainer, given: dict[str, Any]) -> None:
    """Put a state into a trainer. Everything is checked before anything changes."""
    meta = given["meta"]
    _check_meta(trainer, meta)
    if trainer._native is None or (trainer.seed, trainer.shards) != (meta["seed"], meta["shards"]):
        _rebuild(trainer, meta)
    session = trainer._session
    before = {"parameters": session.parameters(), "buffers": session.buffers(), "optimizer": session.optimizer_state()}
    try:
        _write(session, given, trainer.dtype)
    except (TypeError, ValueError):
        _write(session, before, trainer.dtype)
        raise
    session.t = int(meta["t"])
    trainer._position.load_state_dict(meta)
    trainer.history.load_state_dict(meta["history"])
    trainer._callback_states = list(meta["callbacks"])
    trainer._callbacks = ()


def ready(values: dict[str, Any], dtype: str, what: str) -> dict[str, np.ndarray]:
    """Return arrays by name, ready for the engine. Raises: TypeError for what is no dict of arrays."""
    if not isinstance(values, dict):
        raise TypeError(f"[Trainer] {what}s came as a {type(values).__name__}, expected a dict of arrays by name")
    return {name: arrays.real(value, dtype, what, repr(name)) for name, value in values.items()}


def give_callbacks(callbacks: Sequence[Callback], states: list[dict[str, Any]]) -> None:
    """Hand the callbacks what a checkpoint kept of callbacks of their class, in order."""
    left = list(states)
    for callback in callbacks:
        kept = next((s for s in left if s["callback"] == type(callback).__name__), None)
        if kept is not None:
            left.remove(kept)
            callback.load_state_dict(kept["state"])


def _part(name: str, parts: dict[str, Any], description: Any, make: Any) -> Any:
    if parts.get(name) is not None:
        return parts[name]
    if description is None:
        raise ValueError(f"[Trainer.load] the {name} of this checkpoint was of one's own making: give it, {name}=...")
    return make(description)


def _check_meta(trainer: Trainer, meta: dict[str, Any]) -> None:
    if meta["dtype"] != trainer.dtype:
        raise ValueError(f"[load_state_dict] the state is in {meta['dtype']}, the trainer in {trainer.dtype}")
    rule = dict(trainer.optimizer.rule)
    if meta["rule"] != rule:
        different = sorted(k for k in rule if meta["rule"].get(k) != rule[k])
        raise ValueError(
            f"[load_state_dict] the state belongs to another optimizer: {different} differ "
            f"({meta['rule']['name']}, the trainer has {rule['name']})"
        )


def _rebuild(trainer: Trainer, meta: dict[str, Any]) -> None:
    before = trainer.seed, trainer.shards
    trainer.seed, trainer.shards = int(meta["seed"]), int(meta["shards"])
    try:
        trainer._build(_specs(meta["inputs"]), _specs(meta["targets"]), bool(meta["several_targets"]))
    except (TypeError, ValueError):
        trainer.seed, trainer.shards = before
        raise


def _specs(described: list[dict[str, Any]]) -> list[Spec]:
    return [Spec(tuple(int(n) for n in d["shape"]), bool(d["integer"])) for d in described]


def _write(session: Any, given: dict[str, Any], dtype: str) -> None:
    session.set_parameters(ready(given["parameters"], dtype, "parameter"))
    session.set_buffers(ready(given["buffers"], dtype, "buffer"))
    session.set_optimizer_state([ready(arena, dtype, "optimizer state") for arena in given["optimizer"]])
