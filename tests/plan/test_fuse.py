"""Joined operators: the same bits as the operators one by one, and no join where a value between them is asked for."""

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
