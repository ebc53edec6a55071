"""Hessian-vector products of whole networks: exact, against torch's dense Hessian, in float64."""

import numpy as np
import pytest

from .networks import NETWORKS

LIMIT = 1e-10


def dense_hessian(torch, network):
    """Torch's Hessian of the loss over all parameters in one vector, in the dict's order."""
    shapes = {k: v.shape for k, v in network.parameters.items()}
    flat = torch.from_numpy(np.concatenate([v.ravel() for v in network.parameters.values()]))

    def loss(vector):
        parts = torch.split(vector, [int(np.prod(s)) for s in shapes.values()])
        return network.torch_loss(torch, {k: p.reshape(s) for (k, s), p in zip(shapes.items(), parts, strict=True)})

    return torch.autograd.functional.hessian(loss, flat).numpy()


def direction(network, seed):
    rng = np.random.default_rng(seed)
    return {k: rng.standard_normal(p.shape) for k, p in network.parameters.items()}


def flat(tree):
    return np.concatenate([np.ravel(v) for v in tree.values()])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("make", NETWORKS, ids=lambda f: f.__name__)
def test_hvp_equals_torchs_dense_hessian(make, tw, torch):
    network = make()
    assert network.size <= 2000
    hessian = dense_hessian(torch, network)
    for seed in range(10):
        v = direction(network, seed)
        hv = tw.hvp(lambda p: network.loss(tw.ops, p), (network.parameters,), (v,))
        assert isinstance(hv, tuple) and list(hv[0]) == list(network.parameters)
        expected = hessian @ flat(v)
        error = np.linalg.norm(flat(hv[0]) - expected) / np.linalg.norm(expected)
        assert error <= LIMIT, f"direction {seed}: relative error {error:.3g}"


@pytest.mark.parametrize("make", NETWORKS, ids=lambda f: f.__name__)
def test_hvp_is_symmetric_linear_and_the_tangent_of_the_gradient(make, tw):
    network = make()

    def loss(p):
        return network.loss(tw.ops, p)

    def hvp(v):
        return flat(tw.hvp(loss, (network.parameters,), (v,))[0])

    u, v = direction(network, 1), direction(network, 2)
    hu, hv = hvp(u), hvp(v)
    assert abs(flat(u) @ hv - flat(v) @ hu) <= 1e-11 * np.linalg.norm(hu) * np.linalg.norm(flat(v))
    both = hvp({k: 2 * u[k] - v[k] for k in u})
    np.testing.assert_allclose(both, 2 * hu - hv, atol=1e-11 * np.linalg.norm(both))
    gradient = tw.grad(loss)
    h = 1e-5

    def at(t):
        return flat(gradient({k: p + t * v[k] for k, p in network.parameters.items()}))

    expected = (at(h) - at(-h)) / (2 * h)
    assert np.linalg.norm(hv - expected) <= 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("make", NETWORKS, ids=lambda f: f.__name__)
def test_gradient_equals_torch(make, tw, torch):
    network = make()
    tensors = {k: torch.from_numpy(p).requires_grad_() for k, p in network.parameters.items()}
    loss = network.torch_loss(torch, tensors)
    loss.backward()
    value, gradient = tw.value_and_grad(lambda p: network.loss(tw.ops, p))(network.parameters)
    assert abs(value - loss.item()) <= 1e-13 * abs(loss.item())
    for k, t in tensors.items():
        expected = t.grad.numpy()
        error = np.linalg.norm(gradient[k] - expected)
        assert error <= 1e-12 * np.linalg.norm(expected) + 1e-15, k


@pytest.mark.parametrize("make", NETWORKS[:2], ids=lambda f: f.__name__)
def test_hvp_in_float32_is_close(make, tw):
    network = make()
    v = direction(network, 0)
    exact = flat(tw.hvp(lambda p: network.loss(tw.ops, p), (network.parameters,), (v,))[0])

    def single(tree):
        return {k: a.astype(np.float32) for k, a in tree.items()}

    # The data of the network are float64 arrays: without the precision of the parameters nothing would be float32.
    hv = tw.hvp(lambda p: network.loss(tw.ops, p), (single(network.parameters),), (single(v),))[0]
    assert np.linalg.norm(flat(hv) - exact) <= 1e-4 * np.linalg.norm(exact)


def test_hvp_of_a_quadratic_is_the_matrix(tw):
    a = np.random.default_rng(0).standard_normal((6, 6))

    def f(x):
        return 0.5 * tw.ops.sum(x * tw.ops.matmul(a, tw.ops.reshape(x, (6, 1))).reshape(6))

    x, v = np.ones(6), np.arange(6.0)
    np.testing.assert_allclose(tw.hvp(f, (x,), (v,))[0], 0.5 * (a + a.T) @ v, rtol=1e-13)


def test_golden_second_derivatives(tw):
    """d2 tanh = -2 t (1 - t^2); d2 x^4 = 12 x^2; d2 of the saddle x^2 - y^2 = (2, -2)."""
    x, one = np.array([0.3, -1.2, 2.0]), np.ones(3)
    t = np.tanh(x)
    np.testing.assert_allclose(
        tw.hvp(lambda a: tw.ops.tanh(a).sum(), (x,), (one,))[0], -2 * t * (1 - t * t), rtol=1e-14
    )
    np.testing.assert_allclose(tw.hvp(lambda a: (a**4).sum(), (x,), (one,))[0], 12 * x * x, rtol=1e-14)
    hv = tw.hvp(lambda x, y: (x * x - y * y).sum(), (np.ones(1), np.ones(1)), (np.ones(1), np.ones(1)))
    np.testing.assert_array_equal(np.concatenate(hv), [2.0, -2.0])
