"""Optimizers: what an update does, with which rates, for which parameters. The engine applies it in one pass.

lr is a number, a schedule (thalweg.schedules), or any function of the step. groups gives some parameters other rates:
    SGD(0.1, groups=[{"params": "*.bias", "weight_decay": 0.0}, {"params": net.head, "lr": 0.01}])
"params" is a pattern over parameter names (* and ?), a module of the network, or a list of these; the first group that
fits a parameter takes it. semantics="lecture" chooses the forms of the founding lecture, "standard" those of torch.
A Trainer applies it to a network; init and update apply it to NumPy arrays, for loops of one's own:
    state = optimizer.init(w);  optimizer.update(w, tw.grad(f)(w), state)
No optimizer writes into the gradient. Weight decay is 0 by default and is added to the gradient, except in AdamW.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from . import _core, schedules, updates
from .nn.module import Module
from .ops.axes import is_number, number, one_of

_FIELDS = {name: i for i, name in enumerate(_core.RATE_FIELDS)}


class Optimizer:
    """A rule and its rates. Subclasses fill `rule` and `rates`."""

    name = ""

    def __init__(
        self,
        lr: Any,
        rates: dict[str, float],
        rule: dict[str, Any],
        options: dict[str, Any],
        groups: Sequence[dict[str, Any]] | None,
    ) -> None:
        self.lr = lr
        self.rates = rates
        self.rule = {
            "name": self.name,
            "nesterov": False,
            "eps_inside": False,
            "bias_correction": True,
            "decoupled": False,
            "momentum": False,
            **rule,
        }
        self._options = options
        self.groups = [self._checked_group(g) for g in groups or ()]

    @property
    def lr(self) -> Any:
        """The learning rate as it was given. Setting it takes effect at the next call of fit or step."""
        return self._lr

    @lr.setter
    def lr(self, lr: Any) -> None:
        self._schedule = schedules.as_schedule(lr)
        self._lr = float(lr) if is_number(lr) else lr

    def lr_schedules(self) -> list[Callable[[int], float]]:
        """Return the schedule of every group, from group 0 on."""
        return [self._schedule, *[g.get("schedule", self._schedule) for g in self.groups]]

    def lr_at(self, step: int, group: int = 0) -> float:
        """Return the learning rate of the update after `step` updates; group 0 holds what no group takes."""
        schedule = self.lr_schedules()[group]
        lr = float(schedule(step))
        if not (math.isfinite(lr) and lr >= 0):
            raise ValueError(f"[{type(self).__name__}] the schedule gives lr = {lr} at step {step}, expected >= 0")
        return lr

    def assign(self, net: Module | None, names: Iterable[str]) -> dict[str, int]:
        """Return the group of each parameter; ValueError for a group that names no parameter of the network."""
        names = list(names)
        members = [self._members(group["params"], net, names) for group in self.groups]
        return {name: next((i + 1 for i, m in enumerate(members) if name in m), 0) for name in names}

    def table(self, first: int, steps: int) -> np.ndarray:
        """Return the rates of `steps` updates from update number `first` (0-based): (steps, groups, fields)."""
        own = [{}, *(g["rates"] for g in self.groups)]
        table = np.empty((steps, len(own), len(_FIELDS)))
        table[:] = [[{**self.rates, **rates}.get(name, 0.0) for name in _FIELDS] for rates in own]
        for g in range(len(own)):
            table[:, g, _FIELDS["lr"]] = self._lrs(first, steps, g)
        return table

    def init(self, params: Any) -> updates.OptimizerState:
        """Return the state of no update yet for params, an array or nested dicts, lists and tuples of arrays."""
        return updates.init(self, params)

    def update(self, params: Any, grads: Any, state: updates.OptimizerState, grad_scale: float = 1.0) -> None:
        """Update params and state in place by grad_scale times the gradients; see thalweg.updates."""
        updates.update(self, params, grads, state, grad_scale)

    def describe(self) -> dict[str, Any] | None:
        """Return the optimizer as data that build takes; None where it holds functions or modules of one's own."""
        try:
            groups = [
                {
                    "params": _patterns(g["params"]),
                    **g["options"],
                    **({"lr": _describe_lr(g["lr"])} if "lr" in g else {}),
                }
                for g in self.groups
            ]
            return {"optimizer": type(self).__name__, "lr": _describe_lr(self._lr), **self._options, "groups": groups}
        except TypeError:
            return None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(lr={self._lr!r}, {', '.join(f'{k}={v!r}' for k, v in self._options.items())})"

    def _lrs(self, first: int, steps: int, group: int) -> np.ndarray:
        schedule = self.lr_schedules()[group]
        if isinstance(schedule, schedules.Schedule):
            lrs = schedule.at(np.arange(first, first + steps, dtype=np.float64))
            if np.isfinite(lrs).all() and (lrs >= 0).all():
                return lrs
        return np.array([self.lr_at(t, group) for t in range(first, first + steps)])

    def _checked_group(self, group: Any) -> dict[str, Any]:
        where = f"{type(self).__name__} groups"
        if not isinstance(group, dict) or "params" not in group:
            raise TypeError(f"[{where}] {group!r} is no dict with 'params' and the rates that differ")
        options: dict[str, Any] = {}
        rates: dict[str, float] = {}
        for name, value in group.items():
            if name not in ("params", "lr"):
                own = self._rates_of(name, value, where)
                rates.update(own)
                options[name] = list(own.values()) if name == "betas" else own[name]
        checked = {"params": group["params"], "options": options, "rates": rates}
        if "lr" in group:
            lr = group["lr"]
            checked |= {"lr": float(lr) if is_number(lr) else lr, "schedule": schedules.as_schedule(lr)}
        return checked

    def _rates_of(self, name: str, value: Any, where: str) -> dict[str, float]:
        if name == "betas" and "beta1" in self.rates:
            return _betas(value, where)
        if name not in self.rates or name in ("beta1", "beta2"):
            raise ValueError(f"[{where}] unknown rate {name!r}, expected lr, {', '.join(self._names())}")
        if name == "momentum" and not self.rule["momentum"]:
            raise ValueError(f"[{where}] a group can't have momentum when the optimizer has none")
        return {name: _rate(name, value, where)}

    def _names(self) -> list[str]:
        names = [n for n in self.rates if n not in ("beta1", "beta2")]
        return [*names, "betas"] if "beta1" in self.rates else names

    def _members(self, params: Any, net: Module | None, names: list[str]) -> set[str]:
        if isinstance(params, (list, tuple)):
            return set().union(*(self._members(p, net, names) for p in params))
        where = f"{type(self).__name__} groups"
        if isinstance(params, Module):
            if net is None:
                raise TypeError(f"[{where}] {params!r} is a module, but these parameters are plain arrays")
            inside = {id(p) for _, p in params.named_parameters()}
            found = {name for name, p in net.named_parameters() if id(p) in inside} & set(names)
        elif isinstance(params, str):
            found = set(fnmatch.filter(names, params))
        else:
            raise TypeError(f"[{where}] params is {params!r}, expected a pattern, a module, or a list of these")
        if not found:
            raise ValueError(f"[{where}] {params!r} fits no trained parameter; there are {', '.join(names)}")
        return found


class SGD(Optimizer):
    """Gradient descent with momentum, in three forms.

      torch:       v = momentum v + (1 - dampening) g, the first v = g;   w -= lr v   (nesterov: w -= lr (g +
      momentum v)) heavy_ball:  w += -lr g + momentum (w - w_before): differs from torch's when lr changes
      duda:        u = (1 - momentum) (-lr g) + momentum u, the first u from 0;   w += u
    Raises: TypeError or ValueError for rates out of range or forms that don't go together.
    Source: Polyak 1964; Sutskever et al. 2013; torch.optim.SGD.
    """

    name = "sgd"

    def __init__(
        self,
        lr: Any = 0.01,
        momentum: float = 0.0,
        *,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        form: str = "torch",
        groups: Sequence[dict[str, Any]] | None = None,
    ) -> None:
        names = {"torch": "sgd", "heavy_ball": "heavy_ball", "duda": "duda"}
        one_of(form, "SGD", "form", tuple(names))
        rates = _checked("SGD", momentum=momentum, dampening=dampening, weight_decay=weight_decay)
        nesterov, has_momentum, damped = bool(nesterov), rates["momentum"] > 0, rates["dampening"] > 0
        if form != "torch" and (nesterov or damped):
            raise ValueError(f"[SGD] nesterov and dampening belong to form 'torch', the form is {form!r}")
        if nesterov and (damped or not has_momentum):
            raise ValueError("[SGD] nesterov needs a momentum above 0 and no dampening")
        options = {**rates, "nesterov": nesterov, "form": form}
        rule = {"name": names[form], "nesterov": nesterov, "momentum": has_momentum or form != "torch"}
        super().__init__(lr, rates, rule, options, groups)


class Adagrad(Optimizer):
    """s += g^2; w -= lr g / (sqrt(s) + eps), or with eps inside the root (semantics="lecture").

    Inside the root, eps floors the denominator at sqrt(eps). Raises: TypeError or ValueError for rates out of range.
    Source: Duchi, Hazan & Singer 2011.
    """

    name = "adagrad"

    def __init__(
        self,
        lr: Any = 0.01,
        *,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        semantics: str = "standard",
        eps_inside: bool | None = None,
        groups: Sequence[dict[str, Any]] | None = None,
    ) -> None:
        inside = _semantics(semantics, "Adagrad") if eps_inside is None else bool(eps_inside)
        rates = _checked("Adagrad", eps=eps, weight_decay=weight_decay)
        options = {**rates, "semantics": semantics, "eps_inside": inside}
        super().__init__(lr, rates, {"eps_inside": inside}, options, groups)


class RMSprop(Optimizer):
    """s = decay s + (1 - decay) g^2; w -= lr g / (sqrt(s) + eps); eps_inside=True puts eps inside the root.

    decay is torch's alpha. The lecture's form is the standard one. Raises: TypeError or ValueError for rates out of
    range.
    Source: Tieleman & Hinton 2012.
    """

    name = "rmsprop"

    def __init__(
        self,
        lr: Any = 0.01,
        *,
        decay: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        semantics: str = "standard",
        eps_inside: bool = False,
        groups: Sequence[dict[str, Any]] | None = None,
    ) -> None:
        _semantics(semantics, "RMSprop")
        rates = _checked("RMSprop", decay=decay, eps=eps, weight_decay=weight_decay)
        options = {**rates, "semantics": semantics, "eps_inside": bool(eps_inside)}
        super().__init__(lr, rates, {"eps_inside": bool(eps_inside)}, options, groups)


class Adam(Optimizer):
    """m = beta1 m + (1 - beta1) g; s = beta2 s + (1 - beta2) g^2; w -= lr m / (sqrt(s) + eps), m and s bias-corrected.

    semantics="lecture": no correction and eps inside the root; then the first steps are up to 6.57 times longer (at
    t = 12, with the usual betas). bias_correction and eps_inside choose each on its own.
    Raises: TypeError or ValueError for rates out of range. Source: Kingma & Ba 2015, arXiv:1412.6980.
    """

    name = "adam"
    _decoupled = False

    def __init__(
        self,
        lr: Any = 0.001,
        *,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        semantics: str = "standard",
        bias_correction: bool | None = None,
        eps_inside: bool | None = None,
        groups: Sequence[dict[str, Any]] | None = None,
    ) -> None:
        where = type(self).__name__
        lecture = _semantics(semantics, where)
        correction = not lecture if bias_correction is None else bool(bias_correction)
        inside = lecture if eps_inside is None else bool(eps_inside)
        moments, others = _betas(betas, where), _checked(where, eps=eps, weight_decay=weight_decay)
        options = {
            "betas": list(moments.values()),
            **others,
            "semantics": semantics,
            "bias_correction": correction,
            "eps_inside": inside,
        }
        rule = {"bias_correction": correction, "eps_inside": inside, "decoupled": self._decoupled}
        super().__init__(lr, {**moments, **others}, rule, options, groups)


class AdamW(Adam):
    """Adam with decoupled weight decay: w *= 1 - lr weight_decay before the step. The default decay is 0.01, as
    torch's.

    Arguments and Raises as Adam. Source: Loshchilov & Hutter 2019, arXiv:1711.05101.
    """

    _decoupled = True

    def __init__(self, lr: Any = 0.001, *, weight_decay: float = 0.01, **options: Any) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)


_OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {c.__name__: c for c in (SGD, Adagrad, RMSprop, Adam, AdamW)}


def build(description: dict[str, Any]) -> Optimizer:
    """Make an optimizer from its description; ValueError for an unknown one or unknown options."""
    make = _OPTIMIZERS.get(str(description.get("optimizer")))
    if make is None:
        raise ValueError(
            f"[optim] unknown optimizer {description.get('optimizer')!r}, expected {', '.join(_OPTIMIZERS)}"
        )
    options = {k: v for k, v in description.items() if k != "optimizer"}
    options["groups"] = [_with_lr(group) for group in options.get("groups", [])]
    try:
        return make(**_with_lr(options))
    except TypeError as error:
        raise ValueError(f"[optim] the description of the optimizer is damaged: {error}") from None


def _with_lr(options: dict[str, Any]) -> dict[str, Any]:
    return {k: schedules.build(v) if k == "lr" and isinstance(v, dict) else v for k, v in options.items()}


def _describe_lr(lr: Any) -> Any:
    if isinstance(lr, schedules.Schedule):
        return lr.describe()
    if callable(lr):
        raise TypeError("a function of one's own can't be described")
    return lr


def _patterns(params: Any) -> Any:
    if isinstance(params, (list, tuple)):
        return [_patterns(p) for p in params]
    if isinstance(params, str):
        return params
    raise TypeError("a module can't be described")


def _semantics(semantics: str, where: str) -> bool:
    return one_of(semantics, where, "semantics", ("standard", "lecture")) == "lecture"


def _checked(where: str, **rates: Any) -> dict[str, float]:
    return {name: _rate(name, value, where) for name, value in rates.items()}


def _rate(name: str, value: Any, where: str) -> float:
    return number(value, where, name, 0, 1 if name in ("decay", "dampening") else None)


def _betas(betas: Any, where: str) -> dict[str, float]:
    pair = isinstance(betas, (tuple, list)) or np.ndim(betas) == 1
    if not pair or len(betas) != 2:
        raise TypeError(f"[{where}] betas is {betas!r}, expected a pair of numbers in [0, 1)")
    names = ("beta1", "beta2")
    return {n: number(v, where, n, 0, 1, open_high=True) for n, v in zip(names, betas, strict=True)}
