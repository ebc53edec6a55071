"""Every collective, started and finished later, does what it does when it waits: values, order, faults."""

import os
import threading
import time

import numpy as np
import pytest
import thalweg as tw

from .test_collectives import payload
from .test_started import digest

pytestmark = pytest.mark.timeout(60)
SIZES = (0, 7, 64, 65, 4096, 4097, 300_001)  # nothing; along with the call; 16 KB and just more; in several pieces


def own_share(comm, n):
    return slice(n * comm.rank // comm.size, n * (comm.rank + 1) // comm.size)


def share_of(comm, a):
    """What is left of an array after reduce_scatter: the rest of it is anything."""
    return a[own_share(comm, len(a))]


CALLS = {  # name: call(comm, form, array), where form is a name's beginning, and what its result is to a rank
    "all_reduce": (lambda c, form, a: getattr(c, form + "all_reduce")(a), lambda c, a: a),
    "reduce_scatter": (lambda c, form, a: getattr(c, form + "reduce_scatter")(a), share_of),
    "all_gather": (lambda c, form, a: getattr(c, form + "all_gather")(a), lambda c, a: a),
    "broadcast": (lambda c, form, a: getattr(c, form + "broadcast")(a, root=c.size - 1), lambda c, a: a),
}


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("name", CALLS)
def test_started_calls_have_the_bits_of_those_that_wait(name, size, run_ranks):
    call, result = CALLS[name]

    def body(comm):
        def arrays(dtype):
            return [payload(comm.rank, n, dtype) for n in SIZES]

        for dtype in ("float32", "float64"):
            waited = [call(comm, "", a) for a in arrays(dtype)]
            given = arrays(dtype)
            tickets = [call(comm, "start_", a) for a in given]
            started = [t.finish() for t in tickets]
            assert [digest(result(comm, a)) for a in started] == [digest(result(comm, a)) for a in waited]
            assert all(t.done for t in tickets) and comm.poll()
            assert name == "all_gather" or all(a is b for a, b in zip(started, given, strict=True))
        return True

    assert run_ranks(size, body) == [True] * size


@pytest.mark.parametrize("name", CALLS)
def test_arrays_that_the_ranks_share(name, run_ranks):
    call, result = CALLS[name]

    def body(comm):
        waited, started = (comm.zeros((300_001,)) for _ in range(2))
        for a in (waited, started):
            a[:] = payload(comm.rank, len(a), "float32")
        waited, started = call(comm, "", waited), call(comm, "start_", started).finish()
        assert digest(result(comm, started)) == digest(result(comm, waited))
        return True

    assert run_ranks(4, body) == [True] * 4


def test_calls_of_all_kinds_in_one_order(run_ranks):
    """Started at once, finished from the last; polls and calls that wait between them."""

    def body(comm):
        n, tickets = 50_000, []
        for k in range(3):
            tickets += [
                comm.start_all_gather(np.full(n, float(comm.rank + k))),
                comm.start_barrier(),
                comm.start_broadcast(np.full(5, float(comm.rank)), root=k),
                comm.start_reduce_scatter(np.full(n, 1.0)),
                comm.start_all_reduce(np.full(3, float(comm.rank))),
            ]
            comm.poll()
            comm.all_reduce(np.ones(4))
            assert comm.broadcast(np.full(3, float(comm.rank)), root=k)[0] == k
        found = [t.finish() for t in reversed(tickets)][::-1]
        for k in range(3):
            gathered, nothing, root, scattered, total = found[5 * k : 5 * k + 5]
            assert (gathered == np.arange(comm.size)[:, None] + k).all() and gathered.shape == (comm.size, n)
            assert nothing is None and (root == k).all() and (total == 3).all()
            assert (share_of(comm, scattered) == 3).all()
        return True

    assert run_ranks(3, body) == [True] * 3


def test_polls_alone_finish_them(run_ranks):
    def body(comm):
        a = np.full(100_000, float(comm.rank))
        tickets = [comm.start_barrier(), comm.start_broadcast(a, root=1), comm.start_all_gather(np.full(9, 1.0))]
        limit = time.monotonic() + 20
        while not comm.poll():
            assert time.monotonic() < limit
        assert all(t.done for t in tickets)
        return a[0], a[-1], tickets[2].finish().sum()

    assert run_ranks(3, body) == [(1.0, 1.0, 27.0)] * 3


def test_a_barrier_waits_for_all(run_ranks):
    def body(comm):
        comm.overlap = "nodes"
        ticket = comm.start_barrier() if comm.rank else None
        for _ in range(20):
            comm.poll()
            comm.barrier()
        assert ticket is None or not ticket.done
        comm.barrier()
        (ticket or comm.start_barrier()).finish()
        return True

    assert run_ranks(3, body) == [True] * 3


def test_two_groups_at_a_time(run_ranks):
    def body(comm):
        half = comm.split(comm.rank % 2)
        mine = np.full(200_000, float(comm.rank))
        order = [(comm, mine), (half, mine)]
        tickets = {g.size: g.start_all_gather(a) for g, a in (order if comm.rank < 2 else order[::-1])}
        return tuple(float(tickets[n].finish()[:, -1].sum()) for n in (2, 4))

    assert run_ranks(4, body) == [(2.0, 6.0), (4.0, 6.0), (2.0, 6.0), (4.0, 6.0)]


DIFFERING = {
    "lengths": (lambda c: c.start_all_gather(np.ones(9 + c.rank)), "start_all_gather of 9 x 8 bytes, rank 1 calls "),
    "roots": (lambda c: c.start_broadcast(np.ones(9), root=c.rank), "start_broadcast of 9 x 8 bytes from root 0, "),
    "calls": (
        lambda c: c.start_reduce_scatter(np.ones(9)) if c.rank else c.start_barrier(),
        "start_barrier, rank 1 calls start_reduce_scatter of 9 x 8 bytes",
    ),
}


@pytest.mark.parametrize("case", DIFFERING)
def test_different_calls_are_the_same_error_on_every_rank(case, run_ranks):
    start, message = DIFFERING[case]

    def body(comm):
        first, second = start(comm), comm.start_all_reduce(np.ones(3))
        with pytest.raises(ValueError, match=r"\[start_\w+\] rank 0 calls " + message) as caught:
            first.finish()
        return str(caught.value), second.finish()[0]

    found = run_ranks(3, body)
    assert found == [(found[0][0], 3.0)] * 3


VAIN = {
    "never started": (lambda c: c.rank and c.start_all_gather(np.ones(9)).finish(), "rank 0 has left"),
    "polled": (lambda c: c.rank and poll(c, c.start_broadcast(np.ones(9))), "rank 0 has left"),
    "not finished": (
        lambda c: [c.start_barrier() for _ in range(1 if c.rank else 2)] and c.rank and c.barrier(),
        "rank 0 has left before what it had started was finished",
    ),
}


def poll(comm, ticket):
    limit = time.monotonic() + 10
    while not ticket.done and time.monotonic() < limit:
        comm.poll()


def wait_in_vain(run_ranks, size, function, message):
    def body(comm):
        comm.overlap = "nodes"  # no thread finishes it meanwhile
        return function(comm)

    with pytest.raises(tw.LostError, match=message):
        run_ranks(size, body)


def wait_for_a_late_rank(run_ranks, late, start, message):
    """The other one of two ranks starts something."""
    if run_ranks.args[0] == "threads":
        pytest.skip("ranks of one process have no limit")
    over = threading.Event()

    def body(comm):
        comm.limit = 0.1
        if comm.rank == late:
            return over.wait(20)
        try:
            return start(comm).finish()
        finally:
            over.set()

    with pytest.raises(tw.LostError, match=message):
        run_ranks(2, body)


@pytest.mark.parametrize("case", VAIN)
def test_a_wait_in_vain_ends(case, run_ranks):
    wait_in_vain(run_ranks, 4, *VAIN[case])


def test_a_late_rank_is_waited_for_in_vain(run_ranks):
    message = r"s in start_reduce_scatter of 9 x 8 bytes for rank 0, the limit is"
    wait_for_a_late_rank(run_ranks, 0, lambda c: c.start_reduce_scatter(np.ones(9)), message)


def test_an_abort_reaches_every_ticket(run_ranks):
    """Also those after the first: their arrays hold nothing that could be used."""
    caught = []

    def body(comm):
        if comm.rank == 0:
            raise ValueError("no such file")
        tickets = [comm.start_all_gather(np.ones(9)), comm.start_all_reduce(np.ones(9)), comm.start_barrier()]
        for ticket in tickets:
            with pytest.raises(tw.LostError) as error:
                ticket.finish()
            caught.append(str(error.value))

    with pytest.raises(ValueError, match="no such file"):
        run_ranks(2, body)
    assert caught == ["rank 0: no such file"] * 3


def test_the_flight_names_started_calls(run_ranks):
    def body(comm):
        comm.start_all_gather(np.ones(9)).finish()
        comm.start_barrier().finish()
        comm.all_gather(np.ones(9))
        lines = "\n".join(comm.flight())
        assert "start_all_gather of 9 x 8 bytes" in lines and "start_barrier" in lines and ": all_gather of" in lines
        return True

    assert run_ranks(2, body) == [True] * 2


def test_what_goes_to_others_is_counted(run_ranks):
    if run_ranks.args[0].startswith("nodes") or os.environ.get("THALWEG_NODE_RANKS"):
        pytest.skip("ranks of nodes send less: test_nodes")

    def body(comm):
        found = []
        for start in (comm.start_reduce_scatter, comm.start_all_gather, comm.start_broadcast):
            before = comm.bytes_sent
            start(np.ones(100_000)).finish()
            found.append(comm.bytes_sent - before)
        return tuple(found)

    assert run_ranks(2, body) == [(400_000, 800_000, 800_000), (400_000, 800_000, 0)]
