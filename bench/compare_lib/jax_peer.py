"""JAX's side, for dense networks: a compiled step, and many of them in one compiled loop (lax.scan).

JAX takes the number of its threads from the cores that its process may use, once. So each number of threads is a
process of its own, held to as many cores; a call tells it to make steps, and waits.
"""

import importlib.util
import multiprocessing
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from .networks import Network

SETTINGS = ("jit", "scan")
SCAN = 100  # steps of one compiled loop


def present() -> bool:
    return importlib.util.find_spec("jax") is not None


class Process:
    """Training steps of one setting in a process of their own; a call makes `steps` of them."""

    def __init__(
        self, network: Network, optimizer: str, setting: str, threads: int, data: tuple[Any, Any, list[np.ndarray]]
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        context.Process(target=_serve, args=(other, network, optimizer, setting, threads, data), daemon=True).start()
        self.steps = SCAN

    def losses(self, count: int) -> list[float]:
        """Of the first `count` steps; the network then starts anew."""
        self._pipe.send(count)
        return [float(v) for v in self._pipe.recv()]

    def __call__(self) -> None:
        self._pipe.send(None)
        self._pipe.recv()


def trainings(
    network: Network, optimizer: str, x: np.ndarray, y: np.ndarray, values: list[np.ndarray], threads: int
) -> dict[str, Process]:
    return {name: Process(network, optimizer, name, threads, (x, y, values)) for name in SETTINGS}


def _serve(pipe: Any, network: Network, optimizer: str, setting: str, threads: int, data: Any) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import jax
    import jax.numpy as jnp

    x, y, values = data
    inputs, labels = jnp.asarray(x), jnp.asarray(y)
    step = _step(network, optimizer)
    start = _start(network, optimizer, [jnp.asarray(v) for v in values])
    one = jax.jit(lambda state: step(state, inputs, labels))
    many = jax.jit(lambda state: jax.lax.scan(lambda s, _: step(s, inputs, labels), state, length=SCAN))
    state = start
    while True:
        try:
            count = pipe.recv()
        except EOFError:
            return
        if count is not None:
            losses, state = [], start
            for _ in range(count):
                state, loss = one(state)
                losses.append(float(loss))
            pipe.send(losses)
            state = start
            continue
        if setting == "scan":
            state, _ = many(state)
        else:
            for _ in range(SCAN):
                state, _ = one(state)
        jax.block_until_ready(state)
        pipe.send(True)


def _start(network: Network, optimizer: str, values: list[Any]) -> Any:
    import jax.numpy as jnp

    running = [(jnp.zeros(w), jnp.ones(w)) for w in _norm_widths(network)]
    moments = [[jnp.zeros_like(v) for v in values] for _ in range({"sgd": 1, "adam": 2}[optimizer])]
    return values, running, moments, jnp.zeros((), jnp.float32)


def _norm_widths(network: Network) -> list[int]:
    widths, width = [], network.input[0]
    for kind, *args in network.layers:
        width = args[0] if kind == "linear" else width
        if kind == "norm":
            widths.append(width)
    return widths


def _step(network: Network, optimizer: str) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """(state, x, y) -> (state, loss), the formulas of torch."""
    import jax

    def loss_of(values: Any, running: Any, x: Any, y: Any) -> Any:
        logits, running = _forward(network, values, running, x)
        return -jax.nn.log_softmax(logits)[np.arange(len(x)), y].mean(), running

    def step(state: Any, x: Any, y: Any) -> Any:
        values, running, moments, count = state
        (loss, running), grads = jax.value_and_grad(loss_of, has_aux=True)(values, running, x, y)
        values, moments = _update(optimizer, values, grads, moments, count + 1)
        return (values, running, moments, count + 1), loss

    return step


def _forward(network: Network, values: list[Any], running: list[Any], x: Any) -> tuple[Any, list[Any]]:
    import jax
    import jax.numpy as jnp

    given, kept, new = iter(values), iter(running), []
    for kind, *_ in network.layers:
        if kind == "linear":
            x = x @ next(given).T + next(given)
        elif kind == "norm":
            gamma, beta, (mean, var) = next(given), next(given), next(kept)
            m, v = x.mean(0), x.var(0)
            new.append((0.9 * mean + 0.1 * m, 0.9 * var + 0.1 * v * len(x) / (len(x) - 1)))
            x = (x - m) / jnp.sqrt(v + 1e-5) * gamma + beta
        else:
            x = {"relu": jax.nn.relu}[kind](x)
    return x, new


def _update(optimizer: str, values: Any, grads: Any, moments: Any, t: Any) -> tuple[Any, Any]:
    import jax
    import jax.numpy as jnp

    pairs = jax.tree.map
    if optimizer == "sgd":
        velocity = pairs(lambda v, g: 0.9 * v + g, moments[0], grads)
        return pairs(lambda w, v: w - 0.01 * v, values, velocity), [velocity]
    first = pairs(lambda m, g: 0.9 * m + 0.1 * g, moments[0], grads)
    second = pairs(lambda s, g: 0.999 * s + 0.001 * g * g, moments[1], grads)
    rate, scale = 1e-3 / (1 - 0.9**t), 1 / jnp.sqrt(1 - 0.999**t)
    return pairs(lambda w, m, s: w - rate * m / (jnp.sqrt(s) * scale + 1e-8), values, first, second), [first, second]
