"""Many small trainings: our sweep beside torch's training loop, in as many processes of one thread as we have threads.

Both train on the digits that come with the package, with new parameters and a new order of rows for every run and every
epoch. Seconds are per run; making the network and the optimizer counts on both sides.
"""

import multiprocessing
from collections.abc import Callable
from typing import Any

import numpy as np
import thalweg as tw
from thalweg import _core

from .networks import Network
from .ours import OPTIMIZERS, build

EPOCHS, ROWS = 10, 32
RUNS = 16  # of one call of ours, for each thread


def digits() -> tuple[np.ndarray, np.ndarray]:
    (x, y), _ = tw.data.digits()
    return x.reshape(len(x), -1), y


def ours(network: Network, threads: int) -> Callable[[], Any]:
    x, y = digits()
    net, loss, optimizer = build(network), tw.losses.CrossEntropy(), OPTIMIZERS["sgd"]()

    def some(runs: int = RUNS * threads) -> tw.SweepResult:
        return tw.sweep(
            *(net, loss, optimizer, x, y),
            **{"over": {"seed": range(runs)}, "epochs": EPOCHS, "batch_size": ROWS, "threads": threads, "verbose": 0},
        )

    return some


def start(network: Network) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The parameters and the orders of rows of our run with seed 0."""
    x, y = digits()
    trainer = tw.Trainer(build(network), tw.losses.CrossEntropy(), OPTIMIZERS["sgd"](), seed=0).build(x, y)
    orders = [_core.permutation(len(x), 0, f"epoch {epoch}") for epoch in range(EPOCHS)]
    return list(trainer.parameters().values()), orders


class Processes:
    """Torch in processes of one thread each. A call lets every one of them make a run, and waits for all."""

    def __init__(self, network: Network, setting: str, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        for _ in range(count):
            mine, other = context.Pipe()
            process = context.Process(target=_serve, args=(network, setting, other), daemon=True)
            process.start()
            other.close()
            self._pipes.append(mine)
            self._processes.append(process)
        self._seed = 0

    def __del__(self) -> None:
        """Their end takes seconds of both cores: nothing else is timed before it is over."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(20)

    def loss(self, given: tuple[list[np.ndarray], list[np.ndarray]]) -> float:
        """The mean loss of the last epoch of one run that starts as ours does."""
        self._pipes[0].send((0, given))
        return float(self._pipes[0].recv())

    def __call__(self) -> None:
        for pipe in self._pipes:
            self._seed += 1
            pipe.send((self._seed, None))
        for pipe in self._pipes:
            pipe.recv()


def _serve(network: Network, setting: str, pipe: Any) -> None:
    import torch

    torch.set_num_threads(1)
    x, y = (torch.from_numpy(a) for a in digits())
    y = y.long()
    while True:
        try:
            seed, given = pipe.recv()
        except EOFError:
            return
        pipe.send(_train(network, setting, x, y, seed, given))


def _train(network: Network, setting: str, x: Any, y: Any, seed: int, given: Any) -> float:
    """One run as torch is fastest: the rows of an epoch are gathered once, the update is one kernel."""
    import torch

    from . import peer

    torch.manual_seed(seed)
    net = peer.build(network)
    if given is not None:
        peer.set_parameters(net, given[0])
    optimizer = peer.OPTIMIZERS["sgd"](net.parameters(), **{setting: True})
    total = 0.0
    for epoch in range(EPOCHS):
        order = torch.randperm(len(x)) if given is None else torch.from_numpy(given[1][epoch])
        epoch_x, epoch_y, total = x[order], y[order], 0.0
        for at in range(0, len(x), ROWS):
            rows = slice(at, at + ROWS)
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.cross_entropy(net(epoch_x[rows]), epoch_y[rows])
            loss.backward()
            optimizer.step()
            if given is not None:
                total += loss.item() * len(epoch_x[rows])
    return total / len(x)
