"""How much of the exchange between hosts backward hides: 784-2048-2048-10 on throw-away hosts of this machine.

  python bench/hosts.py --hosts 2 4 --rate 1gbit --rows 2048

Each host is a network namespace whose sending side is throttled (tests/parallel/hosts.py); MPI connects one rank of one
thread on each, so an environment with mpi4py and its mpiexec is needed. In one run steps without overlap and with it,
by either way, take turns. "Could be hidden" is the exchange of each bucket, as it was timed alone, that fits beside the
instructions after the one that fills it; "hidden" is by how much less of it is exposed with overlap, and "shorter" is
the step, on whose cores the exchange itself works too. Where the kernel has no namespaces, that is said instead.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WAYS = ("off", "nodes", "thread")
BUCKET, FINISH = "all_reduce of gradients", "end of the all_reduces"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", nargs="+", type=int, default=[2, 4], metavar="N")
    parser.add_argument("--rate", default="1gbit")
    parser.add_argument("--rows", type=int, default=2048, help="of the global batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank:
        return rank(options.rows, options.rounds)
    sys.path.insert(0, str(ROOT))
    from tests.parallel import hosts, jobs

    if reason := hosts.available():
        print(f"skipped: {reason}")
        return 0
    for n in options.hosts:
        argv = jobs.mpi_command(n, __file__, "--rank", "--rows", options.rows, "--rounds", options.rounds)
        argv = [word for word in argv if word != "--oversubscribe"]
        subprocess.run(hosts.command(n, options.rate, argv), env=jobs.environment(), check=True)
    return 0


def rank(rows: int, rounds: int) -> int:
    import numpy as np
    import thalweg as tw
    from thalweg import nn

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((rows, 784), dtype=np.float32), rng.integers(0, 10, rows)
    net = nn.Sequential(nn.Linear(2048), nn.ReLU(), nn.Linear(2048), nn.ReLU(), nn.Linear(10))
    trainer = tw.Trainer(net, tw.losses.CrossEntropy(), tw.optim.SGD(lr=0.01, momentum=0.9), seed=0, threads=1)
    trainer.build(x, y)
    comm = tw.parallel.communicator()
    steps: dict[str, list[float]] = {way: [] for way in WAYS}
    exposed: dict[str, list[float]] = {way: [] for way in WAYS}
    trainer.step(x, y)
    for k in range(rounds):
        for way in WAYS[k % 3 :] + WAYS[: k % 3]:
            comm.overlap = way
            comm.barrier()
            start = time.perf_counter()
            report = trainer.step(x, y)
            steps[way].append(time.perf_counter() - start)
            exposed[way].append(report.seconds_comm)
    comm.overlap = "off"
    profile = tw.profile(trainer, x, y, repeats=3)
    if comm.rank == 0:
        medians = [{way: statistics.median(s) for way, s in all_of.items()} for all_of in (steps, exposed)]
        show(comm.size, *medians, *hideable(profile.rows), report.bytes_comm)
    return 0


def hideable(rows) -> tuple[float, float, float]:
    """Return the seconds of all buckets, of the backward pass after the first, and of what fits beside it."""
    first = next(i for i, row in enumerate(rows) if row.op == BUCKET)
    total = beside = now = free = 0.0
    end = sum(row.seconds for row in rows[first:] if row.op not in (BUCKET, FINISH))
    for row in rows[first:]:
        if row.op == BUCKET:
            begin = max(now, free)
            free = begin + row.seconds
            beside += max(0.0, min(end, free) - begin)
            total += row.seconds
        elif row.op != FINISH:
            now += row.seconds
    return total, end, beside


def show(hosts, steps, exposed, total, backward, beside, sent) -> None:
    ms = {name: 1e3 * value for name, value in [("total", total), ("backward", backward), ("beside", beside)]}
    print(f"{hosts} hosts, {sent:,} bytes a rank and step: gradients are exchanged in {ms['total']:.0f} ms, backward")
    print(f"  goes on for {ms['backward']:.0f} ms after the first bucket, so {ms['beside']:.0f} ms could be hidden")
    for way in WAYS:
        hidden, shorter = exposed["off"] - exposed[way], steps["off"] - steps[way]
        words = f", hidden {1e3 * hidden:.0f} ms ({100 * hidden / beside:.0f} %), shorter by {1e3 * shorter:.0f} ms"
        note = "" if way == "off" else words
        print(f"  {way:>6}: step {1e3 * steps[way]:.0f} ms, exposed {1e3 * exposed[way]:.0f} ms{note}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
