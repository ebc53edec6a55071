"""Nested dicts, lists and tuples of arrays: taken apart into leaves, and put together again in the same structure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

LEAF = object()  # stands for a leaf in a structure


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """Return (leaves, structure). Dicts are taken in their own order; None holds no leaf."""
    leaves: list[Any] = []
    return leaves, _take(tree, leaves)


def flatten_as(structure: Any, tree: Any, where: str, name: str) -> list[Any]:
    """Return the leaves of tree in the order of a structure; ValueError if tree is built differently."""
    _, other = flatten(tree)
    if not same(structure, other):
        raise ValueError(f"[{where}] {name} has another structure than the arguments that it belongs to")
    leaves: list[Any] = []
    _follow(structure, tree, leaves)
    return leaves


def unflatten(structure: Any, leaves: Sequence[Any]) -> Any:
    """Put leaves into a structure that flatten returned."""
    return _put(structure, iter(leaves))


def map_leaves(f: Callable[..., Any], tree: Any) -> Any:
    """Apply f to every leaf and keep the structure."""
    leaves, structure = flatten(tree)
    return unflatten(structure, [f(leaf) for leaf in leaves])


def key(structure: Any) -> Any:
    """Return a hashable value that is equal for equal structures."""
    if isinstance(structure, dict):
        return ("dict", tuple((name, key(part)) for name, part in structure.items()))
    if isinstance(structure, (list, tuple)):
        return (type(structure).__name__, tuple(key(part) for part in structure))
    return None if structure is None else "leaf"


def same(a: Any, b: Any) -> bool:
    """Tell whether two structures hold their leaves in the same places (dicts in any order)."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(map(same, a, b))
    return a is b


def _take(tree: Any, leaves: list[Any]) -> Any:
    if isinstance(tree, dict):
        return {name: _take(part, leaves) for name, part in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(_take(part, leaves) for part in tree))
    if isinstance(tree, (list, tuple)):
        return type(tree)(_take(part, leaves) for part in tree)
    if tree is None:
        return None
    leaves.append(tree)
    return LEAF


def _follow(structure: Any, tree: Any, leaves: list[Any]) -> None:
    if isinstance(structure, dict):
        for name, part in structure.items():
            _follow(part, tree[name], leaves)
    elif isinstance(structure, (list, tuple)):
        for part, branch in zip(structure, tree, strict=True):
            _follow(part, branch, leaves)
    elif structure is not None:
        leaves.append(tree)


def _put(structure: Any, leaves: Any) -> Any:
    if isinstance(structure, dict):
        return {name: _put(part, leaves) for name, part in structure.items()}
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(_put(part, leaves) for part in structure))
    if isinstance(structure, (list, tuple)):
        return type(structure)(_put(part, leaves) for part in structure)
    return None if structure is None else next(leaves)
