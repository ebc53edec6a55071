"""Ranks of every kind that one process can hold, each run in a thread of its own."""

import threading

from thalweg import _core

LIMIT = 20.0  # seconds that a rank waits for others


def threads(size):
    comms = _core.make_threads(size)
    return comms.__getitem__


def shm(size):
    memory = _core.NodeMemory(size)
    return lambda rank: _core.make_shm(memory, rank, LIMIT)  # returns when all have come: each in its own thread


KINDS = {"threads": threads, "shm": shm}


def run_ranks(kind, size, body):
    """body(comm) on every rank; returns the results by rank, or raises the first error that is not a LostError."""
    results, errors = [None] * size, [None] * size
    make = KINDS[kind](size)

    def work(rank):
        comm = make(rank)
        comm.limit = LIMIT
        try:
            results[rank] = body(comm)
        except BaseException as error:
            errors[rank] = error
            comm.abort(f"rank {rank}: {error}")
        else:
            comm.leave()

    ranks = [threading.Thread(target=work, args=(r,), daemon=True) for r in range(size)]
    for t in ranks:
        t.start()
    for t in ranks:
        t.join(30)
        assert not t.is_alive(), "a rank hangs"
    causes = [e for e in errors if e is not None and not isinstance(e, _core.LostError)]
    causes += [e for e in errors if e is not None]
    if causes:
        raise causes[0]
    return results
