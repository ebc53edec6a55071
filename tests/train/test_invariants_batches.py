"""Sums and counts: an uneven last batch, empty ranks, accumulation and evaluation give what all the samples together
give, computed on one rank; batch norm's running statistics follow torch's convention."""

import numpy as np
import pytest


def data(rows, features=6, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, features)), rng.integers(0, classes, rows)


def dense(tw, norm=True):
    nn = tw.nn
    middle = (nn.BatchNorm(),) if norm else ()
    return nn.Sequential(nn.Linear(16), *middle, nn.Tanh(), nn.Linear(4))


def make(tw, net, *, optimizer=None, loss=None, **options):
    return tw.Trainer(
        net,
        loss=loss or tw.losses.CrossEntropy(label_smoothing=0.1),
        optimizer=optimizer or tw.optim.SGD(lr=0.1),
        **{"seed": 1, "dtype": "float64", "threads": 1, **options},
    )


def reference_gradient(tw, net, parameters, x, y):
    """Of the mean loss over these samples, by the function transforms: no trainer, no ranks, no shards."""

    def loss(p):
        return tw.ops.cross_entropy(tw.nn.functional_call(net, p, x), y, label_smoothing=0.1)

    return tw.value_and_grad(loss)(parameters)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("world", [1, 2, 4, 8, 3])
@pytest.mark.parametrize("rows", [16, 13, 64, 5])
def test_an_uneven_batch_gives_the_gradient_of_its_samples(rows, world, norm, tw):
    """Measured by the update of plain gradient descent; ranks without rows included."""
    net = dense(tw, norm)
    x, y = data(rows)
    trainer = make(tw, net, world=world)
    trainer.build(x, y)
    before = trainer.parameters()
    value, gradient = reference_gradient(tw, net, before, x, y)
    report = trainer.step(x, y)
    after = trainer.parameters()
    assert report.count == rows and abs(report.loss - value) < 1e-14 * max(1, abs(value))
    for name, g in gradient.items():
        np.testing.assert_allclose((before[name] - after[name]) / 0.1, g, rtol=1e-10, atol=1e-14, err_msg=name)
    norm_of_all = np.sqrt(sum((g**2).sum() for g in gradient.values()))
    assert abs(report.grad_norm - norm_of_all) < 1e-12 * norm_of_all


def test_means_of_means_are_not_taken(tw):
    """8 and 56 samples in two batches: losses of an epoch and of an evaluation weigh samples, not batches."""
    x, y = data(64)
    trainer = make(tw, dense(tw, norm=False), optimizer=tw.optim.SGD(lr=0.0))
    history = trainer.fit(x, y, epochs=1, batch_size=56, shuffle=False)
    whole = trainer.evaluate(x, y, batch_size=64)
    assert abs(history["loss"][0] - whole["loss"]) < 1e-14
    for batch_size in (1, 7, 56, 100):
        found = trainer.evaluate(x, y, batch_size=batch_size)
        assert abs(found["loss"] - whole["loss"]) < 1e-14, batch_size


@pytest.mark.parametrize("world", [1, 2, 4])
def test_accuracy_counts_samples_exactly(world, tw):
    x, y = data(37)
    trainer = make(tw, dense(tw), world=world, metrics=["accuracy"])
    trainer.fit(x, y, epochs=2, batch_size=16)
    hits = int((trainer.predict(x).argmax(-1) == y).sum())
    for batch_size in (5, 16, 37):
        assert trainer.evaluate(x, y, batch_size=batch_size)["accuracy"] == hits / 37


@pytest.mark.parametrize("world", [1, 4])
@pytest.mark.parametrize("parts, rows", [(2, 32), (4, 32), (4, 30), (3, 20)])
def test_accumulated_gradients_equal_the_whole_batch(parts, rows, world, tw):
    """Without batch norm: the update of a batch in parts is the update of the batch, counts exact."""
    x, y = data(rows)
    whole, cut = (make(tw, dense(tw, False), world=world, accumulate=k) for k in (1, parts))
    for _ in range(3):
        a, b = whole.step(x, y), cut.step(x, y)
        assert a.count == b.count == rows
        assert abs(a.loss - b.loss) < 1e-13 and abs(a.grad_norm - b.grad_norm) < 1e-12
    for name, value in whole.parameters().items():
        np.testing.assert_allclose(cut.parameters()[name], value, rtol=1e-12, atol=1e-14, err_msg=name)


def test_accumulation_counts_one_update(tw):
    x, y = data(32)
    trainer = make(tw, dense(tw, False), accumulate=4, optimizer=tw.optim.Adam(lr=0.01))
    trainer.step(x, y)
    trainer.step(x, y)
    assert trainer.t == 2


@pytest.mark.parametrize("rows", [[16, 16], [16, 5, 9]])
@pytest.mark.parametrize("world", [1, 2, 8])
@pytest.mark.parametrize("images", [False, True])
def test_running_statistics_are_torchs(images, world, rows, tw, torch):
    """new = 0.9 old + 0.1 batch with the unbiased variance over the global batch; evaluation uses them."""
    rng = np.random.default_rng(0)
    shape = (4, 3, 5) if images else (5,)
    head = (tw.nn.GlobalAvgPool2d(),) if images else ()
    trainer = make(tw, tw.nn.Sequential(tw.nn.BatchNorm(), *head, tw.nn.Linear(3)), world=world)
    norm = (torch.nn.BatchNorm2d if images else torch.nn.BatchNorm1d)(5).double()
    for n in rows:
        x = 3 + 2 * rng.standard_normal((n, *shape))
        trainer.step(x, rng.integers(0, 3, n))
        norm(torch.from_numpy(np.moveaxis(x, -1, 1)))
    buffers = trainer.buffers()
    for ours, theirs in (("running_mean", norm.running_mean), ("running_var", norm.running_var)):
        [name] = [k for k in buffers if k.endswith(ours)]
        np.testing.assert_allclose(buffers[name], theirs.numpy(), rtol=1e-13)


def test_evaluation_changes_nothing(tw):
    x, y = data(20)
    trainer = make(tw, dense(tw))
    trainer.step(x, y)
    before = trainer.parameters(), trainer.buffers()
    trainer.evaluate(x, y, batch_size=7)
    trainer.predict(x)
    for a, b in zip(before, (trainer.parameters(), trainer.buffers()), strict=True):
        for name, value in a.items():
            np.testing.assert_array_equal(b[name], value)


def test_a_batch_of_one_row_in_batch_norm_is_refused_and_nothing_is_lost(tw):
    x, y = data(20)
    trainer = make(tw, dense(tw))
    trainer.step(x, y)
    before = trainer.parameters()
    with pytest.raises(ValueError, match="batch norm of layer '1' needs at least 2 values per channel"):
        trainer.step(x[:1], y[:1])
    for name, value in trainer.parameters().items():
        np.testing.assert_array_equal(value, before[name])
    trainer.step(x, y)
    assert trainer.predict(x[:1]).shape == (1, 4)


def test_features_without_variance_train(tw):
    """Columns that never change: normalised to 0, with finite gradients and the same bits on every number of ranks."""
    x, y = data(40)
    x[:, 2], x[:, 4] = 0.0, 1e6
    found = []
    for world in (1, 4):
        net = tw.nn.Sequential(tw.nn.BatchNorm(), tw.nn.Linear(16), tw.nn.Tanh(), tw.nn.Linear(4))
        trainer = make(tw, net, world=world, dtype="float32")
        losses = [trainer.step(x, y).loss for _ in range(20)]
        assert losses[-1] < losses[0] and np.isfinite(losses).all()
        assert all(np.isfinite(value).all() for value in trainer.parameters().values())
        found.append(trainer.digest())
    assert found[0] == found[1]


@pytest.mark.parametrize("scalar", [False, True])
@pytest.mark.parametrize("world", [1, 4])
def test_a_loss_of_ones_own(scalar, world, tw, torch):
    """Huber-like, composed of tw.ops; a value a row, or the mean itself."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((22, 6)), rng.standard_normal((22, 4))

    def loss(prediction, target):
        error = tw.ops.sqrt(tw.ops.square(prediction - target) + 1.0) - 1.0
        return tw.ops.mean(error) if scalar else tw.ops.mean(error, axis=1)

    trainer = make(tw, dense(tw, False), loss=loss, world=world)
    trainer.build(x, y)
    before = trainer.parameters()
    report = trainer.step(x, y)
    p = {k: torch.from_numpy(v).requires_grad_() for k, v in before.items()}
    w1, b1, w2, b2 = p.values()
    h = torch.tanh(torch.nn.functional.linear(torch.from_numpy(x), w1, b1))
    error = torch.nn.functional.linear(h, w2, b2) - torch.from_numpy(y)
    expected = (torch.sqrt(error**2 + 1) - 1).mean()
    expected.backward()
    assert abs(report.loss - expected.item()) < 1e-13
    for name, after in trainer.parameters().items():
        np.testing.assert_allclose(after, before[name] - 0.1 * p[name].grad.numpy(), rtol=1e-12, atol=1e-14)
