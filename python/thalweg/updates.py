"""Optimizers on NumPy arrays, for training loops of one's own: the engine's update pass, one native call an array.

    optimizer = tw.optim.Adam(lr=1e-3)
    state = optimizer.init(w)                      # w: an array, or nested dicts, lists and tuples of arrays
    for _ in range(100):
        optimizer.update(w, tw.grad(f)(w), state)  # w and state change in place

The arrays of w are float32 or float64, contiguous and writable; gradients are converted where they differ in layout or
dtype. Everything is checked before anything is written. Gradients are not looked at for NaN: a Trainer does that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core, arrays, tree

if TYPE_CHECKING:
    from .optim import Optimizer


@dataclass
class OptimizerState:
    """What an optimizer keeps between updates. t: updates done; arrays: for each parameter one array (k, *shape) of k
    states (velocity; moments; ...), in the order of the parameters' leaves; groups: the group of each."""

    t: int = 0
    arrays: list[np.ndarray] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)


def init(optimizer: Optimizer, params: Any) -> OptimizerState:
    """Return the state of no update yet.

    Raises: TypeError for a parameter that is no float32 or float64 array, or for a group that names a module;
    ValueError for one that is not contiguous and writable, or for a group that names no parameter.
    """
    where = f"{type(optimizer).__name__}.init"
    leaves, structure = tree.flatten(params)
    names = _names(structure)
    for name, leaf in zip(names, leaves, strict=True):
        _check(leaf, where, name)
    kept = _core.states(optimizer.rule)
    groups = optimizer.assign(None, names)
    return OptimizerState(0, [np.zeros((kept, *w.shape), w.dtype) for w in leaves], [groups[name] for name in names])


def update(optimizer: Optimizer, params: Any, grads: Any, state: OptimizerState, grad_scale: float = 1.0) -> None:
    """Make one update in place: the gradient is grad_scale times grads (1 / count, or the factor of a clip).

    Raises: as init; ValueError where grads or state do not belong to params. Nothing has changed then.
    """
    where = f"{type(optimizer).__name__}.update"
    leaves, structure = tree.flatten(params)
    names = _names(structure)
    gradients = tree.flatten_as(structure, grads, where, "grads")
    if len(state.arrays) != len(leaves):
        raise ValueError(f"[{where}] the state belongs to {len(state.arrays)} arrays, params hold {len(leaves)}")
    ready = []
    for name, w, g, kept in zip(names, leaves, gradients, state.arrays, strict=True):
        _check(w, where, name)
        d_w = arrays.real(g, str(w.dtype), where, f"the gradient of {name}")
        if d_w.shape != w.shape:
            raise ValueError(f"[{where}] the gradient of {name} has shape {d_w.shape}, expected {w.shape}")
        if kept.shape[1:] != w.shape or kept.dtype != w.dtype:
            raise ValueError(
                f"[{where}] the state of {name} is for {kept.dtype} {kept.shape[1:]}, it is {w.dtype} {w.shape}"
            )
        if np.may_share_memory(d_w, w):
            raise ValueError(f"[{where}] {name} and its gradient share memory")
        ready.append((w, d_w, kept))
    rates = optimizer.table(state.t, 1)[0]
    for (w, d_w, kept), group in zip(ready, state.groups, strict=True):
        _core.update(optimizer.rule, state.t + 1, rates[group], w, d_w, kept, float(grad_scale))
    state.t += 1


def _check(w: Any, where: str, name: str) -> None:
    if type(w) is not np.ndarray or str(w.dtype) not in arrays.DTYPES:
        kind = w.dtype if isinstance(w, np.ndarray) else type(w).__name__
        raise TypeError(f"[{where}] {name} is {kind}, expected a float32 or float64 array, which changes in place")
    if not (w.flags.c_contiguous and w.flags.writeable and w.flags.aligned):
        raise ValueError(f"[{where}] {name} is not contiguous, aligned and writable, so it can't change in place")


def _names(structure: Any, prefix: str = "") -> list[str]:
    """Names of the leaves as patterns of groups see them: "layers.0.weight"."""
    if isinstance(structure, dict):
        parts = structure.items()
    elif isinstance(structure, (list, tuple)):
        parts = enumerate(structure)  # type: ignore[assignment]
    else:
        return [] if structure is None else [prefix or "params"]
    return [name for key, part in parts for name in _names(part, f"{prefix}.{key}" if prefix else str(key))]
