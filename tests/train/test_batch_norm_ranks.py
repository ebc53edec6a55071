"""BatchNorm(sync="rank"): each rank normalises by its own rows. Held against trainers of one rank, each on the rows of
one of several."""

import numpy as np
import pytest
import thalweg as tw
from thalweg import nn

from ..parallel import jobs

ROWS, CHANNELS, CLASSES = 24, 6, 4
rng = np.random.default_rng(0)
X = rng.standard_normal((ROWS, 5, 5, 3)) + np.arange(ROWS)[:, None, None, None]  # rows that differ from one another
Y = rng.integers(0, CLASSES, ROWS)


def trainer(sync, world=1, *, affine=True, dtype="float64", relu=True, **options):
    layers = [nn.Conv2d(CHANNELS, 3, bias=False), nn.BatchNorm(sync=sync, affine=affine)]
    net = nn.Sequential(*layers, *([nn.ReLU()] if relu else []), nn.Flatten(), nn.Linear(CLASSES))
    given = {"seed": 3, "world": world, "threads": 1, "dtype": dtype, "optimizer": tw.optim.SGD(lr=1.0)}
    return tw.Trainer(net, loss=tw.losses.CrossEntropy(), **{**given, **options})


def change(t, x, y):
    """What one step of SGD with rate 1 subtracts: the gradient. And the loss."""
    t.build(x, y)
    before = {name: np.array(value) for name, value in t.parameters().items()}
    loss = t.step(x, y).loss
    return {name: before[name] - value for name, value in t.parameters().items()}, loss


def parts(world):
    return [slice(r * ROWS // world, (r + 1) * ROWS // world) for r in range(world)]


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("relu", [True, False])
def test_gradients_are_the_mean_of_those_of_each_ranks_rows(world, affine, relu):
    got, loss = change(trainer("rank", world, affine=affine, relu=relu), X, Y)
    alone = [change(trainer("all", affine=affine, relu=relu), X[p], Y[p]) for p in parts(world)]
    np.testing.assert_allclose(loss, np.mean([part for _, part in alone]), rtol=1e-12)
    for name, value in got.items():
        want = np.mean([gradients[name] for gradients, _ in alone], axis=0)
        np.testing.assert_allclose(value, want, rtol=1e-9, atol=1e-12, err_msg=name)
    together, _ = change(trainer("all", world, affine=affine, relu=relu), X, Y)
    assert any(abs(together[name] - got[name]).max() > 1e-3 for name in got)


def test_one_rank_has_the_bits_of_sync_all():
    digests = {fitted("all", 1), fitted("rank", 1)}
    assert len(digests) == 1


def fitted(sync, world, **options):
    t = trainer(sync, world, dtype="float32", **{"optimizer": tw.optim.SGD(lr=0.01, momentum=0.9), **options})
    t.fit(X.astype("f4"), Y, epochs=3, batch_size=10, verbose=0)
    return t.digest()


def test_the_bits_are_those_of_the_number_of_ranks():
    assert fitted("rank", 2) == fitted("rank", 2, threads=2)
    assert fitted("rank", 2) != fitted("rank", 1)


def test_running_statistics_are_those_of_all_rows():
    one, four = trainer("all"), trainer("rank", 4)
    for t in (one, four):
        t.build(X, Y)
        t.step(X, Y)
    assert len(one.buffers()) == 2
    for name, value in one.buffers().items():
        np.testing.assert_array_equal(four.buffers()[name], value)


def test_more_ranks_than_rows():
    t = trainer("rank", 4, dtype="float32")
    t.build(X.astype("f4"), Y)
    assert np.isfinite(t.step(X[:3].astype("f4"), Y[:3]).loss)  # one rank has no rows, each row 9 values a channel


def test_one_value_on_a_rank_is_an_error():
    net = nn.Sequential(nn.Linear(5), nn.BatchNorm(sync="rank"), nn.Linear(CLASSES))
    t = tw.Trainer(net, loss=tw.losses.CrossEntropy(), optimizer=tw.optim.SGD(lr=1.0), seed=3, world=2, threads=1)
    x = rng.standard_normal((8, 7)).astype("f4")
    t.build(x, Y[:8])
    with pytest.raises(ValueError, match="at least 2 values per channel to train, got 1"):
        t.step(x[:3], Y[:3])
    assert np.isfinite(t.step(x, Y[:8]).loss)


def test_checkpoints_keep_it(tmp_path):
    t = trainer("rank", 2, dtype="float32")
    t.build(X.astype("f4"), Y)
    t.step(X.astype("f4"), Y)
    t.save(tmp_path / "run")
    assert tw.Trainer.load(tmp_path / "run", world=2).net[1].sync == "rank"
    assert "sync" not in nn.BatchNorm().options()  # checkpoints from before it was there name none


def test_another_sync_is_an_error():
    with pytest.raises(ValueError, match=r"\[BatchNorm\] sync is 'batch', expected 'all' or 'rank'"):
        nn.BatchNorm(sync="batch")


def test_processes_have_the_bits_of_ranks_as_threads(tmp_path):
    body = """
net = nn.Sequential(nn.Linear(33), nn.BatchNorm(sync="rank"), nn.ReLU(), nn.Linear(5))
t = tw.Trainer(net, loss=tw.losses.CrossEntropy(), optimizer=tw.optim.SGD(lr=0.1, momentum=0.9), seed=3, **given)
fit(t, verbose=0)
digest = t.digest()
if rank == 0: print("digest", digest)
"""
    done = [jobs.launch(tmp_path, n, f"given = {given}\n{body}") for n, given in ((2, {}), (1, {"world": 2}))]
    assert [d.returncode for d in done] == [0, 0], done
    assert done[0].stdout == done[1].stdout != ""
