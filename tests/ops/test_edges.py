"""Edges: NaN and infinity, large logits, huge offsets, empty and one-element arrays, extreme values."""

import numpy as np
import pytest

from . import reference as r
from .rows_elementwise import BINARY, UNARY
from .table import TABLE

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@BOTH
@pytest.mark.parametrize("row", UNARY, ids=lambda row: row.name)
def test_special_values_of_one_argument(row, dtype, ops, torch):
    """NaN, infinities, zeros of both signs, the largest and smallest numbers, in every lane of a vector."""
    info = np.finfo(dtype)
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, info.max, -info.max, info.tiny, -info.tiny]
    x = np.array((special * 4)[:37], dtype)
    if row.operator in ("sin", "cos"):  # torch reduces large arguments in ways of its own
        x = x[~(np.abs(x) > 1e4)]
    if row.operator == "gelu":  # at infinity it is NaN or the limit, in torch too; torch is wrong at the largest number
        x = x[~(np.abs(x) > 1e4)]
    expected = row.torch(torch, torch.from_numpy(x)).numpy()
    y = row.call(ops, x)
    np.testing.assert_allclose(y, expected, rtol=20 * info.eps, atol=0, equal_nan=True)


@BOTH
@pytest.mark.parametrize("row", BINARY, ids=lambda row: row.name)
def test_special_values_of_two_arguments(row, dtype, ops, torch):
    info = np.finfo(dtype)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -2.0, 0.5, 3.0, info.max, info.tiny], dtype)
    a, b = (g.reshape(-1).copy() for g in np.meshgrid(special, special))
    expected = row.torch(torch, torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_allclose(row.call(ops, a, b), expected, rtol=50 * info.eps, atol=0, equal_nan=True)


@BOTH
def test_where_does_not_let_the_unused_side_through(dtype, tw):
    x = np.array([-1.0, 0.0, 4.0], dtype)

    def f(x):
        return tw.ops.sum(tw.ops.where(tw.ops.greater(x, 0.0), tw.ops.mul(x, 2.0), 0.0))

    np.testing.assert_array_equal(tw.grad(f)(x), np.array([0.0, 0.0, 2.0], dtype))
    np.testing.assert_array_equal(tw.ops.where(np.array([1, 0]), x[:2], np.array([np.nan, 7], dtype)), [-1.0, 7.0])


@BOTH
@pytest.mark.parametrize("at", [0, 5, 16, 36])
def test_nan_goes_through_reductions_and_pools(dtype, at, ops):
    x = np.arange(37, dtype=dtype)
    x[at] = np.nan
    for name in ("sum", "mean", "max", "min"):
        assert np.isnan(getattr(ops, name)(x)), name
        grid = np.stack([np.arange(37, dtype=dtype), x])
        y = getattr(ops, name)(grid, axis=1)
        assert np.isfinite(y[0]) and np.isnan(y[1]), name
        assert np.isnan(getattr(ops, name)(grid, axis=0)).sum() == 1, name
    image = np.zeros((1, 6, 6, 1), dtype)
    image.flat[at % 36] = np.nan
    for name in ("max_pool2d", "avg_pool2d"):
        assert np.isnan(getattr(ops, name)(image, 2)).sum() == 1
    assert np.isnan(ops.softmax(grid, axis=1))[1].all() and np.isfinite(ops.softmax(grid, axis=1))[0].all()
    assert np.isnan(ops.layer_norm(grid))[1].all() and np.isfinite(ops.layer_norm(grid))[0].all()


@BOTH
@pytest.mark.parametrize("size", [10, 37])
def test_large_logits(dtype, size, tw):
    """+-1e4 and beyond: no overflow, gradients as in float64."""
    rng = np.random.default_rng(0)
    logits = rng.choice([-1e4, 1e4, 0.0, 9999.0], (8, size)).astype(dtype)
    labels = rng.integers(0, size, 8)
    exact = logits.astype(np.float64)
    np.testing.assert_allclose(tw.ops.softmax(logits), r.ref_softmax(exact), rtol=4e-6, atol=1e-30)
    np.testing.assert_allclose(tw.ops.log_softmax(logits), r.ref_log_softmax(exact), rtol=2e-6)
    for smoothing in (0.0, 0.1):
        value, gradient = tw.value_and_grad(lambda x, s=smoothing: tw.ops.cross_entropy(x, labels, label_smoothing=s))(
            logits
        )
        np.testing.assert_allclose(value, r.ref_cross_entropy(exact, labels, smoothing), rtol=2e-6)
        np.testing.assert_allclose(
            gradient, r.ref_cross_entropy_backward(1.0, exact, labels, smoothing), rtol=1e-5, atol=1e-8
        )


@BOTH
def test_logits_at_infinity(dtype, ops):
    x = np.array([[0.0, -np.inf, 1.0], [-np.inf, -np.inf, -np.inf]], dtype)
    y = ops.softmax(x)
    assert y[0, 1] == 0 and np.isclose(y[0].sum(), 1) and np.isnan(y[1]).all()
    assert ops.cross_entropy(x[:1], np.array([1]), reduction="none")[0] == np.inf


@BOTH
def test_the_first_of_equal_logits_wins(dtype, ops):
    x = np.array([[1, 1, 0], [0, 2, 2], [3, 3, 3]], dtype)
    np.testing.assert_array_equal(ops.correct(x, np.array([0, 1, 0])), [1, 1, 1])
    np.testing.assert_array_equal(ops.correct(x, np.array([1, 2, 2])), [0, 0, 0])
    assert ops.correct(np.array([[np.nan, 1.0]]), np.array([1]))[0] in (0, 1)


@pytest.mark.parametrize("shape", [(4096, 3), (64, 8, 8, 5), (1000, 40)])
def test_batch_norm_far_from_zero(shape, ops):
    """Mean 1000, standard deviation 1, float32: E[x^2] - E[x]^2 has lost every digit. The bound is that of merging
    blocks whose means are rounded to float32, 6e-5 apart at 1000."""
    x = (1000 + np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
    axes = tuple(range(len(shape) - 1))
    exact = x.astype(np.float64)
    y = ops.batch_norm(x, eps=0.0).astype(np.float64)
    centred = exact - exact.mean(axes)
    var = (centred**2).sum(axes) ** 2 / (y * centred).sum(axes) ** 2  # y = centred / std
    np.testing.assert_allclose(var, exact.var(axes), rtol=1e-5)
    assert np.abs(y.mean(axes)).max() < 1e-3
    np.testing.assert_allclose(y, r.ref_batch_norm(exact, eps=0.0), atol=2e-4)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_layer_norm_far_from_zero(offset, ops):
    x = (offset + np.random.default_rng(0).standard_normal((16, 515))).astype(np.float32)
    np.testing.assert_allclose(ops.layer_norm(x), r.ref_layer_norm(x.astype(np.float64)), atol=2e-3 if offset else 2e-6)


@BOTH
@pytest.mark.parametrize("rows", [4097, 43])
def test_a_row_of_layer_norm_has_the_bits_it_has_alone(rows, dtype, tw):
    """Rows are worked on in groups, the rest one by one, and large results go past the caches."""
    rng = np.random.default_rng(0)
    x, d_y = rng.standard_normal((2, rows, 1100), dtype=dtype)
    gamma, beta = rng.standard_normal((2, 1100), dtype=dtype)

    def both(x, d_y):
        y, pullback = tw.vjp(lambda a: tw.ops.layer_norm(a, gamma, beta), x)
        return y, pullback(d_y)[0]

    whole = both(x, d_y)
    for row in (0, 1, 2, 3, rows // 2, rows - 2, rows - 1):
        alone = both(x[row : row + 1], d_y[row : row + 1])
        for all_rows, one in zip(whole, alone, strict=True):
            np.testing.assert_array_equal(all_rows[row], one[0])


@BOTH
def test_constant_channel_normalises_to_beta(dtype, tw):
    x = np.full((8, 3), 7.0, dtype)
    beta = np.array([1.0, 2.0, 3.0], dtype)
    y, pullback = tw.vjp(lambda a: tw.ops.batch_norm(a, np.ones(3, dtype), beta), x)
    np.testing.assert_array_equal(y, np.broadcast_to(beta, (8, 3)))
    assert np.isfinite(pullback(np.random.default_rng(0).standard_normal((8, 3)).astype(dtype))[0]).all()


@BOTH
def test_empty_arrays(dtype, ops):
    empty = np.zeros((0, 5), dtype)
    assert ops.relu(empty).shape == (0, 5)
    assert ops.sum(empty) == 0 and ops.sum(empty).dtype == dtype
    np.testing.assert_array_equal(ops.sum(empty, axis=0), np.zeros(5))
    assert ops.sum(empty, axis=1).shape == (0,)
    assert ops.matmul(np.zeros((0, 3), dtype), np.ones((3, 2), dtype)).shape == (0, 2)
    np.testing.assert_array_equal(ops.matmul(np.zeros((2, 0), dtype), np.zeros((0, 3), dtype)), np.zeros((2, 3)))
    assert ops.concat([empty, empty]).shape == (0, 5)
    assert ops.transpose(empty).shape == (5, 0)
    assert ops.reshape(empty, (5, 0)).shape == (5, 0)


def test_mean_of_nothing_is_refused(ops):
    with pytest.raises(ValueError, match=r"\[mean\] x has shape \(0,\)"):
        ops.mean(np.zeros((0,), np.float32))
    assert ops.mean(np.zeros((0, 3), np.float32), axis=1).shape == (0,)
    with pytest.raises(ValueError, match=r"\[global_avg_pool2d\]"):
        ops.global_avg_pool2d(np.zeros((2, 0, 3, 1), np.float32))


@BOTH
def test_gradients_of_empty_batches(dtype, tw):
    """No rows: gradients of the parameters are zeros, not garbage."""
    w, b = np.ones((4, 5), dtype), np.ones(4, dtype)
    _, pullback = tw.vjp(lambda x, w, b: tw.ops.linear(x, w, b), np.zeros((0, 5), dtype), w, b)
    d_x, d_w, d_b = pullback(np.zeros((0, 4), dtype))
    assert d_x.shape == (0, 5) and not d_w.any() and not d_b.any() and d_w.shape == w.shape and d_b.shape == b.shape
    image, kernel = np.zeros((0, 6, 6, 2), dtype), np.ones((3, 3, 3, 2), dtype)
    y, pullback = tw.vjp(lambda x, k: tw.ops.conv2d(x, k, padding=1), image, kernel)
    assert y.shape == (0, 6, 6, 3) and not pullback(np.zeros(y.shape, dtype))[1].any()


@pytest.mark.parametrize("row", [row for row in TABLE if row.smooth], ids=lambda row: row.name)
def test_zero_cotangent_gives_zero_gradients(row, tw):
    f, reals = row.with_reals(0, lambda *a: row.call(tw.ops, *a))
    y, pullback = tw.vjp(f, *reals)
    for gradient, x in zip(pullback(np.zeros(y.shape)), reals, strict=True):
        assert gradient.shape == x.shape and not gradient.any()


@BOTH
def test_long_sums_keep_their_digits(dtype, ops):
    """A tree of partial sums: the error of a million terms stays near one rounding."""
    x = np.full(1_000_003, 0.1, dtype)
    exact = float(x[0]) * x.size
    assert abs(float(ops.sum(x)) - exact) <= 8 * np.finfo(dtype).eps * exact
    tall = np.full((100_003, 3), 0.1, dtype)
    np.testing.assert_allclose(ops.sum(tall, axis=0), np.full(3, float(x[0]) * 100_003), rtol=16 * np.finfo(dtype).eps)


@BOTH
def test_logsumexp_of_large_and_infinite_values(dtype, tw):
    x = np.array([[1e4, 1e4], [-1e4, -1e4], [np.inf, 0], [-np.inf, -np.inf], [-np.inf, 1], [np.nan, 0]], dtype)
    expected = [1e4 + np.log(2), -1e4 + np.log(2), np.inf, -np.inf, 1, np.nan]
    np.testing.assert_allclose(tw.ops.logsumexp(x, 1), np.array(expected, dtype), rtol=1e-6)
    gradient = tw.grad(lambda x: tw.ops.sum(tw.ops.logsumexp(x, 1)))(x[:2])
    np.testing.assert_allclose(gradient, np.full((2, 2), 0.5), rtol=1e-6)


@BOTH
def test_large_logits_of_yes_or_no(dtype, tw):
    x, t = np.array([1e4, -1e4, 50, -50, 0], dtype), np.array([1, 0, 1, 0, 1], dtype)
    loss = tw.ops.bce_with_logits(x, t, reduction="none")
    np.testing.assert_allclose(loss, np.log1p(np.exp(-np.abs(x.astype(np.float64)))), rtol=2e-6)
    wrong, gradient = tw.value_and_grad(lambda x: tw.ops.bce_with_logits(x, 1 - t, reduction="sum"))(x)
    np.testing.assert_allclose(wrong, 20100 + np.log(2), rtol=1e-6)
    np.testing.assert_allclose(gradient, [1, -1, 1, -1, 0.5], rtol=1e-6)


def test_derivatives_at_zero_and_at_bounds_are_torchs(tw, torch):
    """Length and deviation of equal numbers, clip at its bounds, Huber's and the absolute error at 0."""
    functions = {
        "norm": (lambda o, x: o.norm(x), lambda t, x: t.linalg.vector_norm(x)),
        "std": (lambda o, x: o.std(x), lambda t, x: t.std(x, correction=0)),
        "clip": (lambda o, x: o.sum(o.clip(x, 0.0, 1.0)), lambda t, x: t.clamp(x, 0.0, 1.0).sum()),
        "l1": (lambda o, x: o.l1(x, x * 0.0), lambda t, x: t.nn.functional.l1_loss(x, x.detach() * 0)),
        "huber": (lambda o, x: o.huber(x, x * 0.0), lambda t, x: t.nn.functional.huber_loss(x, x.detach() * 0)),
    }
    for name, (ours, theirs) in functions.items():
        for x in (np.zeros(3), np.ones(3), np.array([0.0, 1.0, 2.0])):
            leaf = torch.from_numpy(x.copy()).requires_grad_()
            theirs(torch, leaf).backward()
            gradient = tw.grad(lambda x, f=ours: f(tw.ops, x))(x)
            np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-12, atol=1e-15, err_msg=name)
    np.testing.assert_allclose(tw.hvp(lambda x: tw.ops.huber(x, np.zeros(3)), np.zeros(3), np.ones(3)), np.ones(3) / 3)
