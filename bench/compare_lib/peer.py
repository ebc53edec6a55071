"""Torch's side: the networks in modules, and training steps at torch's best settings."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from .networks import Network

OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "sgd": lambda p, **kw: torch.optim.SGD(p, lr=0.01, momentum=0.9, **kw),
    "adam": lambda p, **kw: torch.optim.Adam(p, lr=1e-3, **kw),
    "rmsprop": lambda p, **kw: torch.optim.RMSprop(p, lr=1e-3, **kw),
    "adagrad": lambda p, **kw: torch.optim.Adagrad(p, lr=1e-2, **kw),
}
FUSED = {"sgd", "adam", "adagrad"}


class FlattenChannelsLast(nn.Module):
    """Rows of (h, w, c), as ours; free for channels-last images."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


class Residual(nn.Module):
    def __init__(self, body: nn.Module, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + (x if self.shortcut is None else self.shortcut(x))


def build(network: Network) -> nn.Module:
    sample = torch.zeros(2, *network.input)
    return _sequence(network.layers, sample.permute(0, 3, 1, 2) if network.images else sample)[0]


def _sequence(layers: Any, x: torch.Tensor) -> tuple[nn.Sequential, torch.Tensor]:
    modules = []
    for layer in layers:
        modules.append(_module(layer, x))
        with torch.no_grad():
            x = modules[-1](x)
    return nn.Sequential(*modules), x


def _module(layer: Any, x: torch.Tensor) -> nn.Module:
    kind, *args = layer
    if kind == "linear":
        return nn.Linear(x.shape[-1], args[0])
    if kind == "conv":
        out, kernel, stride, padding, bias = args
        return nn.Conv2d(x.shape[1], out, kernel, stride=stride, padding=padding, bias=bias)
    if kind == "norm":
        return (nn.BatchNorm2d if x.ndim == 4 else nn.BatchNorm1d)(x.shape[1])
    if kind == "residual":
        return Residual(_sequence(args[0], x)[0], _sequence(args[1], x)[0] if args[1] else None)
    plain = {"relu": nn.ReLU, "flatten": FlattenChannelsLast}
    if kind in plain:
        return plain[kind]()
    return nn.MaxPool2d(args[0]) if kind == "pool" else nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def set_parameters(net: nn.Module, values: list[np.ndarray]) -> None:
    """Give the network our parameters, in the same order; convolution weights become (out, in, kh, kw)."""
    parameters = list(net.parameters())
    if len(parameters) != len(values):
        raise ValueError(f"torch's network has {len(parameters)} parameters, ours {len(values)}")
    with torch.no_grad():
        for p, value in zip(parameters, values, strict=True):
            p.copy_(torch.from_numpy(value.transpose(0, 3, 1, 2).copy() if value.ndim == 4 else value))


compiled = False  # whether torch.compile is a contender too


def trainings(
    network: Network, optimizer: str, x: np.ndarray, y: np.ndarray, values: list[np.ndarray]
) -> dict[str, Callable[[], torch.Tensor]]:
    """Training steps by setting, each returning its loss tensor: the contenders of which the best counts."""
    settings: dict[str, dict[str, Any]] = {"foreach": {"foreach": True}}
    if optimizer in FUSED:
        settings = {"fused": {"fused": True}, **settings}
    found = {}
    layouts = ("channels_last", "contiguous") if network.images else ("",)
    for layout in layouts:
        for name, keywords in list(settings.items())[: 1 if network.images else None]:
            found[" ".join(filter(None, (name, layout)))] = _training(
                network, optimizer, layout, keywords, x, y, values
            )
    if compiled:
        keywords = next(iter(settings.values()))
        found["compiled"] = _training(network, optimizer, layouts[0], keywords, x, y, values, _compiler())
    return found


def trainings_bf16(
    network: Network, optimizer: str, x: np.ndarray, y: np.ndarray, values: list[np.ndarray]
) -> dict[str, Callable[[], torch.Tensor]]:
    """The same in bf16: autocast, and a network that is bf16 as a whole beside float32 parameters for the optimizer."""
    found = {}
    layouts = ("channels_last", "contiguous") if network.images else ("",)
    makes = {"autocast": _autocast, "all bf16": _all_bf16}
    for layout in layouts:
        for name, make in makes.items():
            found[" ".join(filter(None, (name, layout)))] = make(network, optimizer, layout, x, y, values, _plainly)
    if compiled:
        transform = _compiler()
        for name, make in makes.items():
            found[f"{name} compiled"] = make(network, optimizer, layouts[0], x, y, values, transform)
    return found


Transform = Callable[[Callable[[], torch.Tensor]], Callable[[], torch.Tensor]]


def _plainly(f: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    return f


def _compiler() -> Transform:
    """torch.compile, which gives up on code that it has compiled for eight other networks: it forgets them."""
    torch._dynamo.reset()
    return torch.compile


def _placed(
    network: Network, layout: str, x: Any, y: Any, values: list[np.ndarray]
) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """The network and a batch in one layout."""
    net = build(network)
    set_parameters(net, values)
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    if network.images:
        inputs = inputs.permute(0, 3, 1, 2)
        form = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        inputs, net = inputs.contiguous(memory_format=form), net.to(memory_format=form)
    return net, inputs, labels


def _autocast(
    network: Network, optimizer: str, layout: str, x: Any, y: Any, values: list[np.ndarray], transform: Transform
) -> Callable[[], torch.Tensor]:
    net, inputs, labels = _placed(network, layout, x, y, values)
    update = OPTIMIZERS[optimizer](net.parameters(), fused=True)
    loss_of = transform(lambda: nn.functional.cross_entropy(net(inputs), labels))

    def step() -> torch.Tensor:
        update.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of()
        loss.backward()
        update.step()
        return loss.detach()

    return step


def _all_bf16(
    network: Network, optimizer: str, layout: str, x: Any, y: Any, values: list[np.ndarray], transform: Transform
) -> Callable[[], torch.Tensor]:
    net, inputs, labels = _placed(network, layout, x, y, values)
    masters = [p.detach().clone().requires_grad_() for p in net.parameters()]
    net, inputs = net.to(torch.bfloat16), inputs.to(torch.bfloat16)
    update = OPTIMIZERS[optimizer](masters, fused=True)
    parameters = list(net.parameters())
    loss_of = transform(lambda: nn.functional.cross_entropy(net(inputs).float(), labels))

    def step() -> torch.Tensor:
        loss = loss_of()
        for p in parameters:
            p.grad = None
        loss.backward()
        for master, p in zip(masters, parameters, strict=True):
            master.grad = p.grad.float()  # type: ignore[union-attr]
        update.step()
        with torch.no_grad():
            for master, p in zip(masters, parameters, strict=True):
                p.copy_(master)
        return loss.detach()

    return step


def _training(
    network: Network,
    optimizer: str,
    layout: str,
    keywords: dict[str, Any],
    x: Any,
    y: Any,
    values: list[np.ndarray],
    transform: Transform = _plainly,
) -> Callable[[], torch.Tensor]:
    net, inputs, labels = _placed(network, layout, x, y, values)
    update = OPTIMIZERS[optimizer](net.parameters(), **keywords)
    loss_of = transform(lambda: nn.functional.cross_entropy(net(inputs), labels))

    def step() -> torch.Tensor:
        update.zero_grad(set_to_none=True)
        loss = loss_of()
        loss.backward()
        update.step()
        return loss.detach()

    return step


def updates(optimizer: str, size: int) -> dict[str, Callable[[], Any]]:
    """One update of `size` parameters with a gradient that is there."""
    found = {}
    for name in ("fused", "foreach", "for loop"):
        if name == "fused" and optimizer not in FUSED:
            continue
        p = nn.Parameter(torch.randn(size))
        p.grad = torch.randn(size)
        keywords = {"fused": True} if name == "fused" else {"foreach": name == "foreach"}
        update = OPTIMIZERS[optimizer]([p], **keywords)

        found[name] = update.step
    return found


def forward_backward(
    f: Callable[..., torch.Tensor], x: np.ndarray, d_y: np.ndarray, parameters: list[np.ndarray], images: bool
) -> dict[str, Callable[[], list[torch.Tensor]]]:
    """y = f(x, *parameters) and its gradients, channels-last and contiguous for images."""
    found = {}
    for layout in ("channels_last", "contiguous") if images else ("",):

        def place(a: np.ndarray, layout: str = layout) -> torch.Tensor:
            t = torch.from_numpy(a)
            t = t.permute(0, 3, 1, 2) if images else t
            return t.contiguous(
                memory_format=torch.channels_last if layout == "channels_last" else torch.contiguous_format
            )

        leaves = [place(x).requires_grad_(), *(torch.from_numpy(p).requires_grad_() for p in parameters)]

        def step(leaves: list[torch.Tensor] = leaves, u: torch.Tensor = place(d_y)) -> list[torch.Tensor]:  # noqa: B008
            y = f(*leaves)
            return [y.detach(), *torch.autograd.grad(y, leaves, u)]

        found[layout or "eager"] = step
    return found
