"""Dropout: inverted scaling, masks that are a function of (seed, step, position) and nothing else."""

import numpy as np
import pytest

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@BOTH
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_kept_elements_are_scaled_and_the_share_is_right(dtype, p, ops):
    x = np.ones((400, 100), dtype)
    y = ops.dropout(x, p, seed=3)
    kept = y != 0
    np.testing.assert_allclose(y[kept], 1 / (1 - p), rtol=1e-6)
    assert abs(kept.mean() - (1 - p)) < 5 * np.sqrt(p * (1 - p) / x.size)
    assert np.all(kept.mean(0) > 0) or p == 0.9


def test_no_pattern_between_neighbours(ops):
    """Rows, columns and seeds are independent: correlations of masks are within 5 standard errors of 0."""
    masks = [ops.dropout(np.ones((512, 64), np.float32), 0.5, seed=s, step=t) - 1 for s, t in ((0, 0), (0, 1), (1, 0))]
    limit = 5 / np.sqrt(masks[0].size)
    for a, b in (
        (masks[0], masks[1]),
        (masks[0], masks[2]),
        (masks[0][1:], masks[0][:-1]),
        (masks[0][:, 1:], masks[0][:, :-1]),
    ):
        assert abs(np.mean(a * b)) < limit * 1.1


def test_mask_depends_on_seed_and_step_alone(ops):
    x = np.random.default_rng(0).standard_normal((32, 17)).astype(np.float32)
    y = ops.dropout(x, 0.4, seed=5, step=2)
    np.testing.assert_array_equal(y, ops.dropout(x, 0.4, seed=5, step=2))
    assert (y != ops.dropout(x, 0.4, seed=6, step=2)).any() and (y != ops.dropout(x, 0.4, seed=5, step=3)).any()
    ones = np.ones_like(x)
    np.testing.assert_array_equal(ops.dropout(ones, 0.4, seed=5, step=2) != 0, y != 0)
    double = ops.dropout(ones.astype(np.float64), 0.4, seed=5, step=2)
    np.testing.assert_array_equal(double != 0, y != 0)


def test_a_row_keeps_its_mask_when_rows_follow(ops):
    """The mask is keyed by row and position within the row: a longer batch does not move it."""
    short = ops.dropout(np.ones((5, 9), np.float32), 0.5, seed=1)
    long = ops.dropout(np.ones((50, 9), np.float32), 0.5, seed=1)
    np.testing.assert_array_equal(short, long[:5])


@BOTH
def test_gradient_uses_the_same_mask(dtype, tw):
    x = np.random.default_rng(0).uniform(1, 2, (33, 7)).astype(dtype)
    y, pullback = tw.vjp(lambda a: tw.ops.dropout(a, 0.3, seed=4, step=9), x)
    np.testing.assert_allclose(pullback(np.ones_like(x))[0], y / x, rtol=1e-6)
    _, tangent = tw.jvp(lambda a: tw.ops.dropout(a, 0.3, seed=4, step=9), (x,), (np.ones_like(x),))
    np.testing.assert_array_equal(tangent, pullback(np.ones_like(x))[0])


def test_nothing_and_everything(tw):
    x = np.array([[1.0, -2.0, 3.0]])
    np.testing.assert_array_equal(tw.ops.dropout(x, 0.0), x)
    np.testing.assert_array_equal(tw.ops.dropout(x, 1.0), np.zeros_like(x))
    _, pullback = tw.vjp(lambda a: tw.ops.dropout(a, 1.0), x)
    np.testing.assert_array_equal(pullback(np.ones_like(x))[0], np.zeros_like(x))


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_probability_outside_its_range(p, ops):
    with pytest.raises(ValueError, match=r"\[dropout.*p") as caught:
        ops.dropout(np.ones((2, 2)), p)
    assert str(p) in str(caught.value)
