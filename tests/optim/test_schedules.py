"""Schedules against their formulas and torch's, and the table of rates that the engine is given."""

import math

import numpy as np
import pytest


def test_formulas(tw):
    s = tw.schedules
    assert s.Constant(0.3)(17) == 0.3
    assert [s.Step(1.0, 2, 0.5)(t) for t in range(5)] == [1, 1, 0.5, 0.5, 0.25]
    assert [s.Step(1.0, [1, 4], 0.1)(t) for t in range(5)] == pytest.approx([1, 0.1, 0.1, 0.1, 0.01])
    assert s.InverseTime(0.1, 50)(0) == 0.1 and s.InverseTime(0.1, 50)(50) == 0.05
    assert s.Cosine(1.0, 10, 0.2)(5) == pytest.approx(0.6) and s.Cosine(1.0, 10, 0.2)(99) == pytest.approx(0.2)
    warm = s.WarmUp(0.8, 4)
    assert [warm(t) for t in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_one_cycle_equals_torchs(tw, torch):
    steps = 40
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=steps, cycle_momentum=False)
    ours = tw.schedules.OneCycle(0.5, steps)
    for t in range(steps):
        assert ours(t) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12), t
        optimizer.step()
        if t < steps - 1:
            theirs.step()


def test_one_cycle_of_few_steps(tw):
    for steps in range(2, 8):
        rates = [tw.schedules.OneCycle(0.5, steps)(t) for t in range(steps + 3)]
        assert all(math.isfinite(r) and 0 <= r <= 0.5 for r in rates), (steps, rates)


def test_the_table_has_a_row_for_each_step(tw):
    fields = list(tw._core.RATE_FIELDS)
    optimizer = tw.optim.SGD(lambda t: 0.1 / (1 + t), 0.9, groups=[{"params": "*", "lr": 0.5, "weight_decay": 0.25}])
    table = optimizer.table(3, 4)
    assert table.shape == (4, 2, len(fields))
    np.testing.assert_allclose(table[:, 0, fields.index("lr")], [0.1 / 4, 0.1 / 5, 0.1 / 6, 0.1 / 7])
    assert (table[:, 1, fields.index("weight_decay")] == 0.25).all() and (table[:, 1, fields.index("lr")] == 0.5).all()


@pytest.mark.parametrize("bad", [float("nan"), -1.0, float("inf")])
def test_a_schedule_that_leaves_its_range_is_an_error(bad, tw):
    with pytest.raises(ValueError, match="at step 0"):
        tw.optim.SGD(lambda step: bad).table(0, 1)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda s: s.Constant(-0.1), ValueError, r"\[Constant\] lr is -0.1"),
        (lambda s: s.Cosine(float("nan"), 10), ValueError, r"\[Cosine\] lr is nan"),
        (lambda s: s.Cosine(-0.1, 10), ValueError, "lr is -0.1"),
        (lambda s: s.Cosine(0.1, 10.5), TypeError, r"\[Cosine\] steps is 10.5, expected an integer"),
        (lambda s: s.Cosine(0.1, 0), ValueError, "steps is 0"),
        (lambda s: s.Cosine(0.1, 10, float("inf")), ValueError, "lr_min is inf"),
        (lambda s: s.Step(0.1, 0), ValueError, "milestones is 0"),
        (lambda s: s.Step(0.1, [3, 4.5]), TypeError, "a milestone is 4.5"),
        (lambda s: s.Step(0.1, 3, -1), ValueError, "gamma is -1"),
        (lambda s: s.OneCycle(0.1, 10, warm=1.0), ValueError, "warm is 1.0"),
        (lambda s: s.OneCycle(0.1, 1), ValueError, "steps is 1"),
        (lambda s: s.WarmUp("a", 3), TypeError, "lr is 'a'"),
        (lambda s: s.WarmUp(0.1, 3, -1), ValueError, "start is -1"),
        (lambda s: s.InverseTime(0.1, 0), ValueError, "c is 0"),
    ],
)
def test_numbers_out_of_range_are_refused(make, error, message, tw):
    with pytest.raises(error, match=message):
        make(tw.schedules)


def test_numpys_numbers_and_arrays(tw):
    s = tw.schedules
    assert s.Step(np.float64(0.5), np.int64(3)) == s.Step(0.5, 3)
    assert s.Step(0.5, np.array([3, 6])) == s.Step(0.5, [3, 6]) == s.Step(0.5, (3, 6))
    assert s.Cosine(0.5, np.int32(10)).describe() == s.Cosine(0.5, 10).describe()
