"""Activations against float64 references, their backward forms against tangents, and their behaviour far out."""

import math

import numpy as np
import pytest
from thalweg import _core

from .measure import DTYPES, close, tangent_by_differences, ulps

erf = np.vectorize(math.erf, otypes=[float])
SLOPE = 0.2


def sigmoid(x):
    return 0.5 * (1 + np.tanh(x / 2))


REFERENCE = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, SLOPE * x),
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "gelu": lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "softplus": lambda x: np.logaddexp(x, 0),
}
FROM_OUTPUT = {"relu", "tanh", "sigmoid"}  # backward reads y; the others read x


def call(name, x, *more):
    args = [x, *more]
    return _core.formula(name, *args, *([np.full_like(x, SLOPE)] if name.startswith("leaky_relu") else []))


def backward(name, d_y, x):
    return call(f"{name}_backward", d_y, call(name, x) if name in FROM_OUTPUT else x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", REFERENCE)
def test_values(name, dtype):
    x = np.concatenate([np.linspace(-12, 12, 4001), np.random.default_rng(0).normal(size=2000)]).astype(dtype)
    y = call(name, x)
    assert y.dtype == dtype
    close(y, REFERENCE[name](x.astype(float)), rtol=4 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", REFERENCE)
def test_backward_is_the_derivative(name):
    rng = np.random.default_rng(1)
    x, d = rng.normal(size=3000) * 3, rng.normal(size=3000)
    x = x[np.abs(x) > 1e-2]
    d = d[: x.size]
    differences = tangent_by_differences(lambda v: call(name, v), [x], [np.ones_like(x)], h=1e-4)
    close(backward(name, d, x), d * differences, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", REFERENCE)
def test_tangent_equals_backward(name):
    """Forward mode and backward formula are the same derivative, the tie at 0 included."""
    rng = np.random.default_rng(2)
    x, t = np.concatenate([rng.normal(size=1000) * 4, [0.0, 0.0]]), rng.normal(size=1002)
    args, tangents = [x], [t]
    if name == "leaky_relu":
        args, tangents = [x, np.full_like(x, SLOPE)], [t, np.zeros_like(t)]
    y, d = _core.formula_jvp(name, args, tangents)
    np.testing.assert_array_equal(y, call(name, x))
    close(d, backward(name, t, x), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", REFERENCE)
def test_tangent_of_backward(name):
    """What a Hessian-vector product needs: the derivative of the derivative."""
    rng = np.random.default_rng(3)
    x, d, d_x, d_d = (rng.normal(size=1000) for _ in range(4))
    args, tangents = [d, x], [d_d, d_x]
    if name == "leaky_relu":
        args, tangents = [*args, np.full_like(x, SLOPE)], [*tangents, np.zeros_like(x)]
    form = f"{name}_backward"
    _, got = _core.formula_jvp(form, args, tangents)
    wanted = tangent_by_differences(lambda *a: _core.formula(form, *a), args, tangents, h=1e-4)
    smooth = np.abs(x) > 1e-2
    close(got[smooth], wanted[smooth], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_far_out(dtype):
    x = np.array([-np.inf, -1e30, -1000, -100, 100, 1000, 1e30, np.inf], dtype)
    low, high = slice(0, 4), slice(4, 8)
    for name in ("sigmoid", "softplus", "tanh"):
        y = call(name, x)
        assert np.isfinite(y[low]).all() and np.array_equal(
            y[high], x[high] if name == "softplus" else np.ones(4, dtype)
        )
    for name in ("gelu", "gelu_tanh"):
        np.testing.assert_array_equal(call(name, x)[high], x[high])
        assert (np.abs(call(name, x)[1:4]) < 1e-6).all()
    for name in REFERENCE:
        d = backward(name, np.ones_like(x), x)
        assert np.isfinite(d[1:7]).all(), name
        np.testing.assert_array_equal(d[5:7], np.zeros(2) if name in ("tanh", "sigmoid") else np.ones(2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_results_keep_their_digits(dtype):
    x = np.linspace(-80, -20, 100).astype(dtype)
    e = np.exp(x.astype(float))
    for name, rtol in (("sigmoid", 4.5e-7), ("softplus", 3e-7)):
        close(call(name, x), e if name == "sigmoid" else np.log1p(e), rtol=4e-9 if dtype == np.float64 else rtol)
    x = np.linspace(-5, -2, 100).astype(dtype)
    wide = x.astype(float)  # as x / (1 + e^(-2u)): 1 + tanh u cancels here, in the reference too
    reference = wide / (1 + np.exp(-2 * np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))
    close(call("gelu_tanh", x), reference, rtol=1e-12 if dtype == np.float64 else 2e-5)


normal_cdf = np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2)), otypes=[float])

# name: reference in float64, bound in ulp of float32, range
BOUNDS = {
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 3.3, (-10, 90)),
    "softplus": (lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), 2.85, (-87, 90)),
    "gelu": (lambda x: x * normal_cdf(x), 2.5, (0, 12)),
    "normal_cdf": (normal_cdf, 2.0, (0, 12)),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_error_in_ulp(name):
    reference, bound, (low, high) = BOUNDS[name]
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.uniform(low, high, 60_000), rng.uniform(max(low, -4), 4, 60_000)]).astype(np.float32)
    assert ulps(call(name, x), reference(x.astype(float))).max() <= bound


def test_ends_of_sigmoid():
    """Where it becomes 0 and 1, and what is no number."""
    sigmoid, _, _ = BOUNDS["sigmoid"]
    for low, bound, worst in ((-10, 3.3, -1.9461117), (-40, 4.25, -38.946777), (-87, 6.2, -85.382484)):
        x = np.append(np.random.default_rng(6).uniform(low, low / 2, 60_000), worst).astype(np.float32)
        assert ulps(call("sigmoid", x), sigmoid(x.astype(float))).max() <= bound
    x = np.float32([-88.3, -87.9, -87.5, np.nextafter(np.float32(60), 0), 60, 60.1])
    assert ulps(call("sigmoid", x), sigmoid(x.astype(float))).max() <= 6.2
    for dtype in DTYPES:
        end = -88.38 if dtype == np.float32 else -709.44
        x = np.array([-np.inf, -1e30, end, -0.0, 0.0, 1e30, np.inf, np.nan], dtype)
        np.testing.assert_array_equal(call("sigmoid", x), np.array([0, 0, 0, 0.5, 0.5, 1, 1, np.nan], dtype))


def test_nan_stays_nan_whatever_it_carries():
    bits = {np.float32: [0x7FC00000, 0x7F800001, 0x7FC000FF, 0x7FFFFFFF, 0xFF800001, 0xFFC001FF, 0xFFFFFFFF]}
    bits[np.float64] = [0x7FF8000000000000, 0x7FF0000000000001, 0x7FF80000000007FF, 0xFFF0000000000001, 2**64 - 1]
    for dtype in DTYPES:
        x = np.tile(np.array(bits[dtype], f"u{dtype().itemsize}").view(dtype), 20)
        for name in (*REFERENCE, "exp", "expm1", "erf", "normal_cdf"):
            assert np.isnan(call(name, x)).all(), name


def test_left_tail_of_gelu():
    """Relative digits are kept to x = -5.5, where 1 + erf has none; beyond kEnd the result is 0, not NaN."""
    rng = np.random.default_rng(5)
    for low, bound in ((-1, 5e-7), (-3, 1e-5), (-5.5, 1e-3)):
        x = rng.uniform(low, -1e-6, 60_000).astype(np.float32)
        wide = x.astype(float)
        close(call("gelu", x), wide * normal_cdf(wide), rtol=bound)
    x = np.linspace(-14, 14, 100_001).astype(np.float32)
    wide = x.astype(float)
    slope = normal_cdf(wide) + wide * np.exp(-wide * wide / 2) / math.sqrt(2 * math.pi)
    close(call("gelu", x)[x < 0], (wide * normal_cdf(wide))[x < 0], rtol=0, atol=9e-8)
    close(backward("gelu", np.ones_like(x), x), slope, rtol=0, atol=1.6e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_ends(dtype):
    far = np.array([-np.inf, -1000, 1000, np.inf], dtype)
    zero, ones = np.zeros(1, dtype), np.ones(4, dtype)
    np.testing.assert_array_equal(call("gelu", far), [0, 0, 1000, np.inf])
    np.testing.assert_array_equal(backward("gelu", ones, far), [0, 0, 1, 1])
    np.testing.assert_array_equal(call("sigmoid", far), [0, 0, 1, 1])
    np.testing.assert_array_equal(call("normal_cdf", far), [0, 0, 1, 1])
    assert call("sigmoid", zero) == call("normal_cdf", zero) == 0.5
    for name in REFERENCE:  # the slopes of relu and leaky_relu are constants
        if not name.endswith("relu"):
            nan = np.full(40, np.nan, dtype)
            assert np.isnan(backward(name, np.ones_like(nan), nan)).all(), name


def test_against_torch(torch):
    x = torch.linspace(-8, 8, 2001, dtype=torch.float64)
    f = torch.nn.functional
    peers = {
        "relu": f.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "gelu": f.gelu, "softplus": f.softplus,
        "leaky_relu": lambda v: f.leaky_relu(v, SLOPE), "gelu_tanh": lambda v: f.gelu(v, approximate="tanh"),
    }  # fmt: skip
    for name, peer in peers.items():
        close(call(name, x.numpy()), peer(x).numpy(), rtol=1e-11, atol=1e-14)
