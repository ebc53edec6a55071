"""Ranks of every kind that one process can hold, each run in a thread of its own; and, in a process that a launcher
started as one of several, these (tests/parallel/test_jobs_of_tests.py)."""

import ast
import io
import math
import threading

import numpy as np
import pytest
from thalweg import _core, parallel

LIMIT = 20.0  # seconds that a rank waits for others


def threads(size):
    comms = _core.make_threads(size)
    return comms.__getitem__


def shm(size):
    memory = _core.NodeMemory(size)
    return lambda rank: _core.make_shm(memory, rank, LIMIT)  # returns when all have come: each in its own thread


def messages(size):
    comms = _core.make_messages(size)
    return comms.__getitem__


def nodes_of(places):
    """So many ranks on each node. Where they are no multiple of that, messages alone, as in a job."""

    def make(size):
        comms = _core.make_messages(size)
        if _core.why_flat([rank // places for rank in range(size)]):
            return comms.__getitem__
        memories = [_core.NodeMemory(min(size, places), first) for first in range(0, size, places)]
        return lambda rank: _core.make_nodes(comms[rank], memories[rank // places], rank % places, LIMIT)

    return make


KINDS = {"threads": threads, "shm": shm, "messages": messages, "nodes2": nodes_of(2), "nodes4": nodes_of(4)}
KINDS = KINDS if parallel.size() == 1 else {"processes": None}


def run_ranks(kind, size, body):
    """body(comm) on every rank; returns the results by rank, or raises the first error that is not a LostError."""
    if kind == "processes":
        return run_processes(size, body)
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


def run_processes(size, body):
    """The same where this process is one rank: all run the tests in step, and get one another's results."""
    comm = parallel.communicator()
    comm.limit = LIMIT
    if size > comm.size:
        pytest.skip(f"needs {size} processes")
    group = comm.split(int(comm.rank >= size))
    group.limit = LIMIT
    result = error = None
    if comm.rank < size:
        try:
            result = body(group)
        except Exception as caught:
            error = caught
    found = exchange(comm, (result, repr(error) if error else None))[:size]
    if error:
        raise error
    assert [e for _, e in found] == [None] * size
    return [r for r, _ in found]


def exchange(comm, thing):
    """The things of all ranks: literals, numbers, arrays, and tuples of them."""
    arrays = []
    text = repr(literal_of(thing, arrays)).encode() + b"\n"
    data = b"".join([text, *arrays])
    sizes = comm.all_gather(np.array([len(data)], "f8"))[:, 0].astype(int)
    padded = np.zeros(-(-max(sizes) // 4), "f4")
    padded.view("u1")[: len(data)] = np.frombuffer(data, "u1")
    files = [io.BytesIO(row.view("u1")[:n].tobytes()) for row, n in zip(comm.all_gather(padded), sizes, strict=True)]
    return [thing_of(ast.literal_eval(file.readline().decode()), file) for file in files]


def literal_of(thing, arrays):
    """The thing as text can hold it, with the bytes of its arrays beside it."""
    if isinstance(thing, tuple):
        return tuple(literal_of(part, arrays) for part in thing)
    if isinstance(thing, np.ndarray):
        arrays.append(thing.tobytes())
        return {"dtype": thing.dtype.str, "shape": thing.shape}
    return thing.item() if isinstance(thing, np.generic) else thing


def thing_of(literal, file):
    if isinstance(literal, tuple):
        return tuple(thing_of(part, file) for part in literal)
    if isinstance(literal, dict):
        dtype, shape = np.dtype(literal["dtype"]), literal["shape"]
        return np.frombuffer(file.read(dtype.itemsize * math.prod(shape)), dtype).reshape(shape)
    return literal
