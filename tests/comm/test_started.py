"""Collectives that are started and finished later: values, order, and every way in which they go wrong."""

import gc
import hashlib
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import thalweg as tw
from thalweg import _core

from .test_collectives import payload, ref_tree

pytestmark = pytest.mark.timeout(60)
SIZES = (0, 7, 4096, 4097, 300_001, 700_001)  # nothing, small, in one piece and in several


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
def test_several_have_the_bits_of_calls_that_wait(size, run_ranks):
    def body(comm):
        arrays = [payload(comm.rank, n, "float32") for n in SIZES]
        tickets = [comm.start_all_reduce(a) for a in arrays]
        tickets[2].finish()
        assert [t.done for t in tickets[:3]] == [True] * 3
        comm.finish()
        assert comm.poll() and all(t.done for t in tickets)
        return tuple(map(digest, arrays))

    expected = tuple(digest(ref_tree([payload(r, n, "float32") for r in range(size)])) for n in SIZES)
    assert run_ranks(size, body) == [expected] * size


def digest(a):
    return hashlib.sha256(a.tobytes()).hexdigest()


def test_polls_alone_finish_it(run_ranks):
    def body(comm):
        a = np.full(100_000, comm.rank + 1.0)
        ticket = comm.start_all_reduce(a)
        limit = time.monotonic() + 20
        while not comm.poll():
            assert time.monotonic() < limit
        assert ticket.done
        return a[0], a[-1]

    assert run_ranks(3, body) == [(6.0, 6.0)] * 3


def test_calls_that_wait_overtake_it(run_ranks):
    """Sums, letters and groups go on while a started call waits for a rank that comes late to it."""

    def body(comm):
        a, b = np.full(50_000, comm.rank + 1.0), np.full(50_000, comm.rank + 1.0)
        ticket = comm.start_all_reduce(a) if comm.rank else None
        sums = []
        for i in range(50):
            small = np.full(3, float(i + comm.rank))
            comm.all_reduce(small)
            sums.append(small[0])
        assert ticket is None or not ticket.done
        comm.all_reduce(b)
        if ticket is None:
            ticket = comm.start_all_reduce(a)
        comm.send(np.array([float(comm.rank)]), (comm.rank + 1) % comm.size)
        letter = np.zeros(1)
        comm.recv(letter, (comm.rank - 1) % comm.size)
        half = comm.split(comm.rank % 2)
        half.all_reduce(letter)
        ticket.finish()
        return tuple(sums), a[0], a[-1], b[0]

    expected = (tuple(4.0 * i + 6 for i in range(50)), 10.0, 10.0, 10.0)
    assert run_ranks(4, body) == [expected] * 4


def test_a_rank_that_waits_elsewhere_goes_on_with_it(run_ranks):
    """Rank 0 waits for a letter that rank 1 sends once the started sums are there."""

    def body(comm):
        arrays = [np.full(n, comm.rank + 1.0) for n in (300_000, 10, 300_000)]
        for a in arrays:
            comm.start_all_reduce(a)
        if comm.rank == 0:
            comm.recv(np.zeros(1), 1)
        comm.finish()
        if comm.rank == 1:
            comm.send(np.zeros(1), 0)
        return tuple(a[-1] for a in arrays)

    assert run_ranks(2, body) == [(3.0, 3.0, 3.0)] * 2


def test_two_groups_at_a_time(run_ranks):
    def body(comm):
        half = comm.split(comm.rank % 2)
        everybody, some = np.full(400_000, 1.0 + comm.rank), np.full(400_000, 1.0 + comm.rank)
        order = [(comm, everybody), (half, some)]
        for group, a in order if comm.rank < 2 else order[::-1]:
            group.start_all_reduce(a)
        half.finish()
        comm.finish()
        return everybody[-1], some[-1]

    assert run_ranks(4, body) == [(10.0, 4.0), (10.0, 6.0), (10.0, 4.0), (10.0, 6.0)]


def test_different_calls_are_the_same_error_on_every_rank(run_ranks):
    def body(comm):
        a, b = np.ones(10 + comm.rank), np.ones(5)
        first, second = comm.start_all_reduce(a), comm.start_all_reduce(b)
        with pytest.raises(ValueError, match=r"rank 0 calls start_all_reduce of 10 .*rank 1 calls .* 11 x 8") as caught:
            first.finish()
        second.finish()  # the ones after it are as good as before
        comm.all_reduce(b)
        return str(caught.value), b[0]

    found = run_ranks(3, body)
    assert found == [(found[0][0], 9.0)] * 3


def test_what_polls_find_wrong_is_raised_later(run_ranks):
    def body(comm):
        comm.start_all_reduce(np.ones(10 + comm.rank))
        comm.barrier()
        time.sleep(0.05)
        with pytest.raises(ValueError, match="rank 1 calls start_all_reduce"):
            comm.finish()
        comm.finish()
        return True

    assert run_ranks(2, body) == [True, True]


VAIN = {
    "never started": (lambda c: c.start_all_reduce(np.ones(9)).finish() if c.rank else None, "rank 0 has left"),
    "another call": (
        lambda c: c.start_all_reduce(np.ones(9)).finish() if c.rank else c.barrier(),
        "no rank can go on: rank 0 waits in barrier, rank 1 waits in start_all_reduce of 9 x 8 bytes"
        "|has waited [.0-9]+ s in (barrier|start_all_reduce of 9 x 8 bytes) for rank",
    ),
    "not finished": (
        lambda c: [c.start_all_reduce(np.ones(99_000)) for _ in range(1 if c.rank else 2)] and c.rank and c.barrier(),
        "rank 0 has left before what it had started was finished",
    ),
}


@pytest.mark.parametrize("case", VAIN)
def test_a_wait_in_vain_ends(case, run_ranks):
    function, message = VAIN[case]

    def body(comm):
        if "has waited" in message:  # messages don't tell who sleeps
            comm.limit = 0.3
        comm.overlap = "nodes"  # no thread finishes it meanwhile
        return function(comm)

    with pytest.raises(tw.LostError, match=message):
        run_ranks(4, body)


def test_an_abort_reaches_started_calls(run_ranks):
    lost = []

    def body(comm):
        comm.overlap = "nodes"  # no thread finishes them meanwhile
        tickets = [comm.start_all_reduce(np.ones(200_000))]
        if comm.rank == 1:
            raise ValueError("no such file")
        tickets.append(comm.start_all_reduce(np.ones(5)))
        for t in tickets:
            try:
                t.finish()
            except _core.LostError as error:
                lost.append(str(error))
                raise

    with pytest.raises(ValueError, match="no such file"):
        run_ranks(3, body)
    assert lost == ["rank 1: no such file"] * 2


def test_arrays_that_are_dropped_stay_until_the_call_is_done(run_ranks):
    def body(comm):
        comm.start_all_reduce(np.ones(500_000))
        last = np.full(500_000, 1.0)
        ticket = comm.start_all_reduce(last)
        gc.collect()
        others = [np.full(500_000, 7.0) for _ in range(4)]  # where memory that was given back would be used
        ticket.finish()
        return last.sum(), len(others)

    assert run_ranks(2, body) == [(1e6, 4)] * 2


LAST = """
import threading, time
from thalweg import _core
messages, memory = _core.make_messages(2), _core.NodeMemory(2)
def work(rank):
    comm = _core.make_nodes(messages[rank], memory, rank, 20.0)
    group = comm.split(0)
    ticket = group.start_barrier()
    ticket.finish()
    del group
    if rank == 0:
        waits = threading.Thread(target=comm.barrier)  # looks for signals about every 50 ms
        waits.start()
        time.sleep(0.02)
        del ticket
        waits.join()
    else:
        time.sleep(0.3)
        comm.barrier()
    comm.leave()
both = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
for rank in both: rank.start()
for rank in both: rank.join()
"""


def test_a_ticket_may_be_the_last_that_holds_its_group():
    """The group's end waits for whoever is in a call of this rank, who now and then needs the interpreter."""
    subprocess.run([sys.executable, "-c", LAST], timeout=30, check=True)


def test_the_exchange_is_counted(run_ranks):
    """2 (P - 1) / P of the bytes from every rank, where they share them evenly. Small sums go to everybody; in a node
    their shares do, and each share to one rank of each other node."""

    def body(comm):
        before = comm.bytes_sent
        comm.start_all_reduce(np.ones(1_000_000, "f4")).finish()
        large, before = comm.bytes_sent - before, comm.bytes_sent
        comm.all_reduce(np.ones(100))
        return large, comm.bytes_sent - before

    nodes_of_two = run_ranks.args[0] == "nodes2" or os.environ.get("THALWEG_NODE_RANKS") == "2"
    assert run_ranks(4, body) == [(6_000_000, 1200 if nodes_of_two else 2400)] * 4


def test_the_way_of_the_exchange_has_names(run_ranks):
    def body(comm):
        with pytest.raises(ValueError, match="sometimes is none, expected off, nodes or thread"):
            comm.overlap = "sometimes"
        comm.overlap = "off"
        return comm.overlap

    assert run_ranks(1, body) == ["off"]
