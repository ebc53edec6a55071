"""Losses and metrics in a trainer: gradients equal torch's over uneven rows and ranks; wrong labels are named."""

import numpy as np
import pytest

ROWS, FEATURES, CLASSES = 11, 5, 4
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((ROWS, FEATURES)), RNG.integers(0, CLASSES, ROWS)
REAL, BITS, ONE_HOT = RNG.standard_normal((ROWS, CLASSES)), RNG.integers(0, 2, (ROWS, CLASSES)), np.eye(CLASSES)[Y]

LOSSES = {  # ours, the target, torch's
    "NLL": (lambda s: s.NLL(), Y, lambda f, p, y: f.nll_loss(f.log_softmax(p, -1), y)),
    "BCEWithLogits": (
        *(lambda s: s.BCEWithLogits(), BITS),
        lambda f, p, y: f.binary_cross_entropy_with_logits(p, y.double()),
    ),
    "L1": (lambda s: s.L1(), REAL, lambda f, p, y: f.l1_loss(p, y)),
    "Huber": (lambda s: s.Huber(0.5), REAL, lambda f, p, y: f.huber_loss(p, y, delta=0.5)),
    "MSE": (lambda s: s.MSE(), REAL, lambda f, p, y: f.mse_loss(p, y)),
    "CrossEntropy": (
        lambda s: s.CrossEntropy(0.1),
        ONE_HOT,
        lambda f, p, y: f.cross_entropy(p, y, label_smoothing=0.1),
    ),
}


def make(tw, loss, log_softmax=False, **options):
    nn = tw.nn
    layers = [nn.Linear(CLASSES), *([nn.LogSoftmax()] if log_softmax else [])]
    return tw.Trainer(
        nn.Sequential(*layers), loss, tw.optim.SGD(0.1), **{"dtype": "float64", "threads": 1, "shards": 4, **options}
    )


@pytest.mark.parametrize("world", [1, 4])
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_equal_torchs(name, world, tw, torch):
    ours, target, theirs = LOSSES[name]
    t = make(tw, ours(tw.losses), name == "NLL", world=world).build(X, target)
    gradients = t.gradients(X, target)
    weight, bias = (torch.from_numpy(t.parameters()[f"0.{n}"]).requires_grad_() for n in ("weight", "bias"))
    loss = theirs(torch.nn.functional, torch.from_numpy(X) @ weight.T + bias, torch.from_numpy(target))
    loss.backward()
    np.testing.assert_allclose(gradients["0.weight"], weight.grad.numpy(), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(gradients["0.bias"], bias.grad.numpy(), rtol=1e-11, atol=1e-14)
    assert t.evaluate(X, target, batch_size=4)["loss"] == pytest.approx(loss.item(), rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_descriptions_build_the_same_loss(name, tw):
    loss = LOSSES[name][0](tw.losses)
    again = tw.losses.build(tw.losses.describe(loss))
    assert type(again) is type(loss) and repr(again) == repr(loss)


def test_unknown_losses_and_numbers(tw):
    s = tw.losses
    assert s.describe(lambda p, y: p) is None and repr(s.Huber()) == "Huber(delta=1.0)"
    with pytest.raises(ValueError, match="unknown loss 'Hinge'"):
        s.build({"loss": "Hinge"})
    with pytest.raises(ValueError, match="damaged"):
        s.build({"loss": "L1", "delta": 1.0})
    for delta, error in ((0, ValueError), (float("inf"), ValueError), ("a", TypeError)):
        with pytest.raises(error, match=r"\[Huber\] delta is"):
            s.Huber(delta)


@pytest.mark.parametrize("target", [ONE_HOT, ONE_HOT.astype(int)], ids=["float", "int"])
def test_accuracy_of_one_hot_labels(target, tw, tmp_path):
    t = make(tw, tw.losses.CrossEntropy(), metrics=["accuracy"], world=4).build(X, target)
    share = (t.predict(X).argmax(1) == Y).mean()
    assert t.evaluate(X, target)["accuracy"] == pytest.approx(share) and 0 < share < 1
    t.step(X, target)
    t.save(tmp_path / "run")
    assert tw.Trainer.load(tmp_path / "run").evaluate(X, target) == t.evaluate(X, target)


def test_the_first_of_equal_scores_counts(tw):
    """A network whose scores are all equal has the share of class 0, not all rows right."""
    net = tw.nn.Linear(CLASSES, weight_init=tw.init.zeros())
    for target in (Y, ONE_HOT):
        t = tw.Trainer(net, tw.losses.CrossEntropy(), tw.optim.SGD(0.1), metrics=["accuracy"], threads=1)
        assert t.build(X, target).evaluate(X, target)["accuracy"] == pytest.approx((Y == 0).mean())


def test_float_labels_are_named(tw):
    for loss, name in ((tw.losses.CrossEntropy(), "cross_entropy"), (tw.losses.NLL(), "nll")):
        message = rf"\[{name}\] labels have a float dtype and shape \(batch,\), expected integers"
        with pytest.raises(TypeError, match=message):
            make(tw, loss).step(X, Y.astype(float))
    with pytest.raises(TypeError, match=r"\[correct\] labels have a float dtype"):
        make(tw, lambda p, y: tw.ops.mean(p, 1) + y, metrics=["accuracy"]).step(X, Y.astype(float))


def test_messages_of_a_recording_say_batch(tw):
    """Not the number of rows that the recording works with; extents of the network stay numbers."""
    with pytest.raises(ValueError, match=r"\[cross_entropy\] labels has shape \(batch, 1\), expected \(batch,\)"):
        make(tw, tw.losses.CrossEntropy()).step(X, Y[:, None])
    with pytest.raises(ValueError, match=r"\[mse\] target has shape \(batch, 3\), expected \(batch, 4\)"):
        make(tw, tw.losses.MSE()).step(X, REAL[:, :3])
    with pytest.raises(ValueError, match=r"\[l1\] target has shape \(batch,\), expected \(batch, 4\)"):
        make(tw, tw.losses.L1()).step(X, REAL[:, 0])

    class Wrong(tw.nn.Module):
        def forward(self, x):
            return tw.ops.linear(x, np.ones((16, FEATURES)), np.ones(8))

    with pytest.raises(ValueError, match=r"bias has shape \(8,\), expected \(16,\)"):
        tw.Trainer(Wrong(), tw.losses.MSE(), tw.optim.SGD(0.1)).step(X, REAL)


def test_statistics_over_the_batch(tw):
    """var and std of a symbolic batch count the rows of all ranks; what would need their number is refused."""
    ops = tw.ops

    class Whiten(tw.nn.Module):
        def forward(self, x):
            x = (x - ops.mean(x, 0)) / ops.std(x, 0)
            return ops.squeeze(ops.expand_dims(ops.stack([x, ops.clip(x, -1.0, 1.0)], axis=1), -1))[:, 0]

    predicted = [
        tw.Trainer(Whiten(), tw.losses.MSE(), tw.optim.SGD(0.1), dtype="float64", world=w, threads=1)
        .build(X, X)
        .predict(X)
        for w in (1, 4)
    ]
    np.testing.assert_array_equal(*predicted)
    np.testing.assert_allclose(predicted[0], (X - X.mean(0)) / X.std(0), rtol=1e-12)
    for forward, message in (
        (lambda x: ops.var(x, 0, ddof=1), r"\[var\] ddof is 1 over the batch axis"),
        (lambda x: ops.expand_dims(x, 0), r"\[expand_dims\] axis 0 is the batch axis"),
        (lambda x: ops.stack([x, x]), r"\[stack\] axis 0 is the batch axis"),
        (lambda x: ops.squeeze(x, 0), r"\[squeeze\] axis 0 of x \(batch, 5\) has extent batch"),
    ):
        net = type("Net", (tw.nn.Module,), {"forward": lambda self, x, f=forward: f(x)})()
        with pytest.raises(ValueError, match=message):
            tw.Trainer(net, tw.losses.MSE(), tw.optim.SGD(0.1)).build(X, X)
