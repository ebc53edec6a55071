"""Checks of a trainer's arguments: TypeError for other types, ValueError outside the range."""

from __future__ import annotations

from typing import Any

from .. import optim
from ..callbacks import Callback, ModelCheckpoint
from ..nn.module import Module
from ..ops.axes import integer, number, one_of


def parts(net: Any, loss: Any) -> None:
    if not isinstance(net, Module):
        raise TypeError(f"[Trainer] net is {net!r}, expected an nn.Module")
    if isinstance(loss, type) or not callable(loss):
        raise TypeError(
            f"[Trainer] loss is {loss!r}, expected a function (prediction, target), such as losses.CrossEntropy()"
        )


def optimizer(given: Any) -> None:
    if not isinstance(given, optim.Optimizer):
        raise TypeError(f"[Trainer] optimizer is {given!r}, expected one of thalweg.optim, such as SGD(lr=0.1)")


def callbacks(given: Any, where: str) -> list[Callback]:
    found = [given] if isinstance(given, Callback) else list(given)
    for callback in found:
        if not isinstance(callback, Callback):
            raise TypeError(f"[{where}] {callback!r} is no Callback")
    return sorted(found, key=lambda c: isinstance(c, ModelCheckpoint))  # what they save holds the others' newest state


def seed(given: Any) -> int:
    value = integer(given, "Trainer", "seed", 0)
    if value >= 1 << 63:
        raise ValueError(f"[Trainer] seed is {value}, expected below 2^63")
    return value


def precision(given: Any, dtype: str) -> str:
    """Return the precision of products and activations: that of dtype, or bf16 with float32 around it."""
    allowed = ("float32", "bf16") if dtype == "float32" else (dtype,)
    expected = " or ".join(map(repr, allowed))
    if given is not None and not isinstance(given, str):
        raise TypeError(f"[Trainer] precision is {given!r}, expected {expected}")
    if given is not None and given not in allowed:
        also = ": bf16 goes with dtype 'float32'" if given == "bf16" else ""
        raise ValueError(f"[Trainer] precision is {given!r}, expected {expected} beside dtype {dtype!r}{also}")
    return given or dtype


def power_of_two(given: Any) -> int:
    value = integer(given, "Trainer", "shards", 1)
    if value & (value - 1):
        raise ValueError(f"[Trainer] shards is {value}, expected a power of two")
    return value


def policy(given: Any) -> str:
    return one_of(given, "Trainer", "on_nonfinite", ("raise", "skip"))


def limit(value: Any, name: str) -> float | None:
    return None if value is None else number(value, "Trainer", name, 0, None, open_low=True)
