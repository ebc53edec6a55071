"""Modules made of modules: ModuleList, Sequential, ModuleDict, Residual, Concat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .. import ops
from .module import Module


class ModuleList(Module):
    """Modules in a list, as parts of a layer of one's own, whose forward calls them; their names are their positions.

    Raises: TypeError for what is no module; IndexError for a position outside the list.
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)

    def append(self, module: Module) -> Any:
        """Add a module at the end, named by its position. Returns the list."""
        at = len(self)
        while str(at) in self._parts:  # a slice keeps the names of the whole
            at += 1
        return self._add(str(at), module)

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add modules at the end. Returns the list."""
        for module in modules:
            self.append(module)
        return self

    def _add(self, name: str, module: Module) -> Any:
        _add(self, name, module)
        return self

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, at: int | slice) -> Any:
        """Return one module, or those of a slice with their names, shared with this list."""
        if not isinstance(at, slice):
            return list(self.children())[at]
        part: ModuleList = Sequential() if isinstance(self, Sequential) else ModuleList()
        for name, module in list(self.named_children())[at]:
            part._add(name, module)
        return part


class Sequential(ModuleList):
    """Layers one after the other; their names are their positions. Also takes one list, or a dict of named layers."""

    def __init__(self, *layers: Any) -> None:
        super().__init__()
        if len(layers) == 1 and isinstance(layers[0], dict):
            for name, layer in layers[0].items():
                self._add(name, layer)
        else:
            self.extend(layers[0] if len(layers) == 1 and isinstance(layers[0], (list, tuple)) else layers)

    def forward(self, x: Any) -> Any:
        for layer in self.children():
            x = layer(x)
        return x


class ModuleDict(Module):
    """Modules by name, as parts of a layer of one's own, whose forward calls them.

    Raises: TypeError for what is no module; ValueError for a name that a method has; KeyError for an unknown one.
    """

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        for name, module in (modules or {}).items():
            self[name] = module

    def keys(self) -> Iterator[str]:
        """Yield the names."""
        return (name for name, _ in self.items())

    def values(self) -> Iterator[Module]:
        """Yield the modules."""
        return self.children()

    def items(self) -> Iterator[tuple[str, Module]]:
        """Yield (name, module)."""
        return self.named_children()

    def __setitem__(self, name: str, module: Module) -> None:
        _add(self, name, module)

    def __getitem__(self, name: str) -> Module:
        return dict(self.items())[name]

    def __contains__(self, name: object) -> bool:
        return any(name == key for key in self.keys())

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def __len__(self) -> int:
        return sum(1 for _ in self.items())


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
            _add(self, str(i), branch)
        self.axis = ops.axes.integer(axis, "Concat", "axis")

    def forward(self, x: Any) -> Any:
        return ops.concat([branch(x) for branch in self.children()], self.axis)

    def options(self) -> dict[str, Any]:
        return {"axis": self.axis}


def _add(whole: Module, name: str, part: Any) -> None:
    """Make part a part of the whole under a name."""
    where = type(whole).__name__
    _check_module(part, where, name)
    if not isinstance(name, str) or hasattr(type(whole), name):
        raise ValueError(f"[{where}] a part can't be named {name!r}: expected a string that is no method's name")
    setattr(whole, name, part)


def _check_module(part: Any, where: str, name: str) -> None:
    if not isinstance(part, Module):
        hint = " (a class: add parentheses)" if isinstance(part, type) else ""
        raise TypeError(f"[{where}] {name!r} is {part!r}{hint}, expected an nn.Module")
