"""grad, value_and_grad, vjp, jvp, hvp: structures in and out, argnums, integers, closures, caching, errors."""

import time
from collections import namedtuple

import numpy as np
import pytest

X = np.array([[1.0, 2.0], [3.0, 4.0]])


def test_grad_keeps_nested_structure(tw):
    p = {"a": [X, (2 * X, 3 * X)], "b": {"c": X + 1}}

    def f(p):
        return tw.ops.sum(p["a"][0] * p["a"][1][0] + tw.ops.square(p["a"][1][1]) * p["b"]["c"])

    g = tw.grad(f)(p)
    assert isinstance(g, dict) and isinstance(g["a"], list) and isinstance(g["a"][1], tuple)
    np.testing.assert_array_equal(g["a"][0], 2 * X)
    np.testing.assert_array_equal(g["a"][1][0], X)
    np.testing.assert_array_equal(g["a"][1][1], 6 * X * (X + 1))
    np.testing.assert_array_equal(g["b"]["c"], 9 * X * X)


def test_grad_keeps_named_tuples(tw):
    Pair = namedtuple("Pair", "w b")
    g = tw.grad(lambda p: tw.ops.sum(p.w * p.w + p.b))(Pair(X, X))
    assert type(g) is Pair
    np.testing.assert_array_equal(g.w, 2 * X)


def test_argnums(tw):
    def f(a, b, c):
        return tw.ops.sum(a * b * c)

    args = (X, X + 1, X + 2)
    np.testing.assert_array_equal(tw.grad(f)(*args), args[1] * args[2])
    np.testing.assert_array_equal(tw.grad(f, argnums=1)(*args), args[0] * args[2])
    g = tw.grad(f, argnums=(2, 0))(*args)
    assert isinstance(g, tuple) and len(g) == 2
    np.testing.assert_array_equal(g[0], args[0] * args[1])
    np.testing.assert_array_equal(g[1], args[1] * args[2])
    assert isinstance(tw.grad(f, argnums=(1,))(*args), tuple)


@pytest.mark.parametrize("argnums", [3, -4, (0, 3), "a", 1.5])
def test_argnums_out_of_range(argnums, tw):
    with pytest.raises((TypeError, ValueError), match=r"argnums"):
        tw.grad(lambda a, b, c: tw.ops.sum(a), argnums=argnums)(X, X, X)


def test_value_and_grad(tw):
    value, g = tw.value_and_grad(lambda x: tw.ops.sum(tw.ops.square(x)))(X)
    assert np.shape(value) == () and value == 30.0 and value.dtype == np.float64
    np.testing.assert_array_equal(g, 2 * X)


def test_an_unused_argument_gets_zeros(tw):
    g = tw.grad(lambda p: tw.ops.sum(p["used"]))({"used": X, "unused": X})
    np.testing.assert_array_equal(g["unused"], np.zeros_like(X))
    _, pullback = tw.vjp(lambda a, b: a * 2.0, X, np.ones(3))
    np.testing.assert_array_equal(pullback(X)[1], np.zeros(3))
    _, tangent = tw.jvp(lambda a, b: b * 2.0, (X, X), (X, np.zeros_like(X)))
    np.testing.assert_array_equal(tangent, np.zeros_like(X))


def test_a_function_that_returns_its_argument_or_a_constant(tw):
    y, pullback = tw.vjp(lambda x: x, X)
    np.testing.assert_array_equal(y, X)
    np.testing.assert_array_equal(pullback(3 * X)[0], 3 * X)
    np.testing.assert_array_equal(tw.jvp(lambda x: x, (X,), (2 * X,))[1], 2 * X)
    assert tw.grad(lambda x: x)(np.array(2.0)) == 1.0


def test_an_argument_used_often_sums_its_gradients(tw):
    def f(x):
        y = x
        for _ in range(20):
            y = y + x * x
        return y.sum()

    np.testing.assert_allclose(tw.grad(f)(X), 1 + 40 * X)


def test_vjp_of_several_outputs(tw):
    def f(x):
        return {"double": x * 2.0, "parts": [x.sum(), tw.ops.exp(x)]}

    out, pullback = tw.vjp(f, X)
    assert set(out) == {"double", "parts"} and isinstance(out["parts"], list)
    (g,) = pullback({"double": X, "parts": [np.array(5.0), np.ones_like(X)]})
    np.testing.assert_allclose(g, 2 * X + 5 + np.exp(X), rtol=1e-14)


def test_pullback_can_be_called_again_and_after_the_inputs_changed(tw):
    x = X.copy()
    _, pullback = tw.vjp(lambda a: a * a, x)
    x[...] = 0
    np.testing.assert_array_equal(pullback(np.ones_like(X))[0], 2 * X)
    np.testing.assert_array_equal(pullback(3 * np.ones_like(X))[0], 6 * X)


@pytest.mark.parametrize("bad", [np.ones(3), np.ones((2, 2, 1)), [np.ones((2, 2))]])
def test_cotangent_of_another_shape(bad, tw):
    _, pullback = tw.vjp(lambda a: a * a, X)
    with pytest.raises(ValueError, match=r"\(2, 2\)|structure"):
        pullback(bad)


def test_jvp_shapes_are_checked(tw):
    with pytest.raises(ValueError, match=r"\(3,\)"):
        tw.jvp(lambda a: a * a, (X,), (np.ones(3),))
    with pytest.raises(ValueError, match=r"structure|tangents"):
        tw.jvp(lambda a: a * a, (X,), (X, X))
    with pytest.raises(ValueError, match=r"structure|tangents"):
        tw.hvp(lambda p: tw.ops.sum(p["a"]), ({"a": X},), ({"b": X},))


@pytest.mark.parametrize("transform", ["grad", "value_and_grad"])
def test_the_gradient_of_something_not_scalar_is_refused(transform, tw):
    with pytest.raises(ValueError, match=r"scalar.*\(2, 2\)|\(2, 2\).*scalar"):
        getattr(tw, transform)(lambda x: x * 2.0)(X)
    with pytest.raises(ValueError, match="scalar"):
        tw.hvp(lambda x: x * 2.0, (X,), (X,))
    with pytest.raises((TypeError, ValueError)):
        getattr(tw, transform)(lambda x: "loss")(X)


def test_integer_arrays(tw):
    """Labels may be arguments of their own; they are not differentiated."""
    logits, y = np.random.default_rng(0).standard_normal((4, 3)), np.array([0, 2, 1, 1])
    closure = tw.grad(lambda x: tw.ops.cross_entropy(x, y))(logits)
    argument = tw.grad(lambda x, y: tw.ops.cross_entropy(x, y))(logits, y)
    np.testing.assert_array_equal(closure, argument)
    with pytest.raises(ValueError, match=r"\[cross_entropy.*3"):
        tw.grad(lambda x, y: tw.ops.cross_entropy(x, y))(logits, np.array([0, 3, 1, 1]))


def test_the_gradient_of_an_integer_argument_is_refused_or_float32(tw):
    try:
        g = tw.grad(lambda x: tw.ops.sum(x * x))(np.array([1, 2]))
    except TypeError as error:
        assert "int64" in str(error)
    else:
        assert g.dtype == np.float32
        np.testing.assert_array_equal(g, [2.0, 4.0])


def test_integer_arrays_have_no_derivative(tw):
    """vjp, jvp and hvp hand them to the function and have None in their places, also inside structures."""
    logits, y = np.random.default_rng(0).standard_normal((4, 3)), np.array([0, 2, 1, 1])

    def f(p, y):
        return tw.ops.cross_entropy(p["x"], y) + tw.ops.cross_entropy(p["x"], p["y"])

    p, v = {"x": logits, "y": y}, {"x": logits[::-1], "y": None}
    expected = tw.grad(lambda x: 2 * tw.ops.cross_entropy(x, y))(logits)
    value, pullback = tw.vjp(f, p, y)
    parts, none = pullback(np.array(1.0))
    assert none is None and parts["y"] is None and value.shape == ()
    np.testing.assert_allclose(parts["x"], expected, rtol=1e-13)
    np.testing.assert_allclose(tw.jvp(f, (p, y), (v, None))[1], (expected * v["x"]).sum(), rtol=1e-12)
    product, none = tw.hvp(f, (p, y), (v, None))
    assert none is None and product["y"] is None
    np.testing.assert_allclose(
        product["x"], tw.hvp(lambda x: 2 * tw.ops.cross_entropy(x, y), (logits,), (v["x"],))[0], rtol=1e-12, atol=1e-15
    )
    with pytest.raises(ValueError, match=r"\[hvp\] a tangent \(None for arrays of integers\)"):
        tw.hvp(f, (p, y), (v, y))
    with pytest.raises(TypeError, match=r"\[vjp\] no argument is a number or an array of floats"):
        tw.vjp(lambda y: y, y)


def test_a_bare_array_is_the_only_argument(tw):
    np.testing.assert_array_equal(tw.hvp(lambda x: tw.ops.sum(x**3), X, X), 6 * X * X)
    np.testing.assert_array_equal(tw.jvp(lambda x: x**2.0, X, X)[1], 2 * X * X)
    assert tw.hvp(lambda x: x**3, 2.0, 1.0) == 12
    np.testing.assert_array_equal(tw.hvp(lambda p: tw.ops.sum(p["x"] ** 3), {"x": X}, {"x": X})["x"], 6 * X * X)
    with pytest.raises(TypeError, match=r"\[hvp\] the function can't be called with 3 positional arguments.*\(x,\)"):
        tw.hvp(lambda x: tw.ops.sum(x**3), [1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="of the function's own"):

        def own(x):
            raise TypeError("of the function's own")

        tw.grad(own)(X)


def test_keywords_are_passed_on(tw):
    def f(x, power=1.0, *, y=None):
        return tw.ops.sum(x**power) + (0 if y is None else tw.ops.cross_entropy(x, y))

    np.testing.assert_array_equal(tw.grad(f)(X, power=2.0), 2 * X)
    value, gradient = tw.value_and_grad(f)(X, y=np.array([0, 1]))
    assert value > X.sum() and gradient.shape == X.shape


def test_python_numbers_and_zero_dimensional_arrays(tw):
    assert tw.grad(lambda x: x * x)(np.float64(3.0)) == 6.0
    assert tw.grad(lambda x: x * x)(np.array(3.0, np.float32)) == 6.0
    assert tw.grad(lambda x: x * x)(3.0) == 6.0


def test_arrays_outside_are_read_at_every_call(tw):
    scale = np.ones(2)

    def f(x):
        return tw.ops.sum(x * scale)

    gradient = tw.grad(f)
    np.testing.assert_array_equal(gradient(X), [[1.0, 1.0], [1.0, 1.0]])
    scale[:] = 5
    np.testing.assert_array_equal(gradient(X), [[5.0, 5.0], [5.0, 5.0]])
    scale = np.array([7.0, 8.0])
    np.testing.assert_array_equal(gradient(X), [[7.0, 8.0], [7.0, 8.0]])


def test_numbers_outside_are_read_at_every_call(tw):
    c = 2.0
    gradient = tw.grad(lambda x: (x * c).sum())
    assert gradient(np.ones(1))[0] == 2.0
    c = 3.0
    assert gradient(np.ones(1))[0] == 3.0


def test_compiled_once_per_signature(tw):
    """Later calls of one signature cost a small part of the first; other shapes and dtypes are compiled anew."""
    w = [np.random.default_rng(i).standard_normal((8, 8)) for i in range(30)]

    def f(x, w):
        for m in w:
            x = tw.ops.tanh(tw.ops.matmul(x, m))
        return tw.ops.sum(x)

    gradient = tw.grad(f)

    def seconds(*args):
        start = time.perf_counter()
        gradient(*args)
        return time.perf_counter() - start

    first = seconds(np.ones((4, 8)), w)
    later = min(seconds(np.ones((4, 8)), w) for _ in range(5))
    assert later < first
    assert gradient(np.ones((5, 8)), w).shape == (5, 8)
    assert gradient(np.ones((4, 8), np.float32), [m.astype(np.float32) for m in w]).dtype == np.float32


def test_dtype_follows_the_arguments(tw):
    x = X.astype(np.float32)
    assert tw.grad(lambda x: tw.ops.sum(x * x))(x).dtype == np.float32
    out, tangent = tw.jvp(tw.ops.exp, (x,), (x,))
    assert out.dtype == np.float32 and tangent.dtype == np.float32


def test_symbolic_arithmetic_and_comparisons(tw):
    def f(x):
        y = -x + 2.0 * x**2 - x / 4 + (1 - x) * (x @ x) + abs(x)
        y = tw.ops.where(x > 1.5, y, 0.0) + x[0:1, :] + x[-1] + x.T + x.reshape(2, 2)
        return y.sum() + x.mean() + x[:, 1].max()

    def ref(x):
        y = -x + 2.0 * x**2 - x / 4 + (1 - x) * (x @ x) + abs(x)
        y = np.where(x > 1.5, y, 0.0) + x[0:1, :] + x[-1] + x.T + x
        return y.sum() + x.mean() + x[:, 1].max()

    value, g = tw.value_and_grad(f)(X)
    np.testing.assert_allclose(value, ref(X), rtol=1e-14)
    for i in range(4):
        d = np.zeros_like(X)
        d.flat[i] = 1e-6
        np.testing.assert_allclose(g.flat[i], (ref(X + d) - ref(X - d)) / 2e-6, rtol=1e-7)


def test_branching_on_a_symbolic_value_is_explained(tw):
    with pytest.raises(TypeError, match="where"):
        tw.grad(lambda x: x.sum() if x.sum() > 0 else -x.sum())(X)


def test_a_leaked_tensor_is_explained(tw):
    kept = []
    tw.grad(lambda x: kept.append(x) or x.sum())(X)
    with pytest.raises(ValueError, match="recording"):
        tw.grad(lambda x: (x * kept[0]).sum())(X)
    for call in (lambda: tw.ops.exp(kept[0]), lambda: tw.grad(lambda x: tw.ops.exp(kept[0]).sum())(X)):
        with pytest.raises(ValueError, match=r"\[exp\] a symbolic tensor came in after its recording"):
            call()


def test_an_exception_of_ones_own_leaves_everything_usable(tw):
    def f(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        tw.grad(f)(X)
    assert isinstance(tw.ops.add(X, X), np.ndarray)  # not still recording
    np.testing.assert_array_equal(tw.grad(lambda x: (x * x).sum())(X), 2 * X)


def test_dropout_inside_a_differentiated_function(tw):
    x = np.ones((50, 8))

    def f(x):
        return tw.ops.sum(tw.ops.dropout(x, 0.5, seed=3, step=1) * x)

    y = tw.ops.dropout(x, 0.5, seed=3, step=1)
    np.testing.assert_array_equal(tw.grad(f)(x), 2 * y)


def test_threads_of_python_may_differentiate_at_once(tw):
    from concurrent.futures import ThreadPoolExecutor

    def work(i):
        x = np.full((8, 8), float(i))
        return [tw.grad(lambda a: tw.ops.sum(tw.ops.tanh(a) * i))(x) for _ in range(10)][-1]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, range(8)))
    for i, g in enumerate(results):
        np.testing.assert_allclose(g, i * (1 - np.tanh(i) ** 2) * np.ones((8, 8)), rtol=1e-12, atol=1e-14)
