"""thalweg.world(n).run: a function on every rank."""

import numpy as np
import pytest
import thalweg as tw

pytestmark = pytest.mark.timeout(60)


def sum_of_ranks(comm, weight):
    total = np.full(5, weight * comm.rank)
    comm.all_reduce(total)
    return comm.rank, total[0]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_function_runs_on_every_rank(size):
    expected = 2.0 * sum(range(size))
    assert tw.world(size).run(sum_of_ranks, 2.0) == [(r, expected) for r in range(size)]


def test_the_first_failure_is_raised_and_nobody_waits():
    def body(comm):
        if comm.rank == 2:
            raise ValueError("rank two has no data")
        comm.barrier()

    with pytest.raises(ValueError, match="rank two has no data"):
        tw.world(3).run(body)


VAIN = {
    "barrier": (lambda c: c.barrier() if c.rank else None, "rank 0 has left: .* waits in barrier"),
    "all_reduce": (lambda c: c.all_reduce(np.ones(9)) if c.rank else None, "rank 0 has left: .* all_reduce of 9 x 8"),
    "recv": (
        lambda c: c.recv(np.ones(2), 0) if c.rank == 1 else None,
        "rank 0 has left: .*rank 1 waits in recv of 2 x 8",
    ),
    "group": (lambda c: c.split(c.rank // 2).barrier() if c.rank != 1 else c.split(0) and None, "rank 1 has left"),
    "circle": (
        lambda c: c.recv(np.ones(2), (c.rank + 1) % c.size),
        "no rank can go on: rank 0 waits in recv of .* from rank 1, |has waited [.0-9]+ s in recv of .* from rank",
    ),
    "mixed": (
        lambda c: c.recv(np.ones(2), 1) if c.rank == 0 else c.barrier(),
        "no rank can go on: rank 0 waits in|has waited [.0-9]+ s in",
    ),
}


@pytest.mark.parametrize("size", [3, 4])
@pytest.mark.parametrize("case", VAIN)
def test_a_wait_in_vain_ends(case, size, run_ranks):
    function, message = VAIN[case]

    def body(comm):
        if "has waited" in message:  # messages don't tell who sleeps
            comm.limit = 0.3
        return function(comm)

    with pytest.raises(tw.LostError, match=message):
        run_ranks(size, body)


def test_a_failure_reaches_the_sub_groups(run_ranks):
    def body(comm):
        half = comm.split(comm.rank // 2)
        if comm.rank == 0:
            raise ValueError("rank zero has no data")
        half.barrier()
        comm.barrier()

    with pytest.raises(ValueError, match="rank zero has no data"):
        run_ranks(4, body)


def test_a_letter_is_read_after_its_sender_has_left(run_ranks):
    def body(comm):
        if comm.rank == 0:
            return comm.send(np.full(2, 3.0), 1)
        a = np.zeros(2)
        comm.recv(a, 0)
        return a[0]

    assert run_ranks(2, body) == [None, 3.0]
