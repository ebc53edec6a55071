"""Which runs a sweep makes: the combinations of its values, and the parts of a training that are made of them."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Settings = dict[str, Any]  # of one run: the swept values by name
TABLE_COLUMNS = ("run", "status", "updates", "seconds", "error")


def runs_of(over: Any) -> list[Settings]:
    """Return the settings of every run: all combinations of a dict's lists, the last name's values changing fastest, or
    the dicts of a list as they are.

    Raises: TypeError for what is no such thing; ValueError where it names no run, or one name is no name.
    """
    if isinstance(over, Mapping):
        values = [_values(name, given) for name, given in over.items()]
        runs = [dict(zip(over, combination, strict=True)) for combination in itertools.product(*values)]
    elif isinstance(over, Iterable) and not isinstance(over, (str, bytes)):
        runs = [_one(i, given) for i, given in enumerate(over)]
    else:
        raise TypeError(
            f"[sweep] over is {over!r}, expected a dict of lists, such as {{'lr': [0.01, 0.1]}}, or a list of dicts"
        )
    if not over or not runs:
        raise ValueError("[sweep] over is empty, expected values to sweep, such as {'seed': range(10)}")
    return runs


def names_of(runs: Sequence[Settings]) -> list[str]:
    """Return every name, in the order of appearance."""
    return list(dict.fromkeys(name for settings in runs for name in settings))


class Part:
    """The network, the optimizer or the loss: one for all runs, or a function that makes one of swept values.

    A function is called once for the same values: what runs have in common is made once.
    """

    def __init__(self, what: str, given: Any, fixed: bool) -> None:
        self.what, self.given, self.fixed = what, given, fixed
        self.required, self.optional = ([], []) if fixed else _parameters(what, given)
        self._made: dict[Any, Any] = {}

    def check(self, runs: Sequence[Settings], offered: Sequence[str]) -> None:
        """Raise ValueError where a run lacks what the function asks for. offered: the values that every run has."""
        for name in self.required:
            if name in offered:
                continue
            lacking = [i for i, settings in enumerate(runs) if name not in settings]
            if len(lacking) == len(runs):
                raise ValueError(
                    f"[sweep] {self.what} asks for {name!r}, which is not swept (swept are "
                    f"{', '.join(names_of(runs))}; there are {', '.join(offered)} too): give values, "
                    f"over={{{name!r}: [...]}}, or give the parameter a default"
                )
            if lacking:
                raise ValueError(
                    f"[sweep] {self.what} asks for {name!r}, which run {lacking[0]} lacks: it has "
                    f"{runs[lacking[0]]}; give it there, or give the parameter a default"
                )

    def takes(self, name: str) -> bool:
        return name in self.required or name in self.optional

    def key(self, values: Settings) -> tuple[Any, ...]:
        """Return what tells runs with one such part from runs with another."""
        return tuple(_key(name, values[name]) for name in self._names(values))

    def make(self, values: Settings) -> Any:
        """Return the part for a run's values. Raises: whatever the function raises."""
        if self.fixed:
            return self.given
        key = self.key(values)
        if key not in self._made:
            self._made[key] = self.given(**{name: values[name] for name in self._names(values)})
        return self._made[key]

    def _names(self, values: Settings) -> list[str]:
        return self.required + [name for name in self.optional if name in values]


def is_factory(given: Any, names: Sequence[str]) -> bool:
    """Tell whether a loss is to be made: it is a class, or all that it asks for are swept values."""
    if isinstance(given, type):
        return True
    try:
        required, optional = _parameters("loss", given)
    except (TypeError, ValueError):
        return False
    return bool(required or optional) and all(name in names for name in required)


def check_names(runs: Sequence[Settings], figures: Sequence[str]) -> None:
    """Raise ValueError for a setting that has the name of another column of the table; lr may be both."""
    for name in names_of(runs):
        if name in TABLE_COLUMNS or (name in figures and name != "lr"):
            raise ValueError(f"[sweep] over has the key {name!r}, which is a column of every result: rename it")


def check_taken(names: Iterable[str], parts: Sequence[Part], options: Sequence[str]) -> None:
    """Raise ValueError for a name that no part and no option of the training takes."""
    for name in names:
        if name in options or any(part.takes(name) for part in parts):
            continue
        fixed = [part.what for part in parts if part.fixed]
        hint = f"; {' and '.join(fixed)} can be functions of it, such as lambda {name}: ..." if fixed else ""
        raise ValueError(
            f"[sweep] nothing takes {name!r}: it is no parameter of a function that was given, and none of the "
            f"training's {', '.join(options)}{hint}"
        )


def _values(name: Any, given: Any) -> list[Any]:
    _check_name(name)
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise TypeError(f"[sweep] over[{name!r}] is {given!r}, expected a list of values, such as [{given!r}]")
    values = [_plain(value) for value in given]
    if not values:
        raise ValueError(f"[sweep] over[{name!r}] is empty, expected at least one value")
    return values


def _one(i: int, given: Any) -> Settings:
    if not isinstance(given, Mapping):
        raise TypeError(f"[sweep] over[{i}] is {given!r}, expected a dict of one run's values, such as {{'lr': 0.1}}")
    for name in given:
        _check_name(name)
    return {name: _plain(value) for name, value in given.items()}


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name.isidentifier():
        raise TypeError(f"[sweep] over has the key {name!r}, expected the name of a parameter, such as 'lr'")


def _plain(value: Any) -> Any:
    """Return a scalar of NumPy as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def _parameters(what: str, given: Callable[..., Any]) -> tuple[list[str], list[str]]:
    """Return the names of the parameters without and with a default. Raises: TypeError for what is no function."""
    try:
        found = inspect.signature(given).parameters.values()
    except (TypeError, ValueError):
        raise TypeError(
            f"[sweep] {what} is {given!r}, which does not say what it takes: wrap it, lambda lr: ..."
        ) from None
    named = [p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    for p in named:
        if p.kind is p.POSITIONAL_ONLY and p.default is p.empty:
            raise TypeError(f"[sweep] {what} takes {p.name!r} by position only, expected parameters with names")
    required = [p.name for p in named if p.default is p.empty]
    return required, [p.name for p in named if p.default is not p.empty and p.kind is not p.POSITIONAL_ONLY]


def _key(name: str, value: Any) -> tuple[Any, ...]:
    try:
        hash(value)
    except TypeError:
        return name, id(value)  # the runs hold the value, so its id is its own
    return name, type(value), value
