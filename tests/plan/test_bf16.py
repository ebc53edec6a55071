"""Graphs in bf16: what is stored so, and the values, beside the same operators in float32 on rounded operands."""

from itertools import product

import numpy as np
import pytest
from thalweg import _core

ROWS = 4
WINDOW = {"kernel": [3, 3], "stride": [2, 2], "padding": [1, 1, 1, 1]}
SQUARE = {"kernel": [2, 2], "stride": [2, 2], "padding": [0, 0, 0, 0]}
POINT = {"stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], "groups": 1}


def rounded(x):
    """To bf16 and back: to nearest, ties to even."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)


def between_products(record, channels, size=6):
    """f between two convolutions by the unit matrix, which change nothing but round their operand: f runs on what is
    stored as bf16. (graph, inputs, outputs): f(x) and its gradient, both as products take them."""
    g = _core.Graph(ROWS)
    x = g.input("x", (ROWS, size, size, channels), "real", True)
    unit = g.input("unit", (channels, 1, 1, channels), "real")
    [h] = g.apply("conv2d", [x, unit], POINT)
    [out] = g.apply("conv2d", [record(g, h), unit], POINT)
    d_out = g.input("d_out", g.shape(out), "real", True)
    return g, [x, unit, d_out], [out, *g.gradient(out, [x], d_out)]


def one(op, attrs=None):
    return lambda g, h: g.apply(op, [h], attrs or {})[0]


def batch_norm_relu(g, h):
    [stats] = g.apply("moments", [h], {})
    [v] = g.apply("batch_norm", [h, stats], {"eps": 1e-5})
    return g.apply("relu", [v], {})[0]


def residual(g, h):
    return g.apply("add", [g.apply("relu", [h], {})[0], h], {})[0]


def broadcast(g, h):
    [mean] = g.apply("reduce_mean", [h], {"axes": [1, 2], "keepdims": True})
    return g.apply("add", [h, mean], {})[0]


def joined(g, h):
    return g.apply("concat", [h, g.apply("relu", [h], {})[0]], {"axis": 2})[0]


def turned(g, h):
    return g.apply("transpose", [h], {"axes": [0, 2, 1, 3]})[0]


BETWEEN = {
    "relu": one("relu"),
    "gelu": one("gelu", {"approximate": "none"}),
    "leaky relu": one("leaky_relu", {"slope": 0.3}),
    "batch norm and relu": batch_norm_relu,
    "residual": residual,
    "max pool": one("max_pool2d", SQUARE),
    "max pool of 3": one("max_pool2d", {"kernel": [3, 3], "stride": [3, 3], "padding": [0, 0, 0, 0]}),
    "max pool with gaps": one("max_pool2d", {"kernel": [1, 2], "stride": [2, 3], "padding": [0, 0, 0, 0]}),
    "max pool that overlaps": one("max_pool2d", WINDOW),
    "average pool": one("avg_pool2d", {**SQUARE, "count_include_pad": True}),
    "average pool that overlaps": one("avg_pool2d", {**WINDOW, "count_include_pad": False}),
    "dropout": one("dropout", {"p": 0.3}),
    "mean over the image": broadcast,
    "concat": joined,
    "transpose": turned,
}


def error(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


LARGER = [("batch norm and relu", 1100, 6), ("batch norm and relu", 200, 21), ("batch norm and relu", 32, 49)]


@pytest.mark.parametrize(("name", "channels", "size"), [*product(BETWEEN, [3, 32, 70], [6]), *LARGER])
def test_operators_between_products_are_those_of_float32_rounded(name, channels, size):
    g, inputs, outputs = between_products(BETWEEN[name], channels, size)
    rng = np.random.default_rng(0)
    x, d_out = (rounded(rng.standard_normal(g.shape(v))) for v in (inputs[0], inputs[2]))
    given = [x, np.eye(channels, dtype=np.float32).reshape(channels, 1, 1, channels), d_out]
    exact = _core.Function(g, inputs, outputs, "float32", False, 1)(given)
    found, again = (_core.Function(g, inputs, outputs, "float32", False, t, "bf16")(given) for t in (1, 2))
    for a, b, c in zip(found, exact, again, strict=True):
        assert a.tobytes() == c.tobytes()
        np.testing.assert_array_equal(a, rounded(a))
        if name.startswith("max pool") and "overlaps" not in name:
            np.testing.assert_array_equal(a, b)
        # One rounding of the result; where an operator is made of several, one more on the way.
        np.testing.assert_allclose(a, b, rtol=2**-8, atol=2**-8 * np.abs(b).max())
        assert error(a, b) < 2**-8


@pytest.mark.parametrize("channels", [5, 32, 70])
def test_the_first_of_equal_pixels_gets_the_gradient_and_nan_is_the_largest(channels):
    """Pixels are compared as they are stored: equal ones, zeros, infinities and NaN as floats are."""
    g = _core.Graph(ROWS)
    x = g.input("x", (ROWS, 8, 8, channels), "real", True)
    unit = g.input("unit", (channels, 1, 1, 1), "real")
    alone = {**POINT, "groups": channels}
    [h] = g.apply("conv2d", [x, unit], alone)
    [y] = g.apply("max_pool2d", [h], SQUARE)
    [out] = g.apply("conv2d", [y, unit], alone)
    d_out = g.input("d_out", g.shape(out), "real", True)
    inputs, outputs = [x, unit, d_out], [out, *g.gradient(out, [x], d_out)]
    rng = np.random.default_rng(0)
    some = np.array([0, 0, -1, 2, -2, np.inf, -np.inf, np.nan, -np.nan], np.float32)  # NaN of two kinds
    pixels = rng.choice(some, g.shape(x))
    given = [pixels, np.ones((channels, 1, 1, 1), np.float32), rounded(rng.standard_normal(g.shape(out)))]
    exact = _core.Function(g, inputs, outputs, "float32", False, 1)(given)
    found = _core.Function(g, inputs, outputs, "float32", False, 1, "bf16")(given)
    for a, b in zip(found, exact, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.isnan(found[0]).mean() > 0.2 and (found[1] != 0).mean() > 0.2


def test_products_of_rounded_operands_are_those_of_float32():
    """Nothing between products: only the sums' order differs from float32 on the same operands."""
    g = _core.Graph(ROWS)
    x, w = g.input("x", (ROWS, 37), "real", True), g.input("w", (11, 37), "real")
    d_y = g.input("d_y", (ROWS, 11), "real", True)
    [y] = g.apply("linear", [x, w], {})
    inputs, outputs = [x, w, d_y], [y, *g.gradient(y, [x, w], d_y)]
    rng = np.random.default_rng(1)
    raw = [rng.standard_normal(g.shape(v)).astype(np.float32) for v in inputs]
    exact = _core.Function(g, inputs, outputs)([rounded(a) for a in raw])
    found = _core.Function(g, inputs, outputs, precision="bf16")(raw)
    for a, b in zip(found, exact, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert error(found[0], _core.Function(g, inputs, outputs)(raw)[0]) > 1e-4


@pytest.mark.parametrize("x", [0.0, -0.0, np.inf, -np.inf, np.nan, 1.00390625, 1.01171875, 3.3961775e38, 1e-45])
def test_what_is_stored_is_rounded_to_nearest(x):
    g = _core.Graph()
    v = g.input("x", (67,), "real")
    [stored] = g.apply("to_bf16", [v], {})
    [out] = g.apply("to_float32", [stored], {})
    [found] = _core.Function(g, [v], [out])([np.full(67, x, np.float32)])
    expected = np.float32(0.0 if x == 1e-45 else x) if not np.isfinite(x) else rounded(0.0 if x == 1e-45 else x)
    np.testing.assert_array_equal(found, np.full(67, expected))


def test_what_only_a_loss_reads_stays_float32():
    g = _core.Graph(ROWS)
    x, y = g.input("x", (ROWS, 9), "real", True), g.input("y", (ROWS,), "index", True)
    w, v = g.input("w", (16, 9), "real"), g.input("v", (4, 16), "real")
    [h] = g.apply("relu", g.apply("linear", [x, w], {}), {})
    [logits] = g.apply("linear", [h, v], {})
    [loss] = g.apply("cross_entropy", [logits, y], {"label_smoothing": 0.0})
    rng = np.random.default_rng(0)
    given = [rng.standard_normal(g.shape(i)).astype(np.float32) for i in (x, w, v)]
    labels = np.arange(ROWS, dtype=np.int32) % 4
    found, losses = _core.Function(g, [x, w, v, y], [logits, loss], precision="bf16")([*given, labels])
    assert not np.array_equal(found, rounded(found))
    shifted = found - found.max(1, keepdims=True)
    expected = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(ROWS), labels]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_a_function_in_bf16_takes_float32_and_no_tangents():
    g = _core.Graph(ROWS)
    x = g.input("x", (ROWS, 3), "real", True)
    for dtype, tangents in (("float64", False), ("float32", True)):
        with pytest.raises(ValueError, match="takes float32 and has no tangents"):
            _core.Function(g, [x], g.apply("relu", [x], {}), dtype, tangents, 1, "bf16")
    with pytest.raises(ValueError, match="precision 'half', expected 'full' or 'bf16'"):
        _core.Function(g, [x], [x], precision="half")


def small_numbers(*shape, seed=0):
    """Multiples of 1/4 between -1 and 1: sums of some of their products are the same numbers in bf16 and float32."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32) / 4


def in_both(g, inputs, outputs, given):
    return [_core.Function(g, inputs, outputs, precision=p)(given) for p in ("bf16", "full")]


def test_what_is_rounded_for_a_product_is_float32_to_all_others():
    """e = exp(x W') is float32, u = x V' bf16; their product rounds e, the sum of e does not."""
    g = _core.Graph(ROWS)
    x, w, v = g.input("x", (ROWS, 6, 8), "real", True), g.input("w", (6, 8), "real"), g.input("v", (5, 8), "real")
    [e] = g.apply("exp", g.apply("linear", [x, w], {}), {})
    [u] = g.apply("relu", g.apply("linear", [x, v], {}), {})
    [both] = g.apply("matmul", [e, u], {"transpose_a": False, "transpose_b": False})
    [total] = g.apply("reduce_sum", [e], {"axes": [1, 2], "keepdims": False})
    given = [small_numbers(*g.shape(i), seed=n) for n, i in enumerate((x, w, v))]
    found, exact = in_both(g, [x, w, v], [both, total, e, u], given)
    np.testing.assert_array_equal(found[1], exact[1])
    np.testing.assert_array_equal(found[2], exact[2])
    np.testing.assert_array_equal(found[3], exact[3])
    np.testing.assert_allclose(found[0], rounded(exact[2]) @ exact[3], rtol=1e-6, atol=1e-6)
    assert error(found[0], exact[0]) > 1e-4 and not np.array_equal(found[0], rounded(found[0]))


def test_a_product_of_two_that_are_stored_may_stay_float32():
    g = _core.Graph(ROWS)
    x = g.input("x", (ROWS, 6, 8), "real", True)
    weights = [g.input(name, (5, 8), "real") for name in "wv"]
    a, b = (g.apply("relu", g.apply("linear", [x, w], {}), {})[0] for w in weights)
    [scores] = g.apply("matmul", [a, b], {"transpose_a": False, "transpose_b": True})
    given = [small_numbers(*g.shape(i), seed=n) for n, i in enumerate((x, *weights))]
    found, exact = in_both(g, [x, *weights], [scores, a, b], given)
    expected = rounded(exact[1]) @ rounded(exact[2]).swapaxes(1, 2)
    np.testing.assert_allclose(found[0], expected, rtol=1e-6, atol=1e-6)
    assert not np.array_equal(found[0], rounded(found[0]))


def test_the_gradient_of_a_last_bias_sums_what_the_loss_gives():
    """A softmax's gradient sums to 0 over the classes; rounded for the products it does not."""
    g = _core.Graph(ROWS)
    x, y = g.input("x", (ROWS, 9), "real", True), g.input("y", (ROWS,), "index", True)
    w, v, b = g.input("w", (16, 9), "real"), g.input("v", (4, 16), "real"), g.input("b", (4,), "real")
    [h] = g.apply("relu", g.apply("linear", [x, w], {}), {})
    [losses] = g.apply("cross_entropy", [*g.apply("linear", [h, v, b], {}), y], {"label_smoothing": 0.0})
    d = g.input("d", (ROWS,), "real", True)
    outputs = list(g.gradient(losses, [v, b], d))
    rng = np.random.default_rng(0)
    given = [rng.standard_normal(g.shape(i)).astype(np.float32) for i in (x, w, v, b)]
    labels = np.arange(ROWS, dtype=np.int32) % 4
    d_v, d_b = _core.Function(g, [x, w, v, b, y, d], outputs, precision="bf16")(
        [*given, labels, np.full(ROWS, 0.25, np.float32)]
    )
    assert abs(d_b.sum()) < 1e-6 * np.abs(d_b).sum()
    assert np.abs(d_v.sum(0)).max() > 1e-5
