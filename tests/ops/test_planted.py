"""Mistakes planted in backward formulas are caught.

The checkers that test_gradients.py uses accept the engine's gradient and reject it with one classic mistake worked in.

To plant one in the engine itself, change a formula, rebuild, and run `pytest tests/ops tests/formula`; each must fail:
  cpp/formula/batch_norm.h   in the backward formula for the input, leave out the mean of d_y (or of d_y * x_hat)
  cpp/formula/activation.h   in gelu_backward, take the derivative of the tanh form
  cpp/formula/loss.h         in the gradient of the cross-entropy, take the one-hot target without label smoothing
test_gradients.py compares with torch and with differences of float64 references that share no code with the engine, so
a mistake made in forward and backward alike is caught too.
"""

import numpy as np
import pytest

from . import reference as r
from .checkers import TOLERANCE, assert_close, check_gradient
from .test_gradients import GRADIENT_SLACK

RNG = np.random.default_rng
SHAPE = (16, 5)


def batch_norm_sample():
    rng = RNG(0)
    return [rng.standard_normal(SHAPE), rng.uniform(0.5, 1.5, 5), rng.standard_normal(5)], rng.standard_normal(SHAPE)


def without_mean_of_d_y(args, u):
    x, gamma, _ = args
    inv_std = 1 / np.sqrt(x.var(0) + 1e-5)
    x_hat = (x - x.mean(0)) * inv_std
    d_hat = u * gamma
    return [inv_std * (d_hat - x_hat * (d_hat * x_hat).mean(0)), *r.ref_batch_norm_backward(u, x, gamma)[1:]]


def without_mean_of_d_y_x_hat(args, u):
    x, gamma, _ = args
    d_hat = u * gamma
    inv_std = 1 / np.sqrt(x.var(0) + 1e-5)
    return [inv_std * (d_hat - d_hat.mean(0)), *r.ref_batch_norm_backward(u, x, gamma)[1:]]


def with_unbiased_variance(args, u):
    x, gamma, _ = args
    right = r.ref_batch_norm_backward(u, x, gamma)
    return [right[0] * np.sqrt((len(x) - 1) / len(x)), *right[1:]]


def d_gamma_without_x_hat(args, u):
    """The lecture's misprint: sum of d_y where sum of d_y * x_hat is meant."""
    d_x, _, d_beta = r.ref_batch_norm_backward(u, args[0], args[1])
    return [d_x, d_beta, d_beta]


def gelu_sample():
    return [RNG(1).standard_normal((7, 9))], RNG(2).standard_normal((7, 9))


def tanh_gelu_derivative(args, u):
    x, h = args[0], 1e-5
    return [u * (r.ref_gelu_tanh(x + h) - r.ref_gelu_tanh(x - h)) / (2 * h)]


def gelu_without_density(args, u):
    return [u * 0.5 * (1 + r.ref_erf(args[0] / np.sqrt(2)))]


LABELS = RNG(3).integers(0, 6, 8)


def cross_entropy_sample():
    return [RNG(4).standard_normal((8, 6))], np.ones(())


def smoothing_forgotten(args, u):
    return [r.ref_cross_entropy_backward(u, args[0], LABELS, 0.0)]


def sum_instead_of_mean(args, u):
    return [len(LABELS) * r.ref_cross_entropy_backward(u, args[0], LABELS, 0.1)]


def batch_norm(ops):
    return (lambda x, g, b: ops.batch_norm(x, g, b)), r.ref_batch_norm, batch_norm_sample()


def gelu(ops):
    return (lambda x: ops.gelu(x)), r.ref_gelu, gelu_sample()


def cross_entropy(ops):
    return (
        (lambda x: ops.cross_entropy(x, LABELS, label_smoothing=0.1)),
        (lambda x: r.ref_cross_entropy(x, LABELS, 0.1)),
        cross_entropy_sample(),
    )


PLANTED = [
    (batch_norm, without_mean_of_d_y),
    (batch_norm, without_mean_of_d_y_x_hat),
    (batch_norm, with_unbiased_variance),
    (batch_norm, d_gamma_without_x_hat),
    (gelu, tanh_gelu_derivative),
    (gelu, gelu_without_density),
    (cross_entropy, smoothing_forgotten),
    (cross_entropy, sum_instead_of_mean),
]


def by_differences(ref, args, gradients, u):
    check_gradient(ref, args, gradients, RNG(5), u)


def by_reference(right, gradients, dtype):
    for actual, expected in zip(gradients, right, strict=True):
        assert_close(actual, expected, 5 * GRADIENT_SLACK[np.dtype(dtype)] * TOLERANCE[np.dtype(dtype)])


@pytest.mark.parametrize("operator, mistake", PLANTED, ids=lambda f: f.__name__)
def test_mistake_is_caught(operator, mistake, tw):
    f, ref, (args, u) = operator(tw.ops)
    _, pullback = tw.vjp(f, *args)
    right = pullback(u)
    by_differences(ref, args, right, u)
    wrong = mistake(args, u)
    with pytest.raises(AssertionError):
        by_differences(ref, args, wrong, u)
    for dtype in (np.float32, np.float64):
        _, pullback = tw.vjp(f, *[a.astype(dtype) for a in args])
        by_reference(right, pullback(np.asarray(u, dtype)), dtype)
        with pytest.raises(AssertionError):
            by_reference(right, [np.asarray(g, dtype) for g in wrong], dtype)


@pytest.mark.parametrize("operator", [batch_norm, gelu, cross_entropy], ids=lambda f: f.__name__)
def test_one_wrong_element_is_caught(operator, tw):
    """A single element off by one part in 10,000 of the tensor's scale."""
    f, _, (args, u) = operator(tw.ops)
    _, pullback = tw.vjp(f, *args)
    right = pullback(u)
    wrong = [g.copy() for g in right]
    wrong[0].flat[3] += 1e-4 * np.sqrt(np.mean(wrong[0] ** 2))
    with pytest.raises(AssertionError):
        by_reference(right, wrong, np.float64)
