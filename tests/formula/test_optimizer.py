"""Every update rule: the golden table (3 steps, w = 1, g = 0.5, -0.2, 0.7, lr = 0.1, eps = 0.1), and torch's rules."""

import numpy as np
import pytest
from thalweg import _core

from .measure import close

GRADIENTS = (0.5, -0.2, 0.7)
LR, EPS = 0.1, 0.1


def call(name, *args):
    return float(_core.formula(name, *(np.array([a], float) for a in args))[0])


def squares(g, decay, rest, inside):
    w, s = 1.0, 0.0
    for d in g:
        rates = (LR, decay, rest, EPS * inside, EPS * (not inside))
        w, s = (call(f"rmsprop_{part}", w, s, d, *rates) for part in "ws")
    return w


def adam(g, corrected, inside, beta1=0.9, beta2=0.999, eps=EPS, lr=LR):
    w, m, s = 1.0, 0.0, 0.0
    for t, d in enumerate(g, 1):
        c1, c2 = (call("bias_correction", b, t) if corrected else 1.0 for b in (beta1, beta2))
        rates = (lr * c1, beta1, 1 - beta1, beta2, 1 - beta2, c2, eps * inside, eps * (not inside))
        w, m, s = (call(f"adam_{part}", w, m, s, d, *rates) for part in "wms")
    return w


def momentum(rule, g, lrs, mu=0.9, gain=1.0, first=1.0):
    w, v = 1.0, 0.0
    for t, (d, lr) in enumerate(zip(g, lrs, strict=True)):
        w, v = (call(f"{rule}_{part}", w, v, d, lr, mu, first if t == 0 else gain) for part in "wv")
    return w


CONSTANT, FALLING = (0.1, 0.1, 0.1), (0.1, 0.01, 0.01)
GOLDEN = {
    "adagrad, eps inside": (lambda: squares(GRADIENTS, 1.0, 1.0, True), 0.8728899546),
    "adagrad, eps outside": (lambda: squares(GRADIENTS, 1.0, 1.0, False), 0.8767914464),
    "rmsprop, eps outside": (lambda: squares(GRADIENTS, 0.9, 0.1, False), 0.6931574191),
    "rmsprop, eps inside": (lambda: squares(GRADIENTS, 0.9, 0.1, True), 0.7464413282),
    "adam, lecture": (lambda: adam(GRADIENTS, False, True), 0.9471763431),
    "adam, standard": (lambda: adam(GRADIENTS, True, False), 0.8333381551),
    "adam, uncorrected": (lambda: adam(GRADIENTS, False, False), 0.8631513679),
    "adam, corrected, eps inside": (lambda: adam(GRADIENTS, True, True), 0.8320170198),
    "duda": (lambda: momentum("heavy_ball", GRADIENTS, CONSTANT, gain=0.1, first=0.1), 0.98325),
    "torch's dampening": (lambda: momentum("sgd_momentum", GRADIENTS, CONSTANT, gain=0.1), 0.8613),
    "torch's buffer": (lambda: momentum("sgd_momentum", GRADIENTS, CONSTANT), 0.8325),
    "heavy ball": (lambda: momentum("heavy_ball", GRADIENTS, CONSTANT), 0.8325),
    "heavy ball, falling lr": (lambda: momentum("heavy_ball", GRADIENTS, FALLING), 0.8613),
    "torch's buffer, falling lr": (lambda: momentum("sgd_momentum", GRADIENTS, FALLING), 0.93825),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_values(name):
    run, expected = GOLDEN[name]
    close(run(), expected, rtol=0, atol=6e-11)


def test_uncorrected_adam_exaggerates_the_step():
    steps = [(1 - 0.9**t) / np.sqrt(1 - 0.999**t) for t in range(1, 2000)]
    assert np.argmax(steps) + 1 == 12 and round(max(steps), 2) == 6.57
    one = 1 - adam([0.5] * 12, False, False, eps=0.0, lr=1.0) - (1 - adam([0.5] * 11, False, False, eps=0.0, lr=1.0))
    close(one, 6.57, rtol=1e-3)


def test_against_torch(torch):
    rng = np.random.default_rng(0)
    g = rng.normal(size=20)
    peers = {
        "adam": (lambda p: torch.optim.Adam([p], lr=LR, eps=EPS), lambda: adam(g, True, False)),
        "sgd": (lambda p: torch.optim.SGD([p], lr=LR, momentum=0.9), lambda: momentum("sgd_momentum", g, [LR] * 20)),
        "nesterov": (
            lambda p: torch.optim.SGD([p], lr=LR, momentum=0.9, nesterov=True),
            lambda: momentum("sgd_nesterov", g, [LR] * 20),
        ),
        "rmsprop": (
            lambda p: torch.optim.RMSprop([p], lr=LR, alpha=0.9, eps=EPS),
            lambda: squares(g, 0.9, 0.1, False),
        ),
        "adagrad": (lambda p: torch.optim.Adagrad([p], lr=LR, eps=EPS), lambda: squares(g, 1.0, 1.0, False)),
    }
    for peer, ours in peers.values():
        p = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
        optimizer = peer(p)
        for d in g:
            p.grad = torch.tensor(d)
            optimizer.step()
        close(ours(), p.item(), rtol=1e-12)


def test_rmsprop_with_momentum_against_torch(torch):
    g = np.random.default_rng(1).normal(size=20)
    p = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
    optimizer = torch.optim.RMSprop([p], lr=LR, alpha=0.9, eps=EPS, momentum=0.8)
    w, v, s = 1.0, 0.0, 0.0
    for d in g:
        p.grad = torch.tensor(d)
        optimizer.step()
        w, v, s = (call(f"rmsprop_momentum_{part}", w, v, s, d, LR, 0.9, 1 - 0.9, 0.0, EPS, 0.8) for part in "wvs")
    close(w, p.item(), rtol=1e-12)


def test_the_gradient_is_scaled_then_cut_then_decayed():
    close(call("gradient", 6.0, 2.0, 0.5, np.inf, 0.0), 3.0)
    close(call("gradient", 6.0, 2.0, 0.5, 1.0, 0.1), 1.2)
    close(call("gradient", -6.0, 2.0, 0.5, 1.0, 0.1), -0.8)
    assert np.isnan(call("gradient", np.nan, 2.0, 0.5, 1.0, 0.1))


def test_clipping_by_norm_is_exact_and_only_above():
    close(call("clip_scale", 5.0, 2.0), 0.4, rtol=0)
    assert call("clip_scale", 2.0, 2.0) == 1 and call("clip_scale", 0.0, 2.0) == 1
    assert call("clip_scale", 5.0, 0.0) == 1  # off
    assert call("clip_value", -3.0, 2.0) == -2 and call("clip_value", 1.5, 2.0) == 1.5
