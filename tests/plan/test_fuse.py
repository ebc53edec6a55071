"""Joined operators: the same bits as the operators one by one, and no join where a value between them is asked for."""

import os
import subprocess
import sys

import numpy as np
import pytest
from thalweg import _core

EPS = {"eps": 1e-5}


def record(affine=True, inference=False, shape=(6, 5, 5, 20)):
    """Batch norm and ReLU with their gradients: (graph, inputs, the value between, outputs)."""
    g = _core.Graph()
    channels = (shape[-1],)
    x, d_y = g.input("x", shape, "real"), g.input("d_y", shape, "real")
    scale = [g.input(name, channels, "real") for name in ("gamma", "beta")] if affine else []
    inputs = [x, d_y, *scale]
    if inference:
        mean, var = (g.input(name, channels, "real") for name in ("mean", "var"))
        inputs += [mean, var]
        [v] = g.apply("batch_norm_inference", [x, mean, var, *scale], EPS)
    else:
        [stats] = g.apply("moments", [x], {})
        [v] = g.apply("batch_norm", [x, stats, *scale], EPS)
    [y] = g.apply("relu", [v], {})
    return g, inputs, v, [y, *g.gradient(y, [x, *scale], d_y)]


def arrays(g_inputs, shape, affine, inference, dtype):
    rng = np.random.default_rng(3)
    out = [rng.standard_normal(shape).astype(dtype) for _ in range(2)]
    out += [rng.standard_normal(shape[-1]).astype(dtype) for _ in range(2 * affine)]
    out += [rng.random(shape[-1]).astype(dtype) for _ in range(2 * inference)]
    assert len(out) == len(g_inputs)
    return out


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(6, 5, 5, 20), (37, 3), (9, 700), (40, 40, 40, 96)])
def test_same_bits_joined_or_not(shape, dtype, affine, inference):
    g, inputs, between, outputs = record(affine, inference, shape)
    given = arrays(inputs, shape, affine, inference, dtype)
    joined = _core.Function(g, inputs, outputs, dtype, False, 2)(given)
    apart = _core.Function(g, inputs, [between, *outputs], dtype, False, 2)(given)
    assert np.array_equal(joined[0], np.maximum(apart[0], 0))
    for a, b in zip(joined, apart[1:], strict=True):
        assert a.tobytes() == b.tobytes()


def test_the_joined_program_needs_no_memory_for_what_lies_between():
    from thalweg import Trainer, losses, nn, optim

    def activations(layers):
        trainer = Trainer(nn.Sequential(*layers, nn.Flatten(), nn.Linear(3)), losses.CrossEntropy(), optim.SGD(lr=0.1))
        trainer.step(np.ones((32, 16, 16, 3), np.float32), np.zeros(32, np.int32))
        return trainer.summary().memory["bytes_activations"]

    image = 32 * 16 * 16 * 16 * 4
    with_relu = activations([nn.Conv2d(16, 3, padding=1), nn.BatchNorm(), nn.ReLU()])
    without = activations([nn.Conv2d(16, 3, padding=1), nn.BatchNorm()])
    assert with_relu - without < image / 2


def test_an_unknown_activation_is_refused():
    g = _core.Graph()
    x = g.input("x", (4, 3), "real")
    [stats] = g.apply("moments", [x], {})
    with pytest.raises(ValueError, match=r"batch_norm.*activation is 'gelu'.*'relu'"):
        g.apply("batch_norm", [x, stats], {**EPS, "activation": "gelu"})


def losses_and_gradients(classes, smoothing, dtype, *, known):
    """Cross entropy of 37 rows in one program; a d_loss that is not known beforehand keeps the two apart."""
    g = _core.Graph()
    z, labels = g.input("z", (37, classes), "real"), g.input("labels", (37,), "index")
    d = g.input("d", (37,), "real")
    [loss] = g.apply("cross_entropy", [z, labels], {"label_smoothing": smoothing})
    seed = d if known else g.apply("neg", [g.apply("neg", [d], {})[0]], {})[0]
    rng = np.random.default_rng(5)
    label = rng.integers(0, classes, 37).astype(np.int32)
    label[3] = classes  # there is no such class
    given = [(rng.standard_normal((37, classes)) * 5).astype(dtype), label, rng.standard_normal(37).astype(dtype)]
    given[0][7, 0] = np.inf
    return _core.Function(g, [z, labels, d], [loss, *g.gradient(loss, [z], seed)], dtype, False, 2)(given)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("classes", [1, 10, 100])
def test_losses_with_their_gradients(classes, smoothing, dtype):
    joined = losses_and_gradients(classes, smoothing, dtype, known=True)
    apart = losses_and_gradients(classes, smoothing, dtype, known=False)
    assert np.isfinite(joined[0]).sum() == 35 and np.isnan(joined[1][3]).all()
    for a, b in zip(joined, apart, strict=True):
        assert a.tobytes() == b.tobytes()


def test_a_training_step_makes_losses_and_gradients_at_once_and_fills_no_constant():
    from thalweg import Trainer, losses, nn, optim
    from thalweg.profiler import profile

    trainer = Trainer(nn.Sequential(nn.Linear(3)), losses.CrossEntropy(), optim.SGD(lr=0.1))
    text = str(profile(trainer, np.ones((32, 4), np.float32), np.zeros(32, np.int32)))
    assert "cross_entropy_with_gradient" in text
    assert "cross_entropy_backward" not in text and "expand" not in text


def test_a_constant_that_is_repeated_can_be_an_output():
    g = _core.Graph()
    x = g.input("x", (5, 3), "real")
    [total] = g.apply("reduce_sum", [x], {"axes": [0, 1], "keepdims": False})
    [d] = g.gradient(total, [x])
    [twice] = g.apply("add", [d, d], {})
    made = _core.Function(g, [x], [d, twice, d], "float64", False, 1)([np.zeros((5, 3))])
    assert (made[0] == 1).all() and (made[1] == 2).all() and (made[2] == 1).all()
    assert all(m.shape == (5, 3) for m in made)


@pytest.mark.parametrize("overlap", ["off", "nodes"])
def test_ranks_decide_alike_what_is_filled(overlap, tmp_path):
    """131072 numbers of float64 are 1 MiB: one rank of two has one row more."""
    body = """
import numpy as np, thalweg as tw
x, y = np.ones((2 * 131072 + 1, 1)), np.zeros(2 * 131072 + 1, np.int32)
net = tw.nn.Sequential(tw.nn.Linear(3))
trainer = tw.Trainer(net, tw.losses.CrossEntropy(), tw.optim.SGD(lr=0.1), world=2, dtype="float64")
print(trainer.step(x, y).loss > 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", body],
        env={**os.environ, "THALWEG_OVERLAP": overlap},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout == "True\n", done.stderr


def test_one_of_two_losses_of_the_same_logits_is_joined():
    g = _core.Graph()
    z, labels, d = g.input("z", (9, 4), "real"), g.input("labels", (9,), "index"), g.input("d", (9,), "real")
    first, second = (g.apply("cross_entropy", [z, labels], {"label_smoothing": s})[0] for s in (0.0, 0.2))
    gradients = [g.gradient(loss, [z], d)[0] for loss in (first, second, first)]
    rng = np.random.default_rng(1)
    given = [rng.standard_normal((9, 4)), rng.integers(0, 4, 9).astype(np.int32), rng.standard_normal(9)]
    made = _core.Function(g, [z, labels, d], [first, second, *gradients], "float64", False, 1)(given)
    for i, smoothing in ((0, 0.0), (1, 0.2)):
        loss = made[i]
        p = np.exp(given[0] - given[0].max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        target = (1 - smoothing) * np.eye(4)[given[1]] + smoothing / 4
        assert np.allclose(loss, -(target * np.log(p)).sum(1), rtol=1e-12)
        assert np.allclose(made[2 + i], given[2][:, None] * (p - target), rtol=1e-10, atol=1e-14)
    assert made[2].tobytes() == made[4].tobytes()


@pytest.mark.parametrize("options", [{"world": 2}, {"accumulate": 2}, {"world": 2, "accumulate": 2}])
def test_gradients_of_a_filled_constant(options):
    """The mean gradient of a bias behind the sum of the outputs is 1."""
    from thalweg import Trainer, nn, ops, optim

    def total(prediction, target):
        return ops.sum(prediction, axis=1)

    trainer = Trainer(nn.Sequential(nn.Linear(2)), total, optim.SGD(lr=0.5), dtype="float64", **options)
    x = np.random.default_rng(0).standard_normal((16, 3))
    trainer.build(x, np.zeros((16, 1)))
    before = {k: v.copy() for k, v in trainer.parameters().items()}
    trainer.step(x, np.zeros((16, 1)))
    after = trainer.parameters()
    bias = next(k for k in after if k.endswith("bias"))
    assert np.allclose(before[bias] - after[bias], 0.5)
