"""Optimizers on NumPy arrays: the numbers of a Trainer, in place; a call that is refused changes nothing."""

import numpy as np
import pytest

from .test_rules import GOLDEN, GRADIENTS


@pytest.mark.parametrize(("name", "options", "expected"), GOLDEN)
def test_golden_values(name, options, expected, tw):
    optimizer = getattr(tw.optim, name)(lr=0.1, **options)
    w = np.ones(3)
    state = optimizer.init(w)
    for g in GRADIENTS:
        optimizer.update(w, np.full(3, g), state)
    assert np.abs(w - expected).max() < 1e-9
    assert state.t == len(GRADIENTS)


def test_trees_groups_schedules_and_scale(tw):
    optimizer = tw.optim.SGD(lambda t: 0.1 if t == 0 else 0.01, groups=[{"params": "*.bias", "lr": 1.0}])
    params = {"head": {"weight": np.ones((2, 3)), "bias": np.zeros(2, np.float32)}, "rest": [np.ones(4), None]}
    grads = {"head": {"weight": np.ones((2, 3)), "bias": np.ones(2)}, "rest": [np.ones(4), None]}
    state = optimizer.init(params)
    optimizer.update(params, grads, state)
    optimizer.update(params, grads, state, grad_scale=0.5)
    assert np.allclose(params["head"]["weight"], 1 - 0.1 - 0.005)
    assert np.allclose(params["head"]["bias"], -1.5)
    assert np.allclose(params["rest"][0], 1 - 0.1 - 0.005)


def test_descends_with_grad(tw):
    w = np.array([2.0, -3.0])
    optimizer = tw.optim.Adam(lr=0.1)
    state = optimizer.init(w)
    gradient = tw.grad(lambda w: tw.ops.sum(w * w))
    for _ in range(200):
        optimizer.update(w, gradient(w), state)
    assert np.abs(w).max() < 1e-2


BAD = [
    (lambda w: [w, [1.0]], TypeError, "params.1|1.0|float"),
    (lambda w: w.astype(int), TypeError, "int64"),
    (lambda w: np.ones((4, 4))[:, ::2], ValueError, "contiguous"),
    (lambda w: np.broadcast_to(1.0, (3,)), ValueError, "writable"),
]


@pytest.mark.parametrize(("make", "error", "words"), BAD)
def test_parameters_that_can_not_change_in_place_are_refused(make, error, words, tw):
    with pytest.raises(error, match=words):
        tw.optim.SGD(0.1).init(make(np.ones(3)))


def test_a_refused_update_changes_nothing(tw):
    optimizer = tw.optim.Adam(lr=0.1)
    params = [np.ones(3), np.ones(2)]
    state = optimizer.init(params)
    for grads, words in [
        ([np.ones(3), np.ones(5)], "shape"),
        ([np.ones(3)], "structure"),
        ([np.ones(3), np.ones(2, complex)], "complex128"),
        ([np.ones(3), params[1]], "share memory"),
    ]:
        with pytest.raises((ValueError, TypeError), match=words):
            optimizer.update(params, grads, state)
    with pytest.raises(ValueError, match=r"1 arrays|state of"):
        optimizer.update(params, params[::-1], optimizer.init(params[0]))
    assert state.t == 0 and (params[0] == 1).all() and (params[1] == 1).all() and not state.arrays[0].any()


def test_a_group_of_a_module_is_refused(tw):
    net = tw.nn.Linear(2)
    with pytest.raises(TypeError, match="module"):
        tw.optim.SGD(0.1, groups=[{"params": net, "lr": 1.0}]).init(np.ones(3))
