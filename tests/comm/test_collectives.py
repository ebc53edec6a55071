"""Collectives of ranks of every kind: values, the fixed tree, the same bits on every rank, and failures."""

import functools

import numpy as np
import pytest
from thalweg import _core

pytestmark = pytest.mark.timeout(60)


def ref_tree(values):
    """The binary counter over the ranks, in the arithmetic of the arrays themselves."""
    stack = []
    for i, v in enumerate(values):
        stack.append(v.copy())
        while i & 1:
            b = stack.pop()
            stack[-1] = stack[-1] + b
            i >>= 1
    while len(stack) > 1:
        b = stack.pop()
        stack[-1] = stack[-1] + b
    return stack[0]


@functools.lru_cache(128)  # all of them, for all kinds of ranks
def numbers(rank, n, dtype):
    return np.random.default_rng(rank).normal(size=n).astype(dtype) * 10.0 ** (rank % 3)


def payload(rank, n, dtype):
    return numbers(rank, n, dtype).copy()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("n", [0, 1, 7, 1000, 4097, 300_001, 700_001])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_reduce_follows_the_tree(size, n, dtype, run_ranks):
    def body(comm):
        a = payload(comm.rank, n, dtype)
        comm.all_reduce(a)
        return a

    expected = ref_tree([payload(r, n, dtype) for r in range(size)])
    for result in run_ranks(size, body):
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_arrays_that_others_see_follow_the_tree(size, run_ranks):
    n = 300_001

    def body(comm):
        a, found = comm.zeros((n,)), []
        for _ in range(10):  # at once again: nobody writes any more when a call has returned
            a[:] = payload(comm.rank, n, "float32")
            comm.all_reduce(a)
            found.append(np.array(a))
        return found

    expected = ref_tree([payload(r, n, "float32") for r in range(size)])
    for result in run_ranks(size, body):
        for a in result:
            np.testing.assert_array_equal(a, expected)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_reduce_scatter_leaves_each_rank_its_share(size, run_ranks):
    n = 1001
    expected = ref_tree([payload(r, n, "float32") for r in range(size)])

    def body(comm):
        a = payload(comm.rank, n, "float32")
        comm.reduce_scatter(a)
        return a

    for rank, result in enumerate(run_ranks(size, body)):
        begin, end = n * rank // size, n * (rank + 1) // size
        np.testing.assert_array_equal(result[begin:end], expected[begin:end])


def test_gather_broadcast_send_recv_split(run_ranks):
    def body(comm):
        mine = np.full(3, float(comm.rank))
        everybody = comm.all_gather(mine)
        news = np.full(2, float(comm.rank))
        comm.broadcast(news, root=2)
        ring = np.empty(1)
        comm.send(np.array([float(comm.rank)]), (comm.rank + 1) % comm.size)
        comm.recv(ring, (comm.rank - 1) % comm.size)
        half = comm.split(color=comm.rank % 2, key=-comm.rank)
        total = np.array([float(comm.rank)])
        half.all_reduce(total)
        return everybody, news, ring[0], (half.rank, half.size), total[0]

    for rank, (everybody, news, ring, half, total) in enumerate(run_ranks(4, body)):
        np.testing.assert_array_equal(everybody, np.repeat(np.arange(4.0)[:, None], 3, axis=1))
        np.testing.assert_array_equal(news, [2.0, 2.0])
        assert ring == (rank - 1) % 4
        assert half == (1 - rank // 2, 2)  # the larger rank has the smaller key
        assert total == (2.0 if rank % 2 == 0 else 4.0)


@pytest.mark.parametrize("n", [40_000, 70_000, 2_200_001])  # by a window, where they lie, past the caches
def test_large_gathers_and_broadcasts(n, run_ranks):
    def body(comm):
        mine = payload(comm.rank, n, "float64")
        rows = comm.all_gather(mine)
        assert all((rows[r] == payload(r, n, "float64")).all() for r in range(comm.size))
        comm.broadcast(mine, root=1)
        return bool((mine == rows[1]).all())

    assert run_ranks(3, body) == [True] * 3


def test_arrays_of_which_others_see_some(run_ranks):
    """The advice says which rank passes what."""
    if run_ranks.args[0] in ("threads", "messages"):
        pytest.skip("there all arrays are alike")

    def body(comm):
        a = comm.zeros((100_000,)) if comm.rank == 1 else np.zeros(100_000, "f4")
        with pytest.raises(ValueError) as caught:
            comm.all_reduce(a)
        return str(caught.value)

    advice = (
        "rank 1 passes an array of comm.zeros, rank 0 a plain one; all ranks must pass arrays of comm.zeros, or none"
    )
    found = run_ranks(2, body)
    assert found[0].endswith(f" x 4 bytes in shared memory: {advice}") and found == found[:1] * 2


def test_many_collectives_in_a_row_stay_in_step(run_ranks):
    def body(comm):
        total = np.zeros(1)
        for i in range(2000):
            a = np.array([float(comm.rank + i)])
            comm.all_reduce(a)
            total += a
        return total[0]

    expected = sum(sum(r + i for r in range(3)) for i in range(2000))
    assert run_ranks(3, body) == [expected] * 3


def test_a_failing_rank_ends_the_others(run_ranks):
    lost = []

    def body(comm):
        if comm.rank == 1:
            raise ValueError("no such file")
        try:
            comm.all_reduce(np.zeros(10))
        except _core.LostError as error:
            lost.append(str(error))
            raise

    with pytest.raises(ValueError, match="no such file"):
        run_ranks(3, body)
    assert lost == ["rank 1: no such file"] * 2


ONES = np.ones
DIFFERING = {
    "length": (lambda c: c.all_reduce(ONES(10 if c.rank == 0 else 3_000_000)), "10 x 8 .*rank 1 calls .*3000000 x 8 "),
    "dtype": (
        lambda c: c.all_reduce(ONES(1000, "f4" if c.rank == 0 else "f8")),
        "1000 x 4 bytes.*rank 1 calls .*1000 x 8 bytes",
    ),
    "nothing": (lambda c: c.all_reduce(ONES(0 if c.rank == 0 else 5)), "0 x 8 bytes.*rank 1 calls .*5 x 8 bytes"),
    "share": (lambda c: c.reduce_scatter(ONES(10 if c.rank == 0 else 11)), "10 x 8 bytes.*rank 1 calls .*11 x 8 bytes"),
    "gather": (lambda c: c.all_gather(ONES(10 if c.rank == 0 else 9)), "10 x 8 bytes.*rank 1 calls .*9 x 8 bytes"),
    "news": (
        lambda c: c.broadcast(ONES(10 if c.rank == 0 else 9_000_000)),
        "10 x 8 bytes.*rank 1 calls .*9000000 x 8 bytes",
    ),
    "halves": (
        lambda c: c.broadcast(ONES(4, "f4") if c.rank == 0 else ONES(2)),
        "4 x 4 bytes.*rank 1 calls .*2 x 8 bytes",
    ),
    "root": (lambda c: c.broadcast(ONES(4), root=c.rank), "from root 0, rank 1 calls .*from root 1"),
    "call": (
        lambda c: c.all_reduce(ONES(4)) if c.rank == 0 else c.broadcast(ONES(4)),
        "all_reduce.*rank 1 calls broadcast",
    ),
    "barrier": (lambda c: c.barrier() if c.rank == 0 else c.all_reduce(ONES(4)), "barrier, rank 1 calls all_reduce"),
    "split": (lambda c: c.split(0) if c.rank == 0 else c.barrier(), "split, rank 1 calls barrier"),
}


@pytest.mark.parametrize("case", DIFFERING)
def test_calls_that_differ_are_the_same_error_on_every_rank(case, run_ranks):
    call, message = DIFFERING[case]

    def body(comm):
        with pytest.raises(ValueError, match=f"rank 0 calls .*{message}") as caught:
            call(comm)
        total = ONES(3)
        comm.all_reduce(total)  # the group is as good as before
        return str(caught.value), total[0]

    found = run_ranks(3, body)
    assert found == [(found[0][0], 3.0)] * 3


def test_many_ranks_that_differ_are_counted(run_ranks):
    with pytest.raises(ValueError, match=r"rank 4 calls .*, and 3 more ranks differ"):
        run_ranks(8, lambda comm: comm.all_reduce(ONES(1 if comm.rank == 0 else 2)))


def test_a_message_of_another_length_or_dtype_is_refused_and_kept(run_ranks):
    def body(comm):
        if comm.rank == 0:
            return comm.send(ONES(4), to=1)
        with pytest.raises(ValueError, match="rank 1 expects 3 x 8 bytes from rank 0, which sent 4 x 8 bytes"):
            comm.recv(np.zeros(3), from_=0)
        with pytest.raises(ValueError, match="8 x 4 bytes"):
            comm.recv(np.zeros(8, "f4"), from_=0)
        a = np.zeros(4)
        comm.recv(a, from_=0)
        return a.sum()

    assert run_ranks(2, body) == [None, 4.0]


def test_a_rank_alone_sends_to_itself():
    (comm,) = _core.make_threads(1)
    a = np.zeros(2)
    comm.send(ONES(2), to=0)
    comm.recv(a, from_=0)
    assert a.sum() == 2
    with pytest.raises(_core.LostError, match="rank 0 waits in recv of 2 x 8 bytes from rank 0"):
        comm.recv(a, from_=0)


def test_bad_arrays_are_refused():
    (comm,) = _core.make_threads(1)
    with pytest.raises(TypeError, match="int64"):
        comm.all_reduce(np.zeros(3, dtype=np.int64))
    with pytest.raises(ValueError, match="contiguous"):
        comm.all_reduce(np.zeros((4, 4))[:, ::2])
    frozen = np.zeros(3)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        comm.all_reduce(frozen)
    with pytest.raises(ValueError, match="outside"):
        comm.broadcast(np.zeros(1), root=4)
    with pytest.raises(ValueError, match="at least 1 rank"):
        _core.make_threads(0)


def test_large_messages_wait_in_no_stream(run_ranks):
    """Everybody sends first: more than is on its way between two ranks must be taken in meanwhile."""

    def body(comm):
        comm.send(np.full(100_000, comm.rank, "f8"), (comm.rank + 1) % comm.size)
        comm.barrier()
        a = np.empty(100_000)
        comm.recv(a, (comm.rank - 1) % comm.size)
        return a[0], a[-1]

    assert run_ranks(3, body) == [(2.0, 2.0), (0.0, 0.0), (1.0, 1.0)]


def test_groups_are_given_back(run_ranks):
    def body(comm):
        for i in range(300):
            half = comm.split(comm.rank % 2)
            a = np.full(3, float(comm.rank + i))
            half.all_reduce(a)
            assert a[0] == 2 * i + (2 if comm.rank % 2 == 0 else 4)
        return True

    assert run_ranks(4, body) == [True] * 4


def test_texts_and_what_must_be_the_same(run_ranks):
    def body(comm):
        assert comm.gather_texts(f"I am {comm.rank}") == [f"I am {r}" for r in range(comm.size)]
        comm.check_same("Trainer", {"seed": "3", "version": "1"})
        with pytest.raises(ValueError) as caught:
            comm.check_same("Trainer", {"seed": str(comm.rank // 2), "shards": "8", "version": "1" * (60 + comm.rank)})
        return str(caught.value)

    found = run_ranks(3, body)
    assert found == found[:1] * 3
    assert found[0].startswith("[Trainer] the ranks differ: seed is 0 on rank 0 and 1 on rank 2; version is ")
    assert "...11111" in found[0]  # long texts from where they differ on
    assert "shards" not in found[0]


def test_texts_of_any_length_are_whole(run_ranks):
    texts = ["", "a\0b", "ü" * 5000 + "€"]

    def body(comm):
        assert comm.gather_texts("") == [""] * 3
        assert comm.gather_texts(texts[comm.rank]) == texts
        cut = comm.gather_texts("a" * (comm.rank == 1) + "ü" * (1 << 19))  # one byte more than there is room for
        return [len(text) for text in cut]

    assert run_ranks(3, body) == [[1 << 19] * 3] * 3


@pytest.mark.parametrize("letter", ["a", "ü"])
def test_a_difference_far_into_long_texts_is_shown(letter, run_ranks):
    def body(comm):
        with pytest.raises(ValueError) as caught:
            comm.check_same("Trainer", {"network": letter * 5000 + f"units {3 + comm.rank}" + letter * 5000})
        return str(caught.value)

    first, second = run_ranks(2, body)
    assert first == second and "units 3" in first and "units 4" in first
    assert first.count("...") == 4 and len(first) < 400


def test_a_difference_names_the_calls_of_the_trainer(run_ranks):
    def body(comm):
        assert comm.inside == ""
        comm.inside = ["save", "validation"][comm.rank]
        with pytest.raises(ValueError) as caught:
            comm.all_gather(np.zeros(1 + 2 * comm.rank))
        assert comm.inside == ["save", "validation"][comm.rank]
        return str(caught.value)

    said = (
        "[all_gather] rank 0 calls all_gather of 1 x 8 bytes as part of save, rank 1 calls all_gather of 3 x 8 bytes "
        "as part of validation: all ranks must call the same methods of their trainers, in callbacks too"
    )
    assert run_ranks(2, body) == [said] * 2


def test_the_reason_of_an_abort_is_cut_between_characters(run_ranks):
    def body(comm):
        if comm.rank == 0:
            comm.abort("a" * comm.rank + "ü" * 2000)
        with pytest.raises(_core.LostError) as caught:
            comm.barrier()
        return str(caught.value)

    for text in run_ranks(2, body):
        assert len(text) > 400 and set(text) == {"ü"}
