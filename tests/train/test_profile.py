"""The profile of a step: every instruction once, nothing changed, the table readable."""

import numpy as np
import pytest
from thalweg import nn


def trainer_and_data(tw, **kw):
    net = nn.Sequential(nn.Conv2d(4, 3), nn.BatchNorm(), nn.ReLU(), nn.Flatten(), nn.Linear(3))
    rng = np.random.default_rng(0)
    trainer = tw.Trainer(net, tw.losses.CrossEntropy(), tw.optim.SGD(lr=0.1, momentum=0.9), seed=1, **kw)
    return trainer, rng.standard_normal((16, 6, 6, 1), dtype=np.float32), rng.integers(0, 3, 16)


def test_a_profile_names_operators_layers_and_costs_and_changes_nothing(tw):
    trainer, x, y = trainer_and_data(tw, threads=1)
    trainer.step(x, y)
    before = trainer.digest()
    profile = tw.profile(trainer, x, y, repeats=3)
    assert trainer.digest() == before and trainer.t == 1
    by_op = {row.op: row for row in profile.rows}
    assert {"conv2d", "batch_norm + relu", "linear", "linear_backward_weight"} <= by_op.keys()
    conv = by_op["conv2d"]
    assert conv.shape == (16, 4, 4, 4) and conv.path == "0" and conv.flops >= 2 * 16 * 4 * 4 * 4 * 9
    assert all(row.seconds > 0 for row in profile.rows)
    text = str(profile)
    assert text.startswith("operator") and "batch_norm + relu" in text and "GFLOP/s" in text


def test_ranks_show_the_exchange_of_gradients(tw):
    trainer, x, y = trainer_and_data(tw, world=2)
    rows = tw.profile(trainer, x, y, repeats=2).rows
    assert any(row.op == "all_reduce of gradients" for row in rows)
    assert next(row for row in rows if row.op == "conv2d").shape[0] == 8


def test_bad_arguments(tw):
    trainer, x, y = trainer_and_data(tw)
    with pytest.raises(ValueError, match="repeats"):
        tw.profile(trainer, x, y, repeats=0)
    trainer.build(x, y)
    with pytest.raises(ValueError, match="shape"):
        tw.profile(trainer, x[:, :5], y)


def test_first_data_that_are_refused_fix_no_shape(tw):
    trainer, x, y = trainer_and_data(tw)
    with pytest.raises(ValueError, match="label"):
        tw.profile(trainer, x, y + 7)
    trainer.step(x[:, :5, :5], y)
