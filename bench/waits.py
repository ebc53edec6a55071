"""Whether a late rank is named: rank after rank sleeps 50 ms before it goes back, in each of 100 steps. And what the
report costs: what ranks tell one another about it, waits included, and what is kept of it.

thalweg launch -n 2 bench/waits.py     (or under mpiexec; THALWEG_DELAY is set by this script)
"""

import os
import time

import numpy as np
import thalweg as tw
from thalweg import nn
from thalweg.trainer.run import EpochRunner

STEPS, BATCH, DELAY = 100, 256, 0.05


class Timed:
    """A method that counts the seconds spent in it."""

    def __init__(self, method):
        self.method, self.seconds = method, 0.0

    def __get__(self, owner, _):
        return lambda *arguments: self(owner, *arguments)

    def __call__(self, *arguments):
        start = time.perf_counter()
        self.method(*arguments)
        self.seconds += time.perf_counter() - start


def steps() -> dict[str, list[float]]:
    """Train 784-512-512-10 with batch norm; return what the history says of each step."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((STEPS * BATCH, 784), "f4"), rng.integers(0, 10, STEPS * BATCH)
    hidden = [layer for _ in range(2) for layer in (nn.Linear(512), nn.BatchNorm(), nn.ReLU())]
    trainer = tw.Trainer(
        nn.Sequential(*hidden, nn.Linear(10)), tw.losses.CrossEntropy(), tw.optim.SGD(lr=0.01), threads=1
    )
    return trainer.fit(x, y, epochs=1, batch_size=BATCH, verbose=0).steps


def main() -> None:
    rank, size = tw.parallel.rank(), tw.parallel.size()
    EpochRunner._share_waits = report = Timed(EpochRunner._share_waits)
    steps()  # warm
    for late in [None, *range(size)]:
        os.environ["THALWEG_DELAY"] = "" if late is None else f"{late}:{DELAY}"
        report.seconds = 0.0
        found = steps()
        if rank:
            continue
        ms = 1e3 * np.median(found["seconds"])
        if late is None:
            us = 1e6 * report.seconds / STEPS
            print(f"{size} ranks, a step takes {ms:.2f} ms; the report {us:.1f} us of it, {us / ms / 10:.2f} %")
        else:
            named = found["waited_for"].count(late)
            waited = 1e3 * np.median(found["seconds_waited_for"])
            print(f"rank {late} sleeps {1e3 * DELAY:.0f} ms: named in {named} of {STEPS} steps, {waited:.1f} ms waited")


if __name__ == "__main__":
    main()
