"""Learning-rate schedules and the deviations of initial weights."""

import math

import numpy as np
from thalweg import _core

from .measure import close


def call(name, *args):
    return _core.formula(name, *(np.ascontiguousarray(a, dtype=float) for a in np.broadcast_arrays(*args)))


T = np.arange(0, 120.0)


def test_step():
    close(call("step_factor", T, 30.0, 0.1), 0.1 ** (T // 30))


def test_cosine():
    share = np.minimum(T / 100, 1)
    close(call("cosine_factor", T, 100.0, 0.05), 0.05 + 0.95 * (1 + np.cos(np.pi * share)) / 2, rtol=1e-14)


def test_warmup_and_inverse_time():
    close(call("warmup_factor", T, 10.0), np.minimum((T + 1) / 10, 1))
    close(call("inverse_time_factor", T, 25.0), 25 / (25 + T))


def test_one_cycle_against_torch(torch):
    p = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([p], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=101, pct_start=31 / 101, div_factor=25, final_div_factor=1e4,
        cycle_momentum=False,
    )  # fmt: skip
    rates = []
    for _ in range(101):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < 101:
            schedule.step()
    close(call("one_cycle_factor", T[:101], 100.0, 30.0, 25.0, 1e4), rates, rtol=1e-10, atol=1e-15)


def test_initial_deviations():
    close(call("scaled_std", 1.0, 400.0), 0.05)
    close(call("scaled_std", 2.0, np.array([200.0, 1.0, 0.0])), [0.1, math.sqrt(2), math.sqrt(2)])
    close(call("uniform_bound", 0.5), 0.5 * math.sqrt(3))


def test_bias_correction():
    t = np.array([1, 2, 12, 1000, 1e6])
    close(call("bias_correction", 0.999, t), 1 / (1 - 0.999**t))
