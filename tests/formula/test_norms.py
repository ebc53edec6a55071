"""Moments and the normalising formulas: exactness of merges, and backward formulas against finite differences."""

import functools

import numpy as np
import pytest
from thalweg import _core

from .measure import DTYPES, close, same_bits, tangent_by_differences


def merge(a, b):
    return tuple(_core.formula(f"merge_{part}", *a, *b) for part in ("n", "mean", "m2"))


def random_moments(rng, n, dtype):
    counts = rng.integers(0, 200, n).astype(dtype)
    mean, m2 = (rng.normal(size=n) * 10 ** rng.uniform(-3, 3, n)).astype(dtype), rng.exponential(size=n).astype(dtype)
    return counts, np.where(counts > 0, mean, 0).astype(dtype), np.where(counts > 1, m2 * counts, 0).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_merge_is_bitwise_commutative(dtype):
    rng = np.random.default_rng(0)
    a, b = random_moments(rng, 50_000, dtype), random_moments(rng, 50_000, dtype)
    for x, y in zip(merge(a, b), merge(b, a), strict=True):
        assert same_bits(x, y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_is_an_exact_identity(dtype):
    a = random_moments(np.random.default_rng(1), 10_000, dtype)
    nothing = tuple(np.zeros(10_000, dtype) for _ in range(3))
    for merged in (merge(a, nothing), merge(nothing, a)):
        for x, y in zip(merged, a, strict=True):
            assert same_bits(x, y)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 4e-6), (np.float64, 1e-12)])
def test_merged_variance_survives_a_large_mean(dtype, rtol):
    x = (1000 + np.random.default_rng(2).normal(size=4096)).astype(dtype)
    one = np.ones(1, dtype)
    leaves = [(one, x[i : i + 1], 0 * one) for i in range(x.size)]
    while len(leaves) > 1:
        leaves = [merge(leaves[i], leaves[i + 1]) for i in range(0, len(leaves), 2)]
    n, mean, m2 = leaves[0]
    wide = x.astype(float)
    close(mean, wide.mean(), rtol=rtol)
    close(_core.formula("variance", n, m2), wide.var(), rtol=50 * rtol)
    close(_core.formula("unbiased_variance", n, m2), wide.var(ddof=1), rtol=50 * rtol)


def test_merge_in_any_order_is_the_whole():
    rng = np.random.default_rng(3)
    parts = [rng.normal(3, 2, size) for size in (0, 1, 7, 0, 64, 3)]
    moments = [
        tuple(np.array([float(x)]) for x in (len(p), p.mean() if len(p) else 0, p.var() * len(p) if len(p) else 0))
        for p in parts
    ]
    n, mean, m2 = functools.reduce(merge, moments)
    whole = np.concatenate(parts)
    close([n[0], mean[0], m2[0]], [whole.size, whole.mean(), whole.var() * whole.size])


def test_tangent_of_merge():
    rng = np.random.default_rng(4)
    args = [np.full(50, 3.0), *rng.normal(size=(2, 50)), np.full(50, 5.0), *rng.normal(size=(2, 50))]
    directions = [np.zeros(50), *rng.normal(size=(2, 50)), np.zeros(50), *rng.normal(size=(2, 50))]
    for name in ("merge_mean", "merge_m2"):
        _, d = _core.formula_jvp(name, args, directions)
        close(
            d,
            tangent_by_differences(functools.partial(_core.formula, name), args, directions, h=1e-3),
            rtol=1e-9,
            atol=1e-10,
        )


def normalized(x, gamma, beta, axis, eps=1e-5):
    mean, var = x.mean(axis, keepdims=True), x.var(axis, keepdims=True)
    return (x - mean) / np.sqrt(var + eps) * gamma + beta


def whole(name, *args):
    return _core.formula(name, *(np.ascontiguousarray(a) for a in np.broadcast_arrays(*args)))


def statistics(x, axis):
    mean, var = x.mean(axis, keepdims=True), x.var(axis, keepdims=True)
    return mean, whole("inv_std", var, np.full_like(var, 1e-5))


def test_batch_norm_forward_and_backward():
    rng = np.random.default_rng(5)
    x, d_y, (gamma, beta) = rng.normal(2, 3, (16, 5)), rng.normal(size=(16, 5)), rng.normal(size=(2, 5))
    mean, inv_std = statistics(x, 0)
    x_hat = whole("normalize", x, mean, inv_std)
    close(whole("affine", x_hat, gamma, beta), normalized(x, gamma, beta, 0))
    d_x = whole("normalize_backward", d_y, x_hat, d_y.mean(0), (d_y * x_hat).mean(0), gamma * inv_std)
    direction = rng.normal(size=x.shape)
    moved = tangent_by_differences(lambda v: np.sum(d_y * normalized(v, gamma, beta, 0)), [x], [direction], h=1e-3)
    close(np.sum(d_x * direction), moved, rtol=1e-8)
    close(d_x.sum(0), np.zeros(5), atol=1e-12)  # shifting a channel changes nothing


def test_layer_norm_forward_and_backward():
    rng = np.random.default_rng(6)
    x, d_y, (gamma, beta) = rng.normal(2, 3, (7, 9)), rng.normal(size=(7, 9)), rng.normal(size=(2, 9))
    mean, inv_std = statistics(x, 1)
    x_hat = whole("normalize", x, mean, inv_std)
    close(whole("layer_norm", x, mean, inv_std, gamma, beta), normalized(x, gamma, beta, 1))
    d_hat = gamma * d_y
    means = d_hat.mean(1, keepdims=True), (d_hat * x_hat).mean(1, keepdims=True)
    d_x = whole("layer_norm_backward", d_y, gamma, x_hat, *means, inv_std)
    direction = rng.normal(size=x.shape)
    moved = tangent_by_differences(lambda v: np.sum(d_y * normalized(v, gamma, beta, 1)), [x], [direction], h=1e-3)
    close(np.sum(d_x * direction), moved, rtol=1e-8)


def test_lecture_chain_equals_the_fused_form():
    """d_var, d_mean, d_x step by step, as in batch_norm.h, with the term that is identically 0 kept."""
    rng = np.random.default_rng(7)
    x, d_y, gamma = rng.normal(size=(12, 4)), rng.normal(size=(12, 4)), rng.normal(size=4)
    (mean, inv_std), m = statistics(x, 0), 12
    d_hat = gamma * d_y
    d_var = np.sum(d_hat * (x - mean) * -0.5 * inv_std**3, 0)
    d_mean = np.sum(-d_hat * inv_std, 0) + d_var * np.sum(-2 * (x - mean), 0) / m
    chain = d_hat * inv_std + d_var * 2 * (x - mean) / m + d_mean / m
    x_hat = (x - mean) * inv_std
    fused = whole("normalize_backward", d_y, x_hat, d_y.mean(0), (d_y * x_hat).mean(0), gamma * inv_std)
    close(fused, chain, rtol=1e-12, atol=1e-13)


def test_running_statistics():
    old, batch = np.array([1.0, -2.0]), np.array([3.0, 5.0])
    close(_core.formula("running", old, batch, np.full(2, 0.1)), 0.9 * old + 0.1 * batch)
