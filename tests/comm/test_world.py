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
