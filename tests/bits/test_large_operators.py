"""Operators large enough to be spread over threads: 1 and 2 threads (and 3, more than this machine may have) agree."""

import numpy as np
import pytest

NONE: dict = {}


def window(stride=1, groups=1):
    return {"stride": [stride] * 2, "padding": [1] * 4, "dilation": [1, 1], "groups": groups}


def norm(g, v):
    [stats] = g.apply("moments", [v[0]], NONE)
    return g.apply("batch_norm", [v[0], stats, *v[1:]], {"eps": 1e-5})


def op(name, attrs=NONE):
    return lambda g, v: g.apply(name, v, attrs)


LARGE = {
    "matmul": (op("matmul"), [(131, 517), (517, 203)]),
    "linear": (op("linear"), [(261, 300), (190, 300), (190,)]),
    "linear 10": (op("linear"), [(515, 512), (10, 512), (10,)]),
    "conv2d": (op("conv2d", window()), [(9, 17, 15, 16), (35, 3, 3, 16), (35,)]),
    "conv2d one image": (op("conv2d", window()), [(1, 40, 40, 3), (32, 3, 3, 3), (32,)]),
    "conv2d stride 2, groups 2": (op("conv2d", window(2, 2)), [(8, 16, 16, 8), (12, 3, 3, 4)]),
    "batch_norm": (norm, [(16, 20, 20, 24), (24,), (24,)]),
    "batch_norm dense": (norm, [(3001, 65), (65,), (65,)]),
    "layer_norm": (op("layer_norm", {"dims": 1, "eps": 1e-5}), [(700, 300), (300,), (300,)]),
    "layer_norm past the caches": (op("layer_norm", {"dims": 1, "eps": 1e-5}), [(4500, 1001), (1001,), (1001,)]),
    "softmax": (op("softmax", {"axis": -1}), [(3000, 50)]),
    "reduce_sum all": (op("reduce_sum", {"axes": [0, 1], "keepdims": False}), [(1001, 777)]),
    "reduce_sum rows": (op("reduce_sum", {"axes": [0], "keepdims": False}), [(20001, 33)]),
    "reduce_sum middle": (op("reduce_sum", {"axes": [1], "keepdims": False}), [(7, 3001, 33)]),
    "reduce_max": (op("reduce_max", {"axes": [0, 1], "keepdims": False}), [(1001, 333)]),
    "mul, broadcast": (op("mul"), [(900, 300), (300,)]),
    "gelu": (op("gelu", {"approximate": "none"}), [(300_001,)]),
    "max_pool2d": (op("max_pool2d", {"kernel": [2, 2], "stride": [2, 2], "padding": [0] * 4}), [(16, 32, 32, 24)]),
    "transpose": (op("transpose", {"axes": [1, 2, 0]}), [(61, 70, 80)]),
}


def outputs(core, record, arrays, dtype, threads):
    g = core.Graph(0)
    values = [g.input(f"x{i}", a.shape) for i, a in enumerate(arrays)]
    y = record(g, values)[0]
    u = g.input("u", g.shape(y))
    gradients = g.gradient(y, values, u)
    f = core.Function(g, [*values, u], [y, *gradients], dtype, False, threads)
    cotangent = np.random.default_rng(9).standard_normal(g.shape(y)).astype(dtype)
    return [a.tobytes() for a in f([*arrays, cotangent])]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LARGE)
def test_threads_do_not_change_bits(name, dtype, tw):
    record, shapes = LARGE[name]
    arrays = [np.random.default_rng(i).standard_normal(s).astype(dtype) for i, s in enumerate(shapes)]
    one = outputs(tw._core, record, arrays, dtype, 1)
    for threads in (2, 3):
        found = outputs(tw._core, record, arrays, dtype, threads)
        assert [a == b for a, b in zip(one, found, strict=True)] == [True] * len(one), f"{threads} threads"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("m", [1, 2, 5, 13, 14, 15, 27, 28, 29, 97])
def test_a_row_of_a_product_does_not_depend_on_the_others(m, dtype, ops):
    """Element (i, j) is one fixed chain over k, whatever the tile it falls into: odd shapes and every remainder."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((97, 530)).astype(dtype), rng.standard_normal((530, 97)).astype(dtype)
    whole = ops.matmul(a, b)
    for n in (1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 97):
        np.testing.assert_array_equal(ops.matmul(a[:m], b[:, :n]), whole[:m, :n], err_msg=f"{m} x {n}")
    rows = ops.linear(a[:m], np.ascontiguousarray(b.T))
    np.testing.assert_array_equal(rows, whole[:m])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_image_of_a_convolution_does_not_depend_on_the_others(dtype, ops):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((5, 11, 9, 7)).astype(dtype), rng.standard_normal((19, 3, 3, 7)).astype(dtype)
    whole = ops.conv2d(x, w, padding=1)
    for n in (1, 2, 3):
        np.testing.assert_array_equal(ops.conv2d(x[:n], w, padding=1), whole[:n])
    for outputs_ in (1, 5, 16, 17):
        np.testing.assert_array_equal(ops.conv2d(x, w[:outputs_], padding=1), whole[..., :outputs_])
