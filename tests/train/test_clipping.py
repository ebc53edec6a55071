"""Clipping per layer: every parameter's gradient has at most the given norm, the others keep their direction."""

import numpy as np
import pytest
import thalweg as tw
from thalweg import nn


def step(limit, world=1):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 6)), rng.integers(0, 3, 16)
    net = nn.Sequential(nn.Linear(8), nn.Tanh(), nn.Linear(3))
    trainer = tw.Trainer(
        net, tw.losses.CrossEntropy(), tw.optim.SGD(lr=1.0), dtype="float64", max_layer_norm=limit, world=world
    ).build(x, y)
    before, gradients = trainer.parameters(), trainer.gradients(x, y)
    trainer.step(x, y)
    after = trainer.parameters()
    return gradients, {name: before[name] - after[name] for name in before}


@pytest.mark.parametrize("world", [1, 2])
def test_each_parameter_is_limited_on_its_own(world):
    limit = 0.05
    gradients, moved = step(limit, world)
    assert any(np.linalg.norm(g) > limit for g in gradients.values())
    for name, g in gradients.items():
        scale = min(1.0, limit / np.linalg.norm(g))
        np.testing.assert_allclose(moved[name], scale * g, rtol=1e-12, atol=1e-16)


def test_a_wide_limit_changes_nothing():
    gradients, moved = step(1e6)
    for name, g in gradients.items():
        np.testing.assert_allclose(moved[name], g, rtol=1e-12, atol=1e-16)
