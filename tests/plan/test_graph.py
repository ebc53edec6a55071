"""Recording a graph: shapes, placements, collectives where they are needed, refusals, gradients as nodes."""

import numpy as np
import pytest


def ops_of(graph):
    return [node["op"] for node in graph.nodes()]


def run(core, graph, outputs, arrays, **options):
    """The graph on arrays given by value number."""
    return core.Function(graph, list(arrays), outputs, "float64", **options)(list(arrays.values()))


def test_shapes_kinds_and_placements_are_known_while_recording(core):
    g = core.Graph(6)
    x = g.input("x", (6, 3), batch=True)
    y = g.input("y", (6,), "index", True)
    w = g.parameter("w", (4, 3))
    [h] = g.apply("linear", [x, w], {})
    assert tuple(g.shape(h)) == (6, 4) and g.batched(h) and g.kind(h) == "real" and g.kind(y) == "index"
    [s] = g.apply("reduce_sum", [h], {"axes": [0], "keepdims": False})
    assert tuple(g.shape(s)) == (4,) and not g.batched(s)
    assert not g.batched(w) and tuple(g.shape(g.constant(2.0))) == ()


def test_a_sum_over_the_batch_is_completed_once_where_it_is_used(core):
    g = core.Graph(6)
    x = g.input("x", (6, 3), batch=True)
    [s] = g.apply("reduce_sum", [x], {"axes": [0], "keepdims": False})
    assert "all_reduce" not in ops_of(g)
    g.apply("exp", [s], {})
    g.apply("neg", [s], {})
    assert ops_of(g).count("all_reduce") == 1


def test_moments_are_merged_once(core):
    g = core.Graph(6)
    x = g.input("x", (6, 3), batch=True)
    [m] = g.apply("moments", [x], {})
    [y] = g.apply("batch_norm", [x, m], {"eps": 1e-5})
    assert ops_of(g).count("merge_moments") == 1 and g.batched(y)


def test_a_product_without_a_batch_needs_no_collective(core):
    g = core.Graph(0)
    a, b = g.input("a", (3, 4)), g.input("b", (4, 5))
    [y] = g.apply("matmul", [a, b], {})
    [s] = g.apply("reduce_sum", [y], {"axes": [0, 1], "keepdims": False})
    g.gradient(s, [a, b])
    assert not {"all_reduce", "merge_moments"} & set(ops_of(g))


MIXES_ROWS = {
    "transpose": (1, {"axes": [1, 0]}),
    "concat": (2, {"axis": 0}),
    "split": (1, {"axis": 0, "sizes": [2, 4]}),
    "slice": (1, {"begin": [0, 0], "end": [3, 4], "step": [1, 1]}),
    "softmax": (1, {"axis": 0}),
    "log_softmax": (1, {"axis": 0}),
    "reduce_max": (1, {"axes": [0], "keepdims": False}),
    "reduce_min": (1, {"axes": [0, 1], "keepdims": False}),
    "reshape": (1, {"shape": [3, 8]}),
    "broadcast_to": (1, {"shape": [2, 6, 4]}),
}


@pytest.mark.parametrize("op", MIXES_ROWS)
def test_what_would_mix_rows_of_a_batch_is_refused(op, core):
    count, attrs = MIXES_ROWS[op]
    g = core.Graph(6)
    x = g.input("x", (6, 4), batch=True)
    with pytest.raises(ValueError, match=rf"\[{op.removeprefix('reduce_')} 'net.layer'\].*batch"):
        g.apply(op, [x] * count, attrs, "net.layer")


@pytest.mark.parametrize("shape", [(6, 4), (2, 6, 4), (6, 1)])
def test_a_fixed_array_beside_a_batch_must_not_have_rows_of_its_own(shape, core):
    """Another batch size would not fit it."""
    g = core.Graph(6)
    x = g.input("x", (6, 4), batch=True)
    w = g.parameter("w", shape)
    with pytest.raises(ValueError, match=r"\[add.*batch"):
        g.apply("add", [x, w], {})
    [y] = g.apply("add", [x, g.parameter("row", (1, 4))], {})
    [z] = g.apply("add", [y, g.parameter("vector", (4,))], {})
    assert g.batched(z) and g.batched(g.apply("mul", [z, g.constant(2.0)], {})[0])


def test_two_batches_of_different_rank_are_refused(core):
    g = core.Graph(6)
    x, y = g.input("x", (6, 6), batch=True), g.input("y", (6,), batch=True)
    with pytest.raises(ValueError, match=r"\[add.*batch"):
        g.apply("add", [x, y], {})


def test_a_batched_input_must_have_the_graphs_rows(core):
    g = core.Graph(6)
    with pytest.raises(ValueError, match=r"5.*6|6.*5"):
        g.input("x", (5, 3), batch=True)


@pytest.mark.parametrize(
    "op, inputs, attrs, part",
    [
        ("no_such_operator", 1, {}, "no_such_operator"),
        ("relu", 2, {}, "relu"),
        ("add", 1, {}, "add"),
        ("softmax", 1, {}, "axis"),
        ("softmax", 1, {"axis": "x"}, "axis"),
        ("reshape", 1, {}, "shape"),
        ("batch_norm", 1, {"eps": 1e-5}, "batch_norm"),
        ("conv2d", 2, {"stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], "groups": 1}, "conv2d"),
    ],
)
def test_wrong_calls_are_refused_and_leave_the_graph_whole(op, inputs, attrs, part, core):
    g = core.Graph(0)
    x = g.input("x", (2, 3))
    before = len(g.nodes())
    with pytest.raises((ValueError, TypeError), match=part):
        g.apply(op, [x] * inputs, attrs, "net")
    assert len(g.nodes()) == before
    [y] = g.apply("relu", [x], {})
    np.testing.assert_array_equal(run(core, g, [y], {x: np.array([[1.0, -1, 0]] * 2)})[0], [[1.0, 0, 0]] * 2)


def test_values_that_do_not_exist_are_refused(core):
    g = core.Graph(0)
    x = g.input("x", (2,))
    for bad in (-1, 7, 2**31 - 1):
        with pytest.raises((ValueError, IndexError)):
            g.apply("relu", [bad], {})
        with pytest.raises((ValueError, IndexError)):
            g.shape(bad)
        with pytest.raises((ValueError, IndexError)):
            core.Function(g, [x], [bad])


def test_a_real_operator_refuses_class_numbers(core):
    g = core.Graph(0)
    y = g.input("y", (3,), "index")
    with pytest.raises((TypeError, ValueError), match=r"\[exp"):
        g.apply("exp", [y], {})


def test_names_are_unique(core):
    g = core.Graph(0)
    g.parameter("w", (2,))
    with pytest.raises(ValueError, match="w"):
        g.parameter("w", (3,))


def test_constants_keep_their_value(core):
    """Also those that compare oddly: NaN, zeros of both signs, infinities, in any order."""
    for order in ((1.0, float("nan"), 0.0, -0.0, float("inf")), (float("nan"), -0.0, 2.0, 0.0, float("-inf"))):
        g = core.Graph(0)
        x = g.input("x", (1,))
        outputs = [g.apply("add", [g.apply("mul", [x, g.constant(0.0)], {})[0], g.constant(c)], {})[0] for c in order]
        outputs += [g.apply("mul", [x, g.constant(c)], {})[0] for c in order]
        found = run(core, g, outputs, {x: np.array([-0.0])})
        with np.errstate(invalid="ignore"):
            expected = [np.array([-0.0 * 0.0 + c]) for c in order] + [np.array([-0.0]) * c for c in order]
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)
            assert np.isnan(b) or np.signbit(a) == np.signbit(b)


def test_gradient_of_what_nothing_depends_on_is_zeros(core):
    g = core.Graph(0)
    x, w = g.input("x", (3,)), g.input("w", (2, 2))
    [s] = g.apply("reduce_sum", [x], {"axes": [0], "keepdims": False})
    gx, gw = g.gradient(s, [x, w])
    found = run(core, g, [gx, gw], {x: np.arange(3.0), w: np.ones((2, 2))})
    np.testing.assert_array_equal(found[0], np.ones(3))
    np.testing.assert_array_equal(found[1], np.zeros((2, 2)))


def test_gradient_starts_from_a_seed(core):
    g = core.Graph(0)
    x, u = g.input("x", (3,)), g.input("u", (3,))
    [y] = g.apply("square", [x], {})
    [gx] = g.gradient(y, [x], u)
    a, b = np.array([1.0, 2, 3]), np.array([0.5, -1, 2])
    np.testing.assert_array_equal(run(core, g, [gx], {x: a, u: b})[0], 2 * a * b)
    with pytest.raises(ValueError, match="scalar"):
        g.gradient(y, [x])


def test_gradient_with_respect_to_a_value_in_the_middle_and_of_a_gradient(core):
    g = core.Graph(0)
    x = g.input("x", (4,))
    [h] = g.apply("square", [x], {})
    [s] = g.apply("reduce_sum", [g.apply("square", [h], {})[0]], {"axes": [0], "keepdims": False})
    [gh, gx] = g.gradient(s, [h, x])
    a = np.array([0.5, -1.0, 2.0, 3.0])
    found = run(core, g, [gh, gx], {x: a})
    np.testing.assert_allclose(found[0], 2 * a**2, rtol=1e-14)
    np.testing.assert_allclose(found[1], 4 * a**3, rtol=1e-14)
    [gg] = g.gradient(g.apply("reduce_sum", [gx], {"axes": [0], "keepdims": False})[0], [x])
    np.testing.assert_allclose(run(core, g, [gg], {x: a})[0], 12 * a**2, rtol=1e-14)


def test_an_operator_without_a_derivative_stops_the_gradient(core):
    g = core.Graph(0)
    x = g.input("x", (3,))
    [c] = g.apply("greater", [x, g.constant(0.5)], {})
    [s] = g.apply("reduce_sum", [g.apply("mul", [c, x], {})[0]], {"axes": [0], "keepdims": False})
    [gx] = g.gradient(s, [x])
    np.testing.assert_array_equal(run(core, g, [gx], {x: np.array([0.0, 1.0, 2.0])})[0], [0.0, 1.0, 1.0])


def test_costs_of_nodes(core):
    g = core.Graph(8)
    x = g.input("x", (8, 16), batch=True)
    [h] = g.apply("linear", [x, g.parameter("w", (32, 16))], {}, "net.fc")
    g.apply("relu", [h], {}, "net.relu")
    linear, relu = g.nodes()
    assert linear["mult_adds"] == 8 * 16 * 32 and linear["flops"] == 2 * linear["mult_adds"]
    assert (
        linear["path"] == "net.fc" and relu["mult_adds"] == 0 and relu["flops"] > 0 and relu["bytes"] >= 2 * 8 * 32 * 4
    )


def test_function_runs_what_its_outputs_need_and_nothing_else(core):
    g = core.Graph(0)
    x, unused = g.input("x", (2,)), g.input("unused", (5,))
    [y] = g.apply("exp", [x], {})
    g.apply("log", [unused], {})
    [z] = g.apply("neg", [y], {})
    np.testing.assert_array_equal(run(core, g, [z], {x: np.zeros(2)})[0], [-1.0, -1.0])
    found = run(core, g, [z, y, x, z], {x: np.zeros(2)})  # outputs in the middle, inputs, twice the same
    np.testing.assert_array_equal(found, [[-1, -1], [1, 1], [0, 0], [-1, -1]])
    with pytest.raises(ValueError, match="x"):
        core.Function(g, [unused], [z])  # x is needed and not given


def test_function_checks_its_arrays(core):
    g = core.Graph(0)
    x = g.input("x", (2, 3))
    f = core.Function(g, [x], g.apply("exp", [x], {}), "float32")
    good = np.zeros((2, 3), np.float32)
    for bad in (np.zeros((2, 3)), np.zeros((3, 2), np.float32), np.zeros(6, np.float32), np.zeros((2, 3), np.int32)):
        with pytest.raises((ValueError, TypeError)):
            f([bad])
    for count in ([], [good, good]):
        with pytest.raises((ValueError, TypeError)):
            f(count)
    np.testing.assert_array_equal(f([good])[0], np.ones((2, 3)))


def test_many_values_alive_at_once_do_not_overwrite_each_other(core):
    """The memory planner: values used long after they were made, mixed with short ones of all sizes."""
    rng = np.random.default_rng(0)
    g = core.Graph(0)
    x = g.input("x", (64,))
    a = np.abs(rng.standard_normal(64)) + 0.5
    values, arrays = [x], [a]
    for _ in range(300):
        i, j = rng.integers(max(0, len(values) - 40), len(values), 2)
        op, f = [("add", np.add), ("mul", np.multiply), ("maximum", np.maximum), ("sub", np.subtract)][rng.integers(4)]
        values.append(g.apply("tanh", g.apply(op, [values[i], values[j]], {}), {})[0])
        arrays.append(np.tanh(f(arrays[i], arrays[j])))
    chosen = sorted(set(rng.integers(0, len(values), 25).tolist()) | {len(values) - 1})
    for found, k in zip(run(core, g, [values[k] for k in chosen], {x: a}), chosen, strict=True):
        np.testing.assert_allclose(found, arrays[k], rtol=1e-11, atol=1e-13)
