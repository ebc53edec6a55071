"""The gradient check finds planted mistakes, skips kinks, and passes right functions, networks and steps."""

import numpy as np
import pytest


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((4, 5))


def test_functions(tw, x):
    ops = tw.ops
    report = tw.gradcheck(lambda a, b: ops.tanh(a @ b) / (1 + ops.exp(b)).sum(), (x, x.T.copy()))
    assert report.checked == 40 and report.skipped == 0 and report.error < 1e-6
    labels = np.array([0, 4, 2, 2])
    tw.gradcheck(lambda a, y: ops.cross_entropy(a, y, label_smoothing=0.1), (x, labels))
    tw.gradcheck(lambda p: {"out": ops.square(p["a"][0]) * p["b"]}, ({"a": [x], "b": 2.0},))


def test_kinks_are_skipped(tw, x):
    x[1, 2] = 0.0
    report = tw.gradcheck(tw.ops.relu, (x,))
    assert report.skipped == 1 and report.checked == 19
    with pytest.raises(ValueError, match="kinks"):
        tw.gradcheck(tw.ops.relu, (np.zeros((2, 2)),))


def test_a_wrong_derivative_is_named(tw, x, monkeypatch):
    import thalweg.gradient_check as module

    right = module._Problem.__init__

    def wrong(self, *args, **options):
        right(self, *args, **options)
        self.gradients[0][2, 3] *= 1.001

    monkeypatch.setattr(module._Problem, "__init__", wrong)
    with pytest.raises(module.GradientError, match=r"argument 0\[2, 3\]"):
        tw.gradcheck(tw.ops.tanh, (x,))
    with pytest.raises(module.GradientError, match="direction"):
        tw.gradcheck(tw.ops.tanh, (x,), directions=20)


def test_a_gradient_that_is_no_number_is_wrong(tw):
    ops = tw.ops

    def f(a):
        return ops.sum(ops.where(a > 0, ops.sqrt(a), a))  # 0 times infinity in the branch that is not taken

    with pytest.raises(AssertionError, match=r"argument 0\[0\]: nan"):
        tw.gradcheck(f, (np.array([-1.0, 2.0, 3.0]),))
    with pytest.raises(AssertionError, match="direction"):
        tw.gradcheck(f, (np.array([-1.0, 2.0, 3.0]),), directions=3)


def test_bare_arguments_and_wrong_numbers(tw, x):
    assert tw.gradcheck(tw.ops.tanh, x).checked == 20
    with pytest.raises(TypeError, match=r"\(x,\) for a single one"):
        tw.gradcheck(tw.ops.tanh, [0.5, 0.25])
    for options in ({"h": 0}, {"h": float("nan")}, {"tolerance": 0}, {"floor": 0}, {"directions": -1}):
        with pytest.raises(ValueError, match=rf"\[gradcheck\] {next(iter(options))} is"):
            tw.gradcheck(tw.ops.tanh, (x,), **options)


def test_networks(tw):
    nn = tw.nn
    images = np.random.default_rng(1).standard_normal((4, 6, 6, 2))
    net = nn.Sequential(
        *(nn.Conv2d(4, 3, padding=1, groups=2, bias=False), nn.BatchNorm(), nn.GELU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.4), nn.Linear(5), nn.LayerNorm(), nn.Softplus(), nn.Linear(3)),
    )
    report = tw.gradcheck(net, (images,))
    assert report.error < 1e-5 and report.checked > 400
    big = nn.Sequential(nn.Flatten(), nn.Linear(64), nn.BatchNorm(), nn.Tanh(), nn.Linear(3))
    assert tw.gradcheck(big, (images,)).checked == 10


@pytest.mark.parametrize("world", [1, 4])
def test_a_step_on_several_ranks(tw, world):
    nn = tw.nn
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((11, 7)), rng.integers(0, 3, 11)
    net = nn.Sequential(nn.Linear(9), nn.BatchNorm(), nn.Tanh(), nn.Dropout(0.3), nn.Linear(3))
    trainer = tw.Trainer(net, tw.losses.CrossEntropy(), tw.optim.SGD(0.1), dtype="float64", world=world, threads=1)
    trainer.fit(x, y, epochs=2, batch_size=6)
    assert tw.gradcheck(trainer, (x, y)).error < 1e-5
    with pytest.raises(ValueError, match="float64"):
        tw.gradcheck(tw.Trainer(net, tw.losses.CrossEntropy(), tw.optim.SGD(0.1)), (x, y))
    with pytest.raises(TypeError, match="no function"):
        tw.gradcheck("relu", (x,))
