"""A network as a function of its parameters."""

from __future__ import annotations

from typing import Any

from .. import transforms, tree
from ..ops.dispatch import recording_of
from ..symbolic import Recording, current
from .module import Module


def functional_call(
    net: Module, params: dict[str, Any], x: Any, *, train: bool = True, seed: int = 0, step: int = 0
) -> Any:
    """Compute net(x) with the given parameters: on arrays at once, under tw.grad and its kin as part of the function.

    params: name -> array, as Trainer.parameters() returns them; buffers (running statistics) may be among them and must
    be for train=False. x: the network's input, or a tuple of inputs. train: batch norm takes the batch's statistics and
    dropout is on, its mask keyed by (seed, step). Nothing is updated.
    Returns: the network's output.
    Raises: TypeError if net is no Module; ValueError for a missing or unknown name or a wrong shape.
    """
    if not isinstance(net, Module):
        raise TypeError(f"[functional_call] net is a {type(net).__name__}, expected an nn.Module")
    if not isinstance(params, dict):
        raise TypeError(f"[functional_call] params is a {type(params).__name__}, expected a dict of arrays by name")
    recording = recording_of(tree.flatten((params, x))[0], "functional_call") or current()
    if recording is None:
        return transforms.evaluate(
            lambda p, v: functional_call(net, p, v, train=train, seed=seed, step=step), params, x
        )
    return _record(recording, net, params, x, train, (seed, step))


def _record(
    recording: Recording, net: Module, params: dict[str, Any], x: Any, train: bool, random: tuple[int, int]
) -> Any:
    known = {name for name, _ in net.named_parameters()} | {name for name, _ in net.named_buffers()}
    unknown = sorted(set(params) - known)
    if unknown:
        raise ValueError(
            f"[functional_call] the network has no parameter {unknown[0]!r}; it has {', '.join(sorted(known))}"
        )
    if recording.random not in (None, random):
        raise ValueError(f"[functional_call] one function uses (seed, step) = {recording.random} and {random}: use one")
    recording.random = random
    inputs = [recording.tensor(leaf) for leaf in (x if isinstance(x, tuple) else (x,))]
    with recording.functional_network(net, params, train):
        return net(*inputs)
