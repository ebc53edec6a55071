"""Modules made of modules: Sequential, Residual, Concat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .. import ops
from .module import Module


class Sequential(Module):
    """Layers one after the other; their names are their positions. Also takes one list, or a dict of named layers."""

    def __init__(self, *layers: Any) -> None:
        super().__init__()
        if len(layers) == 1 and isinstance(layers[0], dict):
            named = list(layers[0].items())
        else:
            flat = layers[0] if len(layers) == 1 and isinstance(layers[0], (list, tuple)) else layers
            named = [(str(i), layer) for i, layer in enumerate(flat)]
        for name, layer in named:
            _check_module(layer, "Sequential", name)
            setattr(self, name, layer)

    def forward(self, x: Any) -> Any:
        for layer in self.children():
            x = layer(x)
        return x

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, at: int) -> Module:
        return list(self.children())[at]


class Residual(Module):
    """A block with a shortcut: y = body(x) + shortcut(x), the shortcut being the identity if none is given."""

    def __init__(self, body: Module, shortcut: Module | None = None) -> None:
        super().__init__()
        _check_module(body, "Residual", "body")
        self.body = body
        if shortcut is not None:
            _check_module(shortcut, "Residual", "shortcut")
        self.shortcut = shortcut

    def forward(self, x: Any) -> Any:
        return self.body(x) + (x if self.shortcut is None else self.shortcut(x))


class Concat(Module):
    """Branches side by side: their outputs joined along an axis (the last by default)."""

    def __init__(self, *branches: Module, axis: int = -1) -> None:
        super().__init__()
        if not branches:
            raise ValueError("[Concat] there are no branches, expected at least one")
        for i, branch in enumerate(branches):
            _check_module(branch, "Concat", str(i))
            setattr(self, str(i), branch)
        self.axis = ops.axes.integer(axis, "Concat", "axis")

    def forward(self, x: Any) -> Any:
        return ops.concat([branch(x) for branch in self.children()], self.axis)

    def options(self) -> dict[str, Any]:
        return {"axis": self.axis}


def _check_module(part: Any, where: str, name: str) -> None:
    if not isinstance(part, Module):
        hint = " (a class: add parentheses)" if isinstance(part, type) else ""
        raise TypeError(f"[{where}] {name!r} is {part!r}{hint}, expected an nn.Module")
