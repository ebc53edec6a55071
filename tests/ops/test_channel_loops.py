"""Batch norm and layer norm beside float64, where their loops differ: few and many channels, rows side by side or one
by one, rests, tensors that stay in a cache and such that go past it."""

import numpy as np
import pytest

NEAR = [(7, 1), (131, 3), (38, 48), (77, 16), (1001, 64), (300, 513)]
LARGE = [(8300, 32), (2103, 128), (1101, 256), (515, 513)]
FAR = [(66001, 64), (33001, 128), (8300, 513)]
SHAPES = NEAR + LARGE + FAR


def exact(x, gamma, beta, d_y, eps=1e-5):
    x, d_y = x.astype(np.float64), d_y.astype(np.float64)
    inv = 1 / np.sqrt(x.var(0) + eps)
    x_hat = (x - x.mean(0)) * inv
    d_gamma, d_beta = (d_y * x_hat).sum(0), d_y.sum(0)
    d_x = gamma * inv * (d_y - d_beta / len(x) - x_hat * d_gamma / len(x))
    return gamma * x_hat + beta, d_x, d_gamma, d_beta


# Rows that begin in the middle of a cache line, rows of less than a line, of whole lines, of lines and a rest; tensors
# that stay in L2, in L3, and that go past the caches.
ROWS = [(9, 77), (1030, 300), (2001, 160), (5003, 1001), (4200, 1024), (52011, 96), (600_001, 7)]
ROWS += [(11, 2500), (300, 2500), (2103, 2500), (9, 70_001)]  # wide ones, that backward passes by columns


def exact_layer_norm(x, gamma, beta, d_y, eps=1e-5):
    x, d_y = x.astype(np.float64), d_y.astype(np.float64)
    inv = 1 / np.sqrt(x.var(1, keepdims=True) + eps)
    x_hat, d = (x - x.mean(1, keepdims=True)) * inv, d_y * gamma
    d_x = inv * (d - d.mean(1, keepdims=True) - x_hat * (d * x_hat).mean(1, keepdims=True))
    return gamma * x_hat + beta, d_x, (d_y * x_hat).sum(0), d_y.sum(0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("rows", "width"), ROWS)
def test_layer_norm_of_any_shape(rows, width, affine, dtype, tw):
    rng = np.random.default_rng(rows)
    x, d_y = (rng.standard_normal((rows, width)).astype(dtype) for _ in range(2))
    x += np.arange(rows, dtype=dtype)[:, None] % 5
    gamma, beta = (rng.standard_normal(width).astype(dtype) for _ in range(2))
    y, pullback = tw.vjp(tw.ops.layer_norm, x, *([gamma, beta] if affine else []))
    expected = exact_layer_norm(x, *([gamma, beta] if affine else [np.ones(width), np.zeros(width)]), d_y)
    found = (y, *pullback(d_y))
    for a, b in zip(found, expected, strict=affine):
        np.testing.assert_allclose(a, b, rtol=0, atol=400 * np.finfo(dtype).eps * max(1, np.abs(b).max()))
    few = slice(rows - 7, rows)  # alone they stay in L2: the same bits
    y_few, pullback_few = tw.vjp(tw.ops.layer_norm, x[few], *([gamma, beta] if affine else []))
    np.testing.assert_array_equal(y[few], y_few)
    np.testing.assert_array_equal(found[1][few], pullback_few(d_y[few])[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(2001, 160), (4500, 1001)])
def test_layer_norm_in_the_memory_of_its_input(shape, dtype, tw):
    """-x is needed no more once it is normalised, so the result may take its place: neither -x nor y is an output."""
    g = tw._core.Graph()
    x = g.input("x", shape)
    [before] = g.apply("neg", [x], {})
    y = g.apply("layer_norm", [before], {"dims": 1, "eps": 1e-5})[0]
    [after] = g.apply("neg", [y], {})
    data = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    [found] = tw._core.Function(g, [x], [after], dtype, False, 1)([data])
    np.testing.assert_array_equal(-found, tw.ops.layer_norm(-data))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rows", "channels"), SHAPES)
def test_batch_norm_of_any_shape(rows, channels, dtype, tw):
    rng = np.random.default_rng(rows)
    x, d_y = (rng.standard_normal((rows, channels)).astype(dtype) for _ in range(2))
    x += np.arange(channels, dtype=dtype) % 7
    gamma, beta = (rng.standard_normal(channels).astype(dtype) for _ in range(2))
    y, pullback = tw.vjp(tw.ops.batch_norm, x, gamma, beta)
    found, expected = (y, *pullback(d_y)), exact(x, gamma, beta, d_y)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=400 * np.finfo(dtype).eps * max(1, np.abs(b).max()))


def test_tangents_of_a_large_batch_norm(tw):
    """The tangent is a plane of its own, past the caches too: the derivative along v is <gradient, v> for every v."""
    rng = np.random.default_rng(0)
    x, v, d_y = (rng.standard_normal((66001, 64)).astype(np.float32) for _ in range(3))
    _, tangent = tw.jvp(tw.ops.batch_norm, (x,), (v,))
    _, pullback = tw.vjp(tw.ops.batch_norm, x)
    [d_x] = pullback(d_y)
    forward, backward = (np.vdot(a.astype(np.float64), b) for a, b in ((tangent, d_y), (d_x, v)))
    scale = np.linalg.norm(tangent) * np.linalg.norm(d_y)
    assert abs(forward - backward) < 1e-6 * scale
