"""Interleaved timing, and the peaks of this machine."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Step = Callable[[], object]


@dataclass(frozen=True)
class Repeated:
    """A call that makes several steps."""

    call: Step
    steps: int

    def __call__(self) -> object:
        return self.call()


PAUSE = 0.03  # between blocks: torch's threads spin for 16 ms after their last loop, on a core of ours


@dataclass
class Peaks:
    """What the machine can do: floating point operations and bytes moved (reads and writes) a second."""

    flops: float
    copy: float
    stream: float
    gauge: float  # seconds of gauge(), at its best


@dataclass
class Measured:
    """Seconds a step of every contender in every round, by name."""

    rounds: dict[str, list[float]]

    def median(self, name: str) -> float:
        return statistics.median(self.rounds[name])

    def ratios(self, over: str, name: str) -> list[float]:
        """Time of `over` / time of `name`, in every round."""
        return [a / b for a, b in zip(self.rounds[over], self.rounds[name], strict=True)]

    def ratio(self, over: str, name: str) -> float:
        return statistics.median(self.ratios(over, name))

    def spread(self, over: str, name: str) -> float:
        """Median absolute deviation of the ratios of the rounds from their median."""
        ratios = self.ratios(over, name)
        middle = statistics.median(ratios)
        return statistics.median(abs(r - middle) for r in ratios)


def best(step: Step, tries: int = 7) -> float:
    seconds(step, 2)
    return min(seconds(step, 1) for _ in range(tries))


def seconds(step: Step, count: int) -> float:
    """Seconds a step, over `count` calls."""
    start = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - start) / (count * getattr(step, "steps", 1))


def interleave(contenders: dict[str, Step], rounds: int, limit_seconds: float, block: float = 0.06) -> Measured:
    """Time the contenders in turns: in each round every one runs a block of steps, in a rotating order."""
    counts = {}
    for name, step in contenders.items():
        per_call = block / getattr(step, "steps", 1)
        count = max(1, round(per_call / max(best(step, 3), 1e-7)))
        counts[name] = max(1, round(per_call / max(min(seconds(step, min(count, 50)) for _ in range(3)), 1e-7)))
    measured = Measured({name: [] for name in contenders})
    names, start = list(contenders), time.perf_counter()
    gc.collect()
    gc.disable()
    try:
        for r in range(rounds):
            for name in names[r % len(names) :] + names[: r % len(names)]:
                time.sleep(PAUSE)
                measured.rounds[name].append(seconds(contenders[name], counts[name]))
            if r >= 2 and time.perf_counter() - start > limit_seconds:
                break
    finally:
        gc.enable()
    return measured


def gauge(threads: int) -> Repeated:
    """A few products of ours, whose speed tells what the machine gives at the moment."""
    from . import ours

    n, times = 512, 4
    a, b = (np.random.default_rng(i).standard_normal((n, n), dtype=np.float32) for i in range(2))
    product = ours.product(a, b, threads)
    return Repeated(lambda: [product() for _ in range(times)], times)


def measure_peaks(threads: int) -> Peaks:
    """The best of torch's and our own product, torch's copy of 160 MB and ours of 34 MB; torch's in-place streams.

    Torch copies with ordinary stores, which read the lines that they overwrite; ours goes past the caches.
    """
    import torch

    from . import ours

    torch.set_num_threads(threads)
    n = 1024
    a, b = (np.random.default_rng(i).standard_normal((n, n), dtype=np.float32) for i in range(2))
    s, t = torch.from_numpy(a), torch.from_numpy(b)
    out = torch.empty(n, n)
    product = min(best(ours.product(a, b, threads)), best(lambda: torch.mm(s, t, out=out)))
    x, y = torch.ones(40_000_000), torch.ones(40_000_000)
    z = np.ones(1 << 23, np.float32)
    copied = max(x.nbytes / best(lambda: y.copy_(x)), z.nbytes / best(ours.elementwise("neg", z, threads)))
    streamed = best(lambda: x.mul_(1.0))
    return Peaks(2 * n**3 / product, 2 * copied, 2 * x.nbytes / streamed, best(gauge(threads)))
