"""The form of a trainer's state: what every key of its meta has to be, checked before any of it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..arrays import DTYPES

PRECISIONS = (*DTYPES, "bf16")

Check = tuple[Callable[[Any], bool], str]


def checked(given: Any, where: str) -> dict[str, Any]:
    """Return the meta of a state whose parts all have the right form. Raises: ValueError naming the key of another."""
    parts = "a dict with parameters, buffers, optimizer and meta"
    if not isinstance(given, dict):
        raise ValueError(f"[{where}] the state is {_shown(given)}, expected {parts}")
    for key, check in _STATE.items():
        _hold(given, key, check, where, repr(key))
    meta: dict[str, Any] = given["meta"]
    for key, check in _META.items():
        _hold(meta, key, check, where, f"meta[{key!r}]")
    for key, check in _LATER.items():
        if meta.get(key) is not None:
            _hold(meta, key, check, where, f"meta[{key!r}]")
    return meta


def _hold(found: dict[str, Any], key: str, check: Check, where: str, name: str) -> None:
    holds, expected = check
    if key not in found:
        raise ValueError(f"[{where}] {name} is missing from the state, expected {expected}")
    if not holds(found[key]):
        raise ValueError(f"[{where}] {name} is {_shown(found[key])}, expected {expected}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _named(value: Any, holds: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and holds(v) for k, v in value.items())


def _list(value: Any, holds: Callable[[Any], bool], least: int = 0) -> bool:
    return isinstance(value, (list, tuple)) and len(value) >= least and all(map(holds, value))


def _spec(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _list(value.get("shape"), lambda n: _whole(n) and n > 0)
        and isinstance(value.get("integer"), bool)
    )


def _history(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _list(value.get("epoch"), _whole)
        and _named(value.get("history"), lambda values: _list(values, _number))
    )


def _callback(value: Any) -> bool:
    named = isinstance(value, dict) and isinstance(value.get("callback"), str)
    return named and _named(value.get("state"), lambda _: True)


_WHOLE: Check = (_whole, "a whole number from 0 on")
_LIMIT: Check = (lambda v: v is None or (_number(v) and v > 0), "None or a number above 0")
_PART: Check = (lambda v: v is None or isinstance(v, dict), "a description, or None for one of one's own")
_SPECS: Check = (lambda v: _list(v, _spec, 1), "a list of {shape, integer}")
_ARRAYS: Check = (lambda v: isinstance(v, dict), "a dict of arrays by name")
_STATE: dict[str, Check] = {
    "parameters": _ARRAYS,
    "buffers": _ARRAYS,
    "optimizer": (lambda v: _list(v, lambda arena: isinstance(arena, dict)), "a list of dicts of arrays"),
    "meta": (lambda v: isinstance(v, dict), "a dict"),
}
_META: dict[str, Check] = {
    "t": _WHOLE,
    "epoch": _WHOLE,
    "position": _WHOLE,
    "sums": (lambda v: _named(v, _number), "a dict of numbers"),
    "seed": _WHOLE,
    "dtype": (lambda v: v in DTYPES, f"one of {', '.join(DTYPES)}"),
    "shards": (lambda v: _whole(v) and v > 0 and not v & (v - 1), "a power of two"),
    "max_norm": _LIMIT,
    "max_layer_norm": _LIMIT,
    "clip_value": _LIMIT,
    "on_nonfinite": (lambda v: v in ("raise", "skip"), "'raise' or 'skip'"),
    "accumulate": (lambda v: _whole(v) and v > 0, "a whole number from 1 on"),
    "network": _PART,
    "loss": _PART,
    "metrics": (lambda v: v is None or _list(v, lambda n: isinstance(n, str)), "a list of names, or None"),
    "metric_names": (lambda v: _list(v, lambda n: isinstance(n, str)), "a list of names"),
    "optimizer": _PART,
    "rule": (lambda v: _named(v, lambda _: True) and "name" in v, "the rule of an optimizer"),
    "inputs": _SPECS,
    "targets": _SPECS,
    "several_targets": (lambda v: isinstance(v, bool), "True or False"),
    "history": (_history, "{epoch: [...], history: {name: [...]}}"),
    "callbacks": (lambda v: _list(v, _callback), "a list of {callback, state}"),
}
_LATER: dict[str, Check] = {  # which checkpoints of earlier versions don't hold
    "precision": (lambda v: v in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
    "rows": _WHOLE,
    "batch_size": _WHOLE,
    "shuffle": (lambda v: isinstance(v, bool), "True or False"),
    "config": (lambda v: isinstance(v, str), "a digest"),
    "version": (lambda v: isinstance(v, str), "a version of Thalweg"),
}
