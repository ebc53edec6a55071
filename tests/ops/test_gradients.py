"""Derivatives of every row of the table: reverse mode against torch and differences, forward mode against differences
and against reverse mode, second derivatives against differences of the first and for symmetry."""

import numpy as np
import pytest

from .checkers import TOLERANCE, assert_close, check_gradient, check_jvp, difference, inner
from .row import each_sample
from .table import TABLE

SMOOTH = list(each_sample(TABLE, lambda row: row.smooth))
IDS = [name for name, _, _ in SMOOTH]
CASES = [case[1:] for case in SMOOTH]
CURVED = list(each_sample(TABLE, lambda row: row.smooth and row.curved))
GRADIENT_SLACK = {np.dtype(np.float32): 4.0, np.dtype(np.float64): 10.0}  # over the forward tolerance


def pulled_back(tw, row, sample, dtype):
    """(output, cotangent, gradients) of the engine for one sample."""
    f, reals = row.with_reals(sample, lambda *a: row.call(tw.ops, *a), dtype)
    y, pullback = tw.vjp(f, *reals)
    cotangent = np.asarray(np.random.default_rng(7).standard_normal(y.shape).astype(np.float32), dtype)
    return y, cotangent, pullback(cotangent)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("row, sample", CASES, ids=IDS)
def test_gradient_equals_torch(row, sample, dtype, tw, torch):
    if row.torch is None:
        pytest.skip("torch has no such operator")
    _, cotangent, gradients = pulled_back(tw, row, sample, dtype)
    tensors = [torch.from_numpy(a) for a in row.arrays(sample)]
    wrt = [tensors[i].requires_grad_() for i in row.wrt(sample)]
    y = row.torch(torch, *tensors)
    expected = torch.autograd.grad(y, wrt, torch.from_numpy(np.asarray(cotangent, np.float64)))
    assert isinstance(gradients, tuple) and len(gradients) == len(wrt)
    tolerance = row.loose * GRADIENT_SLACK[np.dtype(dtype)] * TOLERANCE[np.dtype(dtype)]
    for i, actual, e in zip(row.wrt(sample), gradients, expected, strict=True):
        assert actual.dtype == dtype
        assert_close(actual, e.numpy(), tolerance, f"{row.name}: gradient of argument {i}")


@pytest.mark.parametrize("row, sample", CASES, ids=IDS)
def test_gradient_equals_differences(row, sample, tw):
    _, cotangent, gradients = pulled_back(tw, row, sample, np.float64)
    ref, reals = row.with_reals(sample, row.ref)
    check_gradient(ref, reals, gradients, np.random.default_rng(3), cotangent, what=row.name)


@pytest.mark.parametrize("row, sample", CASES, ids=IDS)
def test_tangent_equals_differences_and_is_the_adjoint(row, sample, tw):
    f, reals = row.with_reals(sample, lambda *a: row.call(tw.ops, *a))
    ref, _ = row.with_reals(sample, row.ref)

    def jvp(tangents):
        return tw.jvp(f, reals, tangents)[1]

    check_jvp(ref, reals, jvp, np.random.default_rng(4), what=row.name)
    _, u, gradients = pulled_back(tw, row, sample, np.float64)
    v = [np.random.default_rng([5, i]).standard_normal(x.shape) for i, x in enumerate(reals)]
    forward, reverse = inner([u], [jvp(v)]), inner(gradients, v)
    assert abs(forward - reverse) <= 1e-11 * (abs(forward) + np.sqrt(inner(gradients, gradients)) + 1)


@pytest.mark.parametrize("row, sample", [c[1:] for c in CURVED], ids=[c[0] for c in CURVED])
def test_hvp_equals_differences_and_is_symmetric(row, sample, tw):
    """Of sum(y + y^2 / 2), whose Hessian reaches every second derivative of the operator."""
    call, reals = row.with_reals(sample, lambda *a: row.call(tw.ops, *a))

    def f(*a):
        y = call(*a)
        return tw.ops.add(tw.ops.sum(y), tw.ops.mul(tw.ops.sum(tw.ops.square(y)), 0.5))

    everything = tuple(range(len(reals)))
    gradient = tw.grad(f, argnums=everything)
    rng = np.random.default_rng(6)
    u = [rng.standard_normal(x.shape) for x in reals]
    v = [rng.standard_normal(x.shape) for x in reals]
    hv, hu = tw.hvp(f, reals, v), tw.hvp(f, reals, u)
    scale = np.sqrt(inner(hv, hv)) + np.sqrt(inner(hu, hu)) + 1e-6
    assert abs(inner(u, hv) - inner(v, hu)) <= 1e-10 * scale * (1 + np.sqrt(inner(u, u)) + np.sqrt(inner(v, v)))
    for k, h in enumerate(hv):
        expected = difference(lambda *a, k=k: gradient(*a)[k], reals, v, step=3e-4)
        assert_close(h, expected, 1e-6, f"{row.name}: Hessian times vector, argument {k}")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_maximum_and_minimum_split_ties_in_halves(dtype, tw):
    a, b = np.array([1, 2, 3], dtype), np.array([1, 5, 3], dtype)
    for name, expected in (("maximum", [0.5, 0, 0.5]), ("minimum", [0.5, 1, 0.5])):
        _, pullback = tw.vjp(getattr(tw.ops, name), a, b)
        d_a, d_b = pullback(np.ones(3, dtype))
        np.testing.assert_array_equal(d_a, np.array(expected, dtype))
        np.testing.assert_array_equal(d_b, 1 - np.array(expected, dtype))


def test_reduced_maxima_share_ties_evenly_as_torch_amax(tw, torch):
    x = np.array([[1.0, 3, 3, 0], [2, 2, 2, 2], [0, 0, 5, 1]])
    for name in ("max", "min"):
        _, pullback = tw.vjp(lambda a, name=name: getattr(tw.ops, name)(a, axis=1), x)
        t = torch.from_numpy(x).requires_grad_()
        getattr(torch, "a" + name)(t, dim=1).backward(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
        np.testing.assert_array_equal(pullback(np.array([1.0, 2.0, 3.0]))[0], t.grad.numpy())


def test_pooled_maximum_gives_its_gradient_to_the_first_of_ties(tw):
    x = np.zeros((1, 2, 4, 1))
    _, pullback = tw.vjp(lambda a: tw.ops.max_pool2d(a, 2), x)
    expected = np.array([[1.0, 0, 2, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(pullback(np.array([1.0, 2.0]).reshape(1, 1, 2, 1))[0][0, :, :, 0], expected)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "abs"])
def test_derivative_at_the_kink_is_torchs(name, tw, torch):
    t = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    torch_of = {"relu": torch.relu, "leaky_relu": torch.nn.functional.leaky_relu, "abs": torch.abs}[name]
    torch_of(t).sum().backward()
    _, pullback = tw.vjp(getattr(tw.ops, name), np.zeros(1))
    assert pullback(np.ones(1))[0] == t.grad.numpy()
