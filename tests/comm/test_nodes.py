"""Ranks of several nodes, several on each: what only these have. The other files here run all collectives over them."""

import numpy as np
import pytest
from thalweg import _core

from . import ranks
from .test_collectives import payload, ref_tree

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ([0, 0, 1, 1], ""),
        ([7, 7, 2, 2, 5, 5], ""),
        ([0, 1, 2], ""),
        ([0, 0, 0], ""),
        ([0, 1, 0, 1], "rank 2 is on another node than rank 1, and on one with ranks before that"),
        ([0, 0, 1], "one node has 2 ranks and another 1"),
        ([0, 0, 0, 1, 1, 1], "each node has 3 ranks, which is no power of two"),
    ],
)
def test_nodes_that_keep_the_tree(node, reason):
    assert _core.why_flat(node) == reason


@pytest.mark.parametrize(("size", "places"), [(4, 2), (6, 2), (8, 2), (8, 4)])
def test_arrays_that_nodes_share_follow_the_tree(size, places):
    def body(comm):
        found = []
        for n in (5, 1000, 8193, 700_001):
            a = comm.zeros((n,))
            a[:] = payload(comm.rank, n, "float32")
            comm.all_reduce(a)
            b = comm.zeros((n,))
            b[:] = payload(comm.rank, n, "float32")
            comm.start_all_reduce(b).finish()
            assert (a == b).all()
            found.append(np.array(a))
        return found

    expected = [ref_tree([payload(r, n, "float32") for r in range(size)]) for n in (5, 1000, 8193, 700_001)]
    for result in ranks.run_ranks(f"nodes{places}", size, body):
        for a, b in zip(result, expected, strict=True):
            np.testing.assert_array_equal(a, b)


DIFFERING = {
    "inside a node": lambda rank: 100_001 if rank == 3 else 100_000,
    "between nodes": lambda rank: 100_000 + rank // 2,
    "for one place alone": lambda rank: 11 if rank > 1 else 10,  # the first halves are as long
    "everywhere": lambda rank: 1 + rank,
}


@pytest.mark.parametrize("case", DIFFERING)
@pytest.mark.parametrize("started", [False, True])
def test_all_ranks_find_that_lengths_differ(case, started):
    length = DIFFERING[case]

    def body(comm):
        a = np.ones(length(comm.rank))
        with pytest.raises(ValueError, match="rank 0 calls") as caught:
            comm.start_all_reduce(a).finish() if started else comm.all_reduce(a)
        after = np.ones(3)
        comm.all_reduce(after)
        return str(caught.value), after[0]

    found = ranks.run_ranks("nodes2", 4, body)
    assert found == [(found[0][0], 4.0)] * 4
    assert all((f"rank {r} calls" in found[0][0]) == (r == 0 or length(r) != length(0)) for r in range(4)), found[0][0]


def test_some_nodes_cannot_take_arrays_where_they_are():
    def body(comm):
        a = comm.zeros((1_000_000,)) if comm.rank < 2 else np.zeros(1_000_000, "f4")
        with pytest.raises(
            ValueError, match="4 bytes in shared memory, rank 2 calls all_reduce of 1000000 x 4 bytes, "
        ):
            comm.all_reduce(a)

    ranks.run_ranks("nodes2", 4, body)


def test_groups_inside_nodes_across_them_and_of_both():
    def body(comm):
        found = []
        for color in (comm.rank // 2, comm.rank // 4, comm.rank % 2, comm.rank % 4 // 2, comm.rank == 5):
            group = comm.split(int(color))
            a = np.full(50_000, 10.0**comm.rank)
            group.start_all_reduce(a).finish()
            found.append((group.size, a[0], a[-1]))
        return tuple(found)

    colors = [
        lambda r: r // 2, lambda r: r // 4, lambda r: r % 2, lambda r: r % 4 // 2, lambda r: r == 5
    ]  # fmt: skip
    for rank, found in enumerate(ranks.run_ranks("nodes2", 8, body)):
        for color, (size, first, last) in zip(colors, found, strict=True):
            members = [r for r in range(8) if color(r) == color(rank)]
            assert (size, first, last) == (len(members), *[sum(10.0**r for r in members)] * 2)


def test_a_node_sends_as_much_as_one_rank():
    """2 (L - 1) / L of the bytes inside a node of L ranks, 2 (N - 1) / N of a share among N nodes."""

    def body(comm):
        a = comm.zeros((1_000_000,))
        before = comm.bytes_sent
        comm.all_reduce(a)
        return comm.bytes_sent - before

    assert ranks.run_ranks("nodes4", 8, body) == [6_000_000 + 1_000_000] * 8
    assert ranks.run_ranks("nodes2", 8, body) == [4_000_000 + 3_000_000] * 8
