"""Networks as data: a description in built-in layers, from a closed list, that can be stored and built again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .. import init as initial
from . import containers, layers, norm, simple
from .module import Held, Module

_LAYERS: dict[str, type[Module]] = {
    cls.__name__: cls
    for cls in (
        containers.Concat,
        containers.Residual,
        containers.Sequential,
        layers.Conv2d,
        layers.Linear,
        norm.BatchNorm,
        simple.Dropout,
        norm.LayerNorm,
        simple.AvgPool2d,
        simple.Flatten,
        simple.GELU,
        simple.GlobalAvgPool2d,
        simple.GlobalMaxPool2d,
        simple.Identity,
        simple.LeakyReLU,
        simple.LogSoftmax,
        simple.MaxPool2d,
        simple.ReLU,
        simple.Sigmoid,
        simple.Softmax,
        simple.Softplus,
        simple.Tanh,
    )
}
_MAX_DEPTH = 100


def describe(net: Module) -> dict[str, Any] | None:
    """Return a description made of dicts, lists, numbers and strings; None if the network holds layers of one's own."""
    seen: dict[int, int] = {}
    try:
        described = _describe(net, seen)
    except _OwnLayer:
        return None
    described["frozen"] = [name for name, parameter in net.named_parameters() if not parameter.trainable]
    if tied := _tied(net):
        described["tied"] = tied
    return described


def build(description: dict[str, Any]) -> Module:
    """Build the network that a description means.

    Raises: ValueError for an unknown layer or option, TypeError or ValueError of the layers themselves.
    """
    if not isinstance(description, dict):
        raise ValueError(f"[nn.build] the description is a {type(description).__name__}, expected a dict")
    frozen, tied = description.get("frozen", []), description.get("tied", {})
    net = _build({k: v for k, v in description.items() if k not in ("frozen", "tied")}, [], 0)
    _tie(net, tied)
    parameters = dict(net.named_parameters())
    for name in frozen:
        if name not in parameters:
            raise ValueError(f"[nn.build] the frozen parameter {name!r} is not in the network")
        parameters[name].trainable = False
    return net


def difference(there: dict[str, Any], here: dict[str, Any], path: str = "") -> str:
    """Return the first difference of two networks' descriptions, as text; empty where the same weights mean the same.

    How weights are drawn and which are frozen is none.
    """
    kind, other = (d.get("layer", "layer that stands before too") for d in (there, here))
    named = f"layer '{path}'" if path else "the network"
    if kind != other or there.get("shared") != here.get("shared"):
        return f"{named} is a {kind} there, a {other} here"
    for key, a, b in _pairs(there, here, "options"):
        if a != b and not isinstance(a, dict):  # an initializer
            return f"{key} of {named} ({kind}) is {a} there, {b} here"
    for key, a, b in _pairs(there, here, "parts"):
        inner = f"{path}.{key}" if path else key
        if a is None or b is None:
            return f"layer '{inner}' ({(a or b).get('layer', 'shared')}) is {'here' if a is None else 'there'} alone"
        if found := difference(a, b, inner):
            return found
    for key, a, b in _pairs(there, here, "tied"):
        if a != b:
            return f"{key} is {a or 'its own'} there, {b or 'its own'} here"
    return ""


def _pairs(there: dict[str, Any], here: dict[str, Any], form: str) -> Iterator[tuple[str, Any, Any]]:
    theirs, ours = there.get(form, {}), here.get(form, {})
    for key in dict.fromkeys([*theirs, *ours]):
        yield key, theirs.get(key), ours.get(key)


def _tied(net: Module) -> dict[str, str]:
    """Return the parameters and buffers that two modules hold: {path in the later: path in the first}."""
    first: dict[int, str] = {}
    tied = {}
    for path, module in net.named_modules():
        for name, part in module._parts.items():
            if isinstance(part, Held):
                here = f"{path}.{name}" if path else name
                if first.setdefault(id(part), here) != here:
                    tied[here] = first[id(part)]
    return tied


def _tie(net: Module, tied: Any) -> None:
    parts = dict(net.named_parts())
    for path, first in tied.items() if isinstance(tied, dict) else [("tied", tied)]:
        owner, _, name = str(path).rpartition(".")
        module, held = parts.get(owner), parts.get(first)
        if not isinstance(module, Module) or not isinstance(held, Held) or not name:
            raise ValueError(f"[nn.build] {path!r} is tied to {first!r}: one of them is not in the network")
        setattr(module, name, held)


class _OwnLayer(Exception):
    pass


def _describe(module: Module, seen: dict[int, int]) -> dict[str, Any]:
    if id(module) in seen:
        return {"shared": seen[id(module)]}
    name = type(module).__name__
    if _LAYERS.get(name) is not type(module):
        raise _OwnLayer
    seen[id(module)] = len(seen)
    options = {key: _plain(value) for key, value in module.options().items()}
    described: dict[str, Any] = {"layer": name}
    if options:
        described["options"] = options
    parts = {key: _describe(part, seen) for key, part in module._parts.items() if isinstance(part, Module)}
    if parts:
        described["parts"] = parts
    return described


def _plain(value: Any) -> Any:
    if isinstance(value, initial.Initializer):
        return {"init": value.describe()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    raise _OwnLayer


def _build(described: Any, built: list[Module | None], depth: int) -> Module:
    if depth > _MAX_DEPTH or not isinstance(described, dict):
        raise ValueError("[nn.build] the description is damaged: a layer is no dict, or layers are nested too deeply")
    if "shared" in described:
        return _shared(described["shared"], built)
    cls = _LAYERS.get(str(described.get("layer")))
    if cls is None or set(described) - {"layer", "options", "parts"}:
        raise ValueError(f"[nn.build] unknown layer {described.get('layer')!r}, expected one of {', '.join(_LAYERS)}")
    place = len(built)
    built.append(None)
    parts = {name: _build(part, built, depth + 1) for name, part in described.get("parts", {}).items()}
    module = _make(cls, _options(described.get("options", {}), cls.__name__), parts)
    built[place] = module
    return module


def _shared(at: Any, built: list[Module | None]) -> Module:
    module = built[at] if isinstance(at, int) and 0 <= at < len(built) else None
    if module is None:
        raise ValueError(f"[nn.build] the shared layer {at!r} doesn't exist")
    return module


def _make(cls: type[Module], options: dict[str, Any], parts: dict[str, Module]) -> Module:
    try:
        if cls is containers.Sequential:
            return cls(parts, **options)
        if cls is containers.Concat:
            return cls(*parts.values(), **options)
        return cls(**parts, **options)
    except TypeError as error:
        raise ValueError(f"[nn.build] {cls.__name__} can't be built from its description: {error}") from None


def _options(described: Any, layer: str) -> dict[str, Any]:
    if not isinstance(described, dict):
        raise ValueError(f"[nn.build] the options of {layer} are damaged")
    return {key: initial.build(value["init"]) if isinstance(value, dict) else value for key, value in described.items()}
