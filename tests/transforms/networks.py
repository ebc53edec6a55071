"""Small networks written twice, with thalweg.ops and with torch, on the same dict of float64 parameters.

Each is (parameters, loss of thalweg, loss of torch), with at most 2,000 parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Parameters = dict[str, np.ndarray]


@dataclass
class Network:
    name: str
    parameters: Parameters
    loss: Callable[[Any, Any], Any]  # (tw.ops, parameters) -> scalar
    torch_loss: Callable[[Any, Any], Any]  # (torch, parameters) -> scalar

    @property
    def size(self) -> int:
        return sum(p.size for p in self.parameters.values())


def draw(rng, **shapes):
    """Weights N(0, 1/fan_in); vectors near 1 for scales (gamma...) and near 0 otherwise."""
    out = {}
    for name, shape in shapes.items():
        scale = 0.3 if len(shape) == 1 else 1 / np.sqrt(np.prod(shape[1:]))
        out[name] = scale * rng.standard_normal(shape) + (1.0 if name.startswith("gamma") else 0.0)
    return out


def nchw(x):
    return x.permute(0, 3, 1, 2)


def dense_tanh() -> Network:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((16, 12)), rng.integers(0, 5, 16)
    p = draw(rng, w1=(20, 12), b1=(20,), w2=(15, 20), b2=(15,), w3=(5, 15), b3=(5,))

    def loss(ops, p):
        h = ops.tanh(ops.linear(x, p["w1"], p["b1"]))
        h = ops.tanh(ops.linear(h, p["w2"], p["b2"]))
        return ops.cross_entropy(ops.linear(h, p["w3"], p["b3"]), y, label_smoothing=0.1)

    def torch_loss(t, p):
        f, xt, yt = t.nn.functional, t.from_numpy(x), t.from_numpy(y)
        h = t.tanh(f.linear(xt, p["w1"], p["b1"]))
        h = t.tanh(f.linear(h, p["w2"], p["b2"]))
        return f.cross_entropy(f.linear(h, p["w3"], p["b3"]), yt, label_smoothing=0.1)

    return Network("dense_tanh", p, loss, torch_loss)


def dense_batch_norm() -> Network:
    """Batch statistics couple the samples: the Hessian goes through mean and variance."""
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((24, 20)), rng.integers(0, 6, 24)
    p = draw(rng, w1=(32, 20), gamma1=(32,), beta1=(32,), w2=(24, 32), gamma2=(24,), beta2=(24,), w3=(6, 24), b3=(6,))

    def loss(ops, p):
        h = ops.gelu(ops.batch_norm(ops.linear(x, p["w1"]), p["gamma1"], p["beta1"]))
        h = ops.sigmoid(ops.batch_norm(ops.linear(h, p["w2"]), p["gamma2"], p["beta2"]))
        return ops.cross_entropy(ops.linear(h, p["w3"], p["b3"]), y)

    def torch_loss(t, p):
        f = t.nn.functional

        def norm(h, i):
            return f.batch_norm(h, None, None, p[f"gamma{i}"], p[f"beta{i}"], training=True)

        h = f.gelu(norm(f.linear(t.from_numpy(x), p["w1"]), 1))
        h = t.sigmoid(norm(f.linear(h, p["w2"]), 2))
        return f.cross_entropy(f.linear(h, p["w3"], p["b3"]), t.from_numpy(y))

    return Network("dense_batch_norm", p, loss, torch_loss)


def dense_relu_layer_norm() -> Network:
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((10, 15)), rng.standard_normal((10, 4))
    p = draw(rng, w1=(30, 15), gamma1=(30,), beta1=(30,), w2=(4, 30), b2=(4,))

    def loss(ops, p):
        h = ops.relu(ops.layer_norm(ops.linear(x, p["w1"]), p["gamma1"], p["beta1"]))
        return ops.mse(ops.linear(h, p["w2"], p["b2"]), y)

    def torch_loss(t, p):
        f = t.nn.functional
        h = f.linear(t.from_numpy(x), p["w1"])
        h = t.relu(f.layer_norm(h, (30,), p["gamma1"], p["beta1"]))
        return f.mse_loss(f.linear(h, p["w2"], p["b2"]), t.from_numpy(y))

    return Network("dense_relu_layer_norm", p, loss, torch_loss)


def conv_batch_norm() -> Network:
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((6, 8, 8, 2)), rng.integers(0, 5, 6)
    p = draw(
        rng, k1=(8, 3, 3, 2), gamma1=(8,), beta1=(8,), k2=(10, 3, 3, 8), gamma2=(10,), beta2=(10,), w=(5, 40), b=(5,)
    )

    def loss(ops, p):
        h = ops.tanh(ops.batch_norm(ops.conv2d(x, p["k1"], padding=1), p["gamma1"], p["beta1"]))
        h = ops.avg_pool2d(h, 2)
        h = ops.softplus(ops.batch_norm(ops.conv2d(h, p["k2"], padding=1), p["gamma2"], p["beta2"]))
        return ops.cross_entropy(ops.linear(ops.flatten(ops.avg_pool2d(h, 2)), p["w"], p["b"]), y)

    def torch_loss(t, p):
        f = t.nn.functional

        def block(h, i):
            h = f.conv2d(h, nchw(p[f"k{i}"]), padding=1)
            return f.batch_norm(h, None, None, p[f"gamma{i}"], p[f"beta{i}"], training=True)

        h = f.avg_pool2d(t.tanh(block(nchw(t.from_numpy(x)), 1)), 2)
        h = f.avg_pool2d(f.softplus(block(h, 2), threshold=1000), 2)
        return f.cross_entropy(f.linear(h.permute(0, 2, 3, 1).flatten(1), p["w"], p["b"]), t.from_numpy(y))

    return Network("conv_batch_norm", p, loss, torch_loss)


def conv_residual() -> Network:
    """Strides, groups, a residual sum, ReLU, max pooling, a shared kernel, global pooling."""
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((5, 9, 9, 3)), rng.integers(0, 4, 5)
    p = draw(rng, k1=(8, 3, 3, 3), k2=(8, 3, 3, 4), gamma=(8,), beta=(8,), k3=(12, 1, 1, 8), w=(4, 12), b=(4,))

    def loss(ops, p):
        h = ops.relu(ops.conv2d(x, p["k1"], padding=1, stride=2))
        for _ in range(2):
            z = ops.conv2d(h, p["k2"], padding=1, groups=2)
            h = ops.relu(ops.add(h, ops.batch_norm(z, p["gamma"], p["beta"])))
        h = ops.max_pool2d(ops.tanh(ops.conv2d(h, p["k3"])), 2)
        return ops.cross_entropy(ops.linear(ops.global_avg_pool2d(h), p["w"], p["b"]), y)

    def torch_loss(t, p):
        f = t.nn.functional
        h = t.relu(f.conv2d(nchw(t.from_numpy(x)), nchw(p["k1"]), padding=1, stride=2))
        for _ in range(2):
            z = f.conv2d(h, nchw(p["k2"]), padding=1, groups=2)
            h = t.relu(h + f.batch_norm(z, None, None, p["gamma"], p["beta"], training=True))
        h = f.max_pool2d(t.tanh(f.conv2d(h, nchw(p["k3"]))), 2)
        return f.cross_entropy(f.linear(h.mean((2, 3)), p["w"], p["b"]), t.from_numpy(y))

    return Network("conv_residual", p, loss, torch_loss)


NETWORKS = [dense_tanh, dense_batch_norm, dense_relu_layer_norm, conv_batch_norm, conv_residual]
