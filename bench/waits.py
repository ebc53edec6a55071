"""Whether a late rank is named: rank after rank sleeps 50 ms before it goes back, in each of 100 steps.

thalweg launch -n 2 bench/waits.py     (or under mpiexec; THALWEG_DELAY is set by this script)
"""

import os

import numpy as np
import thalweg as tw
from thalweg import nn

STEPS, BATCH, DELAY = 100, 256, 0.05


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
    for late in [None, *range(size)]:
        os.environ["THALWEG_DELAY"] = "" if late is None else f"{late}:{DELAY}"
        found = steps()
        if rank:
            continue
        ms = 1e3 * np.median(found["seconds"])
        if late is None:
            print(f"{size} ranks, a step takes {ms:.2f} ms")
        else:
            named = found["waited_for"].count(late)
            waited = 1e3 * np.median(found["seconds_waited_for"])
            print(f"rank {late} sleeps {1e3 * DELAY:.0f} ms: named in {named} of {STEPS} steps, {waited:.1f} ms waited")


if __name__ == "__main__":
    main()
