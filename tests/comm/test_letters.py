"""Letters from one rank to another, started or waited for: order, faults, and what goes on meanwhile."""

import contextlib
import time

import numpy as np
import pytest
import thalweg as tw

from .test_started_forms import poll, wait_for_a_late_rank, wait_in_vain

pytestmark = pytest.mark.timeout(60)
SIZES = (0, 1, 7, 64, 4096, 100_000)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_started_letters_arrive(size, run_ranks):
    def body(comm):
        to, from_ = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
        sent = [np.full(n, comm.rank + n / 8.0) for n in SIZES]
        given = [np.zeros(n) for n in SIZES]
        takes = [comm.start_recv(a, from_) for a in given]
        sends = [comm.start_send(a, to) for a in sent]
        got = [t.finish() for t in takes]
        assert all(a is b for a, b in zip(got, given, strict=True))
        assert [t.finish() for t in sends] == [None] * len(SIZES)
        assert all((a == from_ + len(a) / 8.0).all() for a in got)
        return comm.poll()

    assert run_ranks(size, body) == [True] * size


def test_they_come_in_the_order_of_the_calls_in_whichever_form(run_ranks):
    """A recv that waits takes the letter after those of the receives that were started before it."""

    def body(comm):
        if comm.rank:
            comm.barrier()
            for k in range(12):
                a = np.full(20_000 if k % 3 else 2, float(k))
                comm.send(a, 0) if k % 2 else comm.start_send(a, 0)
            return comm.finish()
        given = [np.zeros(20_000 if k % 3 else 2) for k in range(12)]
        tickets = [comm.start_recv(a, 1) for a in given[:5]]
        comm.barrier()
        comm.recv(given[5], 1)
        assert all(t.done for t in tickets)
        tickets = [comm.start_recv(a, 1) for a in given[6:]]
        tickets[-1].finish()
        return tuple((a[0], a[-1]) for a in given)

    assert run_ranks(2, body) == [tuple((float(k), float(k)) for k in range(12)), None]


def test_a_rank_goes_on_until_the_letter_is_there(run_ranks):
    """Collectives, started ones too, and letters of other ranks do not wait for it."""

    def body(comm):
        if comm.rank == 0:
            letter = comm.start_recv(np.zeros(50_000), 1)
            total = comm.start_all_reduce(np.ones(60_000)).finish()
            other = comm.recv(np.zeros(1), 2)
            comm.barrier()
            assert not letter.done
            comm.send(np.ones(1), 1)  # only now rank 1 sends
            return total[-1], other[0], letter.finish()[-1]
        if comm.rank == 2:
            comm.send(np.full(1, 7.0), 0)
        comm.start_all_reduce(np.ones(60_000)).finish()
        comm.barrier()
        if comm.rank == 1:
            comm.recv(np.zeros(1), 0)
            comm.send(np.full(50_000, 5.0), 0)
        return None

    assert run_ranks(3, body) == [(3.0, 7.0, 5.0), None, None]


def test_polls_alone_take_them(run_ranks):
    def body(comm):
        other = 1 - comm.rank
        tickets = [comm.start_recv(np.zeros(100_000), other), comm.start_send(np.full(100_000, 3.0), other)]
        limit = time.monotonic() + 20
        while not comm.poll():
            assert time.monotonic() < limit
        assert all(t.done for t in tickets)
        return tickets[0].finish()[-1]

    assert run_ranks(2, body) == [3.0, 3.0]


def test_groups_do_not_mix_them(run_ranks):
    """Large ones of two groups go between the same two ranks at a time."""

    def body(comm):
        pair, other = comm.split(0), 1 - comm.rank
        takes = [g.start_recv(np.zeros(200_000), other) for g in (comm, pair)]
        groups = (comm, pair) if comm.rank else (pair, comm)
        sends = [g.start_send(np.full(200_000, 1.0 if g is comm else 2.0), other) for g in groups]
        found = tuple((t.finish()[0], t.finish()[-1]) for t in takes)
        for t in sends:
            t.finish()
        return found

    assert run_ranks(2, body) == [((1.0, 1.0), (2.0, 2.0))] * 2


def test_a_letter_of_another_length_is_refused_and_stays(run_ranks):
    def body(comm):
        if comm.rank == 0:
            return comm.start_send(np.full(4, 2.0), 1).finish()
        with pytest.raises(ValueError, match=r"\[start_recv\] rank 1 expects 3 x 8 bytes from rank 0, .* sent 4 x 8"):
            comm.start_recv(np.zeros(3), 0).finish()
        with pytest.raises(ValueError, match="8 x 4 bytes"):
            comm.start_recv(np.zeros(8, "f4"), 0).finish()
        return comm.start_recv(np.zeros(4), 0).finish().sum()

    assert run_ranks(2, body) == [None, 8.0]


def test_a_recv_that_waits_raises_its_own_error_alone(run_ranks):
    def body(comm):
        if comm.rank == 0:
            return comm.send(np.full(4, 2.0), 1)
        wrong = comm.start_recv(np.zeros(3), 0)
        assert comm.recv(np.zeros(4), 0).sum() == 8
        with pytest.raises(ValueError, match="expects 3 x 8 bytes"):
            wrong.finish()
        return True

    assert run_ranks(2, body) == [None, True]


VAIN = {
    "never sent": (lambda c: c.rank or c.start_recv(np.zeros(9), 1).finish(), "rank 1 has left"),
    "polled": (lambda c: c.rank or poll(c, c.start_recv(np.zeros(9), 1)), "rank 1 has left"),
    "not finished": (
        lambda c: c.barrier() if c.rank else c.start_recv(np.zeros(9), 1),
        "rank 0 has left before what it had started was finished",
    ),
}


@pytest.mark.parametrize("case", VAIN)
def test_a_wait_in_vain_ends(case, run_ranks):
    wait_in_vain(run_ranks, 2, *VAIN[case])


def test_a_letter_that_is_late_is_waited_for_in_vain(run_ranks):
    message = r"s in start_recv of 9 x 8 bytes from rank 1 for rank 1, the limit is"
    wait_for_a_late_rank(run_ranks, 1, lambda c: c.start_recv(np.zeros(9), 1), message)


def test_what_is_sent_is_counted(run_ranks):
    def body(comm):
        before = comm.bytes_sent
        if comm.rank == 0:
            comm.send(np.ones(1000), 1)
            comm.start_send(np.ones(1000), 1).finish()
        else:
            comm.start_recv(np.zeros(1000), 0)
            comm.recv(np.zeros(1000), 0)
        mine = comm.start_recv(np.zeros(1000), comm.rank)
        comm.send(np.ones(1000), comm.rank)  # goes to nobody else
        mine.finish()
        comm.barrier()
        return comm.bytes_sent - before

    assert run_ranks(2, body) == [16_000, 0]


def test_a_rank_alone_starts_letters_to_itself(run_ranks):
    def body(comm):
        letter = comm.start_recv(np.zeros(100_000), 0)
        comm.start_send(np.full(100_000, 4.0), 0).finish()
        return letter.finish()[-1]

    assert run_ranks(1, body) == [4.0]


def test_every_refused_letter_is_an_error_of_its_own_ticket(run_ranks):
    """In whichever order they are finished, and however often."""

    def body(comm):
        if comm.rank == 0:
            comm.send(np.full(4, 2.0), 1)
            return comm.barrier()
        short, long = comm.start_recv(np.zeros(3), 0), comm.start_recv(np.zeros(5), 0)
        for ticket, size in ((long, "[35]"), (short, 3), (long, 5), (short, 3)):
            with pytest.raises(ValueError, match=f"expects {size} x 8 bytes"):
                ticket.finish()
        assert comm.recv(np.zeros(4), 0)[0] == 2
        return comm.barrier()

    run_ranks(2, body)


def test_letters_of_a_group_are_gone_with_it(run_ranks):
    """The next group may have its number."""

    def body(comm):
        got = []
        for k in range(3):
            group = comm.split(0)
            group.limit = comm.limit
            if comm.rank == 0:
                group.send(np.full(4, float(k)), 1)
                group.send(np.full(4, -1.0), 1)  # nobody takes it
            else:
                got.append(group.recv(np.zeros(4), 0)[0])
            group.barrier()
            del group
            comm.barrier()
        return tuple(got)

    assert run_ranks(2, body) == [(), (0.0, 1.0, 2.0)]


def test_ranks_that_poll_until_large_letters_are_sent(run_ranks):
    """Each takes in what the other sends, though it waits for no letter yet; else this would take 12 s."""
    if run_ranks.args[0] == "processes":
        pytest.skip("MPI may keep a large one until it is waited for")

    def body(comm):
        other, sent = 1 - comm.rank, comm.start_send(np.full(8_000_000, comm.rank + 1.0), 1 - comm.rank)
        poll(comm, sent)
        assert sent.done
        return comm.recv(np.zeros(8_000_000), other)[-1]

    assert run_ranks(2, body) == [2.0, 1.0]


def test_letters_one_after_the_other_never_lie_in_each_others_place(run_ranks):
    def body(comm):
        if comm.rank == 0:
            for k in range(3_000):
                comm.send(np.full(2, float(k)), 1)
            return None
        return sum(comm.recv(np.full(2, -1.0), 0)[1] != k for k in range(3_000))

    assert run_ranks(2, body) == [None, 0]


def test_a_rank_that_polls_for_one_that_has_left_ends_in_vain(run_ranks):
    """Though a call of another group could go on all the time."""

    def body(comm):
        comm.overlap = "nodes"
        group = comm.split(0)
        if comm.rank:
            group.send(np.ones(4), 0)
            return time.sleep(0.2)
        letter, never = group.start_recv(np.zeros(4), 1), comm.start_recv(np.zeros(4), 1)
        with pytest.raises(tw.LostError, match="rank 1 has left"):
            poll(comm, never)
        assert letter.finish()[0] == 1
        return comm.abort("seen")

    with contextlib.suppress(tw.LostError):
        run_ranks(2, body)
