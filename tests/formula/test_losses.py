"""Cross entropy, softmax and the squared error from their parts, and their derivatives."""

import numpy as np
import pytest
from thalweg import _core

from .measure import DTYPES, close, tangent_by_differences


def whole(name, *args):
    return _core.formula(name, *(np.ascontiguousarray(a) for a in np.broadcast_arrays(*args)))


def parts(z):
    highest = z.max(1, keepdims=True)
    return whole("log_sum_exp", highest, np.exp(z - highest).sum(1, keepdims=True))


def ref_cross_entropy(z, labels, smoothing):
    log_p = z - np.log(np.exp(z - z.max(1, keepdims=True)).sum(1, keepdims=True)) - z.max(1, keepdims=True)
    target = (1 - smoothing) * np.eye(z.shape[1])[labels] + smoothing / z.shape[1]
    return -(target * log_p).sum(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_and_its_derivative(smoothing):
    rng = np.random.default_rng(0)
    z, labels = rng.normal(size=(6, 4)) * 3, rng.integers(0, 4, 6)
    lse, z_label = parts(z)[:, 0], z[np.arange(6), labels]
    loss = whole("cross_entropy", lse, z_label, z.mean(1), smoothing)
    close(loss, ref_cross_entropy(z, labels, smoothing))
    target = whole("smooth_target", np.eye(4)[labels], smoothing, 4.0)
    close(target.sum(1), np.ones(6))
    d_loss, direction = rng.normal(size=6), rng.normal(size=z.shape)
    d_z = whole("cross_entropy_backward", d_loss[:, None], z, lse[:, None], target)
    moved = tangent_by_differences(lambda v: d_loss @ ref_cross_entropy(v, labels, smoothing), [z], [direction], h=1e-3)
    close(np.sum(d_z * direction), moved, rtol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_of_ten_thousand(dtype):
    z = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], dtype)
    lse = parts(z)[:, 0]
    close(whole("cross_entropy", lse, z[:, 0], z.mean(1), dtype(0)), [0.0, 2e4 + np.log(2)], rtol=1e-6)
    p = whole("softmax", z, lse[:, None])
    close(p, [[1, 0, 0], [0, 0.5, 0.5]], atol=1e-3 if dtype == np.float32 else 1e-9)


def test_softmax_and_log_softmax_backward():
    rng = np.random.default_rng(1)
    z, d_y, direction = rng.normal(size=(3, 5, 7))
    p = whole("softmax", z, parts(z))
    close(p.sum(1), np.ones(5))

    def soft(v):
        return np.exp(v - v.max(1, keepdims=True)) / np.exp(v - v.max(1, keepdims=True)).sum(1, keepdims=True)

    d_z = whole("softmax_backward", d_y, p, (d_y * p).sum(1, keepdims=True))
    close(
        np.sum(d_z * direction),
        tangent_by_differences(lambda v: np.sum(d_y * soft(v)), [z], [direction], h=1e-3),
        rtol=1e-9,
    )
    d_z = whole("log_softmax_backward", d_y, np.log(p), d_y.sum(1, keepdims=True))
    moved = tangent_by_differences(lambda v: np.sum(d_y * np.log(soft(v))), [z], [direction], h=1e-3)
    close(np.sum(d_z * direction), moved, rtol=1e-9)


def test_terms_of_impossible_classes_are_zero():
    t, z, lse = np.array([0.0, 1.0]), np.array([-np.inf, 2.0]), np.array([2.5, 2.5])
    np.testing.assert_array_equal(_core.formula("cross_entropy_term", t, z, lse), [0.0, 0.5])


def test_squared_error():
    rng = np.random.default_rng(2)
    p, t, d_loss = rng.normal(size=(3, 20))
    close(whole("squared_error", p, t), (p - t) ** 2)
    close(whole("mse_backward", d_loss, p, t, 20.0), d_loss * 2 * (p - t) / 20)
    _, d = _core.formula_jvp("squared_error", [p, t], [d_loss, np.zeros(20)])
    close(d, d_loss * 2 * (p - t))
