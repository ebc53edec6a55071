"""Where the time of several ranks goes: computing, exchanging, waiting, and for whom."""

from __future__ import annotations

import numpy as np

WORTH_SAYING = 0.05  # of the time: less is not spoken of unasked
LEAST_SECONDS = 1.0  # the same: the first steps say little
TIMES = ("seconds", "seconds_comm", "seconds_wait")


class Waits:
    """Adds up what the steps of a training report; print it to see it.

    seconds, seconds_comm, seconds_wait: of this rank's steps in all, in their collectives, and there until the last
    rank had come. waited_for: for each rank the seconds that the others, on average, waited for it.
    A wait is measured on the waiting rank's own clock, from its coming to a collective until the last rank came; who
    that was is told by the order of coming. So no two clocks are ever compared.
    """

    def __init__(self, world: int) -> None:
        self.seconds = self.seconds_comm = self.seconds_wait = 0.0
        self.waited_for = np.zeros(world)

    def add(self, columns: dict[str, np.ndarray], waits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Add some steps. waits (ranks, 2, steps): for whom each rank waited most, and the seconds.

        Returns: of each step the rank that was waited for most, -1 for none, and the seconds, the mean of the others.
        """
        for name in TIMES:
            setattr(self, name, getattr(self, name) + float(columns[name].sum()))
        steps, world = waits.shape[2], len(self.waited_for)
        seconds = np.zeros((steps, world))
        for ranks, waited in waits:
            known = ranks >= 0
            seconds[np.flatnonzero(known), ranks[known].astype(int)] += waited[known]
        seconds /= max(1, min(len(waits), world - 1))  # threads of one process report their mean already
        self.waited_for += seconds.sum(axis=0)
        most = seconds.max(axis=1)
        return np.where(most > 0, seconds.argmax(axis=1), -1), most

    def share(self, rank: int) -> float:
        """Return the share of the time that the others waited for a rank."""
        return float(self.waited_for[rank]) / self.seconds if self.seconds else 0.0

    def line(self) -> str:
        """Return "rank 3 made the others wait 12 % of the time", or nothing where that is little."""
        worst = int(self.waited_for.argmax())
        share = self.share(worst)
        worth = share >= WORTH_SAYING and self.seconds >= LEAST_SECONDS
        return f"rank {worst} made the others wait {share:.0%} of the time" if worth else ""

    def __str__(self) -> str:
        if not self.seconds:
            return "no step was reported"
        parts = {
            "computing": self.seconds - self.seconds_comm,
            "exchanging": self.seconds_comm - self.seconds_wait,
            "waiting": self.seconds_wait,
        }
        shares = ", ".join(f"{max(0.0, part) / self.seconds:.1%} {name}" for name, part in parts.items())
        lines = [f"rank {r} made the others wait {self.share(r):.1%} of the time" for r in range(len(self.waited_for))]
        return "\n".join([f"{self.seconds:.2f} s in steps of this rank: {shares}", *lines])
