"""The optimizer's pass gives the same bits on the GPU as on the CPU: every rule, three updates of one array."""

import numpy as np
import pytest
from thalweg import _core

from .numbers import columns, differences

RULES = {
    "sgd": {"name": "sgd"},
    "momentum": {"name": "sgd", "momentum": True},
    "nesterov": {"name": "sgd", "momentum": True, "nesterov": True},
    "heavy_ball": {"name": "heavy_ball", "momentum": True},
    "duda": {"name": "duda", "momentum": True},
    "adagrad": {"name": "adagrad"},
    "rmsprop": {"name": "rmsprop"},
    "rmsprop_momentum": {"name": "rmsprop", "momentum": True},
    "adam": {"name": "adam"},
    "adam_lecture": {"name": "adam", "eps_inside": True, "bias_correction": False},
    "adamw": {"name": "adam", "decoupled": True},
}
RATES = {"lr": 0.01, "momentum": 0.9, "dampening": 0.1, "beta1": 0.9, "beta2": 0.999, "decay": 0.99, "eps": 1e-8}
RATES["weight_decay"] = 0.05


def updated(rule, w, gradients, device):
    w, state = w.copy(), np.zeros((_core.states(rule), w.size), w.dtype)
    rates = np.array([RATES[field] for field in _core.RATE_FIELDS])
    for t, g in enumerate(gradients, 1):
        _core.update(rule, t, rates, w, g, state, grad_scale=0.125, device=device)
    return [w, *state]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", RULES)
def test_same_bits(name, dtype, gpu):
    w, *gradients = columns(dtype)[0][:4]
    cpu, cuda = (updated(RULES[name], w, gradients, device) for device in ("cpu", "cuda"))
    lines = [line for a, b in zip(cpu, cuda, strict=True) for line in differences(name, [w, *gradients], a, b)]
    assert not lines, "\n".join(lines)
