"""Stops ranks at random while they make collectives, and lets them go on:  python tools/stops.py SECONDS [SEED]

Each round is a world of 8 processes with common memory that make random calls, check what comes of them, and end one by
one. Meanwhile some of them get SIGSTOP, and SIGCONT 0.1 to 3 s later. Nobody may be taken for lost, nothing may hang.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
import traceback

import numpy as np
from thalweg import _core

RANKS = 8
LIMIT = 20.0  # seconds that a rank waits for others
ROUND_SECONDS = 60.0  # that a round may take, beside its stops: as this process sleeps, which may be stopped itself
PAUSES = (0.1, 3.0)
LENGTHS = (1, 5_000, 100_000, 300_001)


def sum_(comm: _core.Communicator, random_: random.Random) -> None:
    a = np.full(random_.choice(LENGTHS), comm.rank + 1.0)
    comm.all_reduce(a)
    assert a[0] == a[-1] == comm.size * (comm.size + 1) / 2


def started_sums(comm: _core.Communicator, random_: random.Random) -> None:
    arrays = [np.full(random_.choice(LENGTHS), comm.rank + 1.0) for _ in range(3)]
    for a in arrays:
        comm.start_all_reduce(a)
    sum_(comm, random_)
    comm.finish()
    assert all(a[-1] == comm.size * (comm.size + 1) / 2 for a in arrays)


def ring(comm: _core.Communicator, random_: random.Random) -> None:
    a = np.empty(random_.choice(LENGTHS))
    comm.send(np.full_like(a, comm.rank), (comm.rank + 1) % comm.size)
    comm.recv(a, (comm.rank - 1) % comm.size)
    assert a[0] == a[-1] == (comm.rank - 1) % comm.size


def halves(comm: _core.Communicator, random_: random.Random) -> None:
    sum_(comm.split(comm.rank % 2), random_)


def chain(comm: _core.Communicator, random_: random.Random) -> None:
    """Rank 0's letter goes from rank to rank: each is done when it has passed it on."""
    a = np.full(random_.choice(LENGTHS), 7.0)
    if comm.rank:
        a[:] = 0
        comm.recv(a, comm.rank - 1)
    if comm.rank + 1 < comm.size:
        comm.send(a, comm.rank + 1)
    assert a[0] == a[-1] == 7


CALLS = (sum_, started_sums, ring, halves, chain)


def rank_of_a_round(memory: _core.NodeMemory, rank: int, seed: int) -> None:
    random_ = random.Random(seed)
    comm = _core.make_shm(memory, rank, LIMIT)
    comm.limit = LIMIT
    for _ in range(random_.randint(1, 60)):
        random_.choice(CALLS)(comm, random_)
    comm.leave()


def start(memory: _core.NodeMemory, rank: int, seed: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        rank_of_a_round(memory, rank, seed)
        code = 0
    except BaseException as error:
        os.write(2, f"round {seed}, rank {rank}: {''.join(traceback.format_exception(error))}".encode())
    finally:
        os._exit(code)


def round_(seed: int) -> int:
    """Run one world; return how many stops it had. Raises: RuntimeError for a rank that fails, or hangs."""
    random_, memory = random.Random(seed), _core.NodeMemory(RANKS)
    left = {start(memory, rank, seed) for rank in range(RANKS)}
    stops, failed, slept = 0, False, 0.0
    try:
        while left:
            gap = random_.uniform(0, 0.1)
            time.sleep(gap)
            slept += gap
            chosen = random_.sample(sorted(left), random_.randint(0, len(left)))
            for number in (signal.SIGSTOP, signal.SIGCONT):
                for pid in chosen:
                    os.kill(pid, number)
                if chosen and number == signal.SIGSTOP:
                    pause = PAUSES[0] * (PAUSES[1] / PAUSES[0]) ** random_.random()  # mostly short
                    time.sleep(pause)
                    stops += len(chosen)
            for pid in list(left):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    left.remove(pid)
                    failed |= status != 0
            if slept > ROUND_SECONDS:
                raise RuntimeError(f"round {seed}: ranks {sorted(left)} hang")
    finally:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    if failed:
        raise RuntimeError(f"round {seed}: a rank that was only stopped failed")
    return stops


def main(arguments: list[str]) -> int:
    seconds, seed = float(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 0
    rounds, stops, end = 0, 0, time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            stops += round_(seed + rounds)
            rounds += 1
    except RuntimeError as error:
        print(f"after {rounds} rounds and {stops} stops: {error}", file=sys.stderr)
        return 1
    print(f"{rounds} rounds of {RANKS} ranks with {stops} stops: nobody was lost, nothing hung")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
