"""One step a call: the rates that are kept from call to call, and the arrays that pass without a conversion."""

import numpy as np
import pytest
import thalweg
from thalweg.trainer.rates import StepRates


def optimizers(tw):
    s = tw.schedules
    groups = [
        {"params": "*.bias", "lr": s.Cosine(0.3, 50), "weight_decay": 0.5},
        {"params": "*", "lr": lambda t: 1 / t},
    ]
    return {
        "constant": tw.optim.Adam(0.1),
        "schedule": tw.optim.SGD(s.WarmUp(s.Cosine(0.1, 200), 5), 0.9),
        "function": tw.optim.SGD(lambda t: 0.1 / (1 + t)),
        "function inside": tw.optim.SGD(s.WarmUp(lambda t: 0.1 / (1 + t), 5)),
        "groups": tw.optim.SGD(s.Step(0.1, 30), 0.9, groups=groups[:1]),
        "group with a function": tw.optim.SGD(0.1, groups=groups),
    }


@pytest.mark.parametrize("name", optimizers(thalweg))
def test_rates_of_single_steps_are_those_of_the_table(tw, name):
    optimizer = optimizers(tw)[name]
    rates = StepRates(optimizer)
    for step in [*range(1, 200), 3, 1000, 64, 65, 2]:
        assert np.array_equal(rates.row(step), optimizer.table(step, 1)[0]), step
    assert rates.of(optimizer)


@pytest.mark.parametrize("name", optimizers(thalweg))
def test_rates_of_some_steps_are_those_of_the_table(tw, name):
    optimizer = optimizers(tw)[name]
    rates = StepRates(optimizer)
    for first, steps in ((1, 5), (6, 100), (106, 3), (109, 70), (500, 1)):
        assert np.array_equal(rates.rows(first, steps), optimizer.table(first, steps)), (first, steps)
        assert np.array_equal(rates.row(first + steps), optimizer.table(first + steps, 1)[0])


def test_a_table_of_ones_own_is_asked_for_every_step(tw):
    class Own(tw.optim.SGD):
        def table(self, first, steps):
            return super().table(first, steps) * np.arange(first, first + steps)[:, None, None]

    rates = StepRates(Own(0.1, 0.9))
    for first in (1, 20):
        assert np.array_equal(rates.rows(first, 3), Own(0.1, 0.9).table(first, 3))


def test_a_rate_that_a_callback_sets_holds_from_the_next_epoch_on(tw):
    class Halves(tw.callbacks.Callback):
        def on_epoch_end(self, epoch, logs):
            self.trainer.optimizer.lr = 0.1 / 2 ** (epoch + 1)

    net = tw.nn.Sequential(tw.nn.Linear(3))
    trainer = tw.Trainer(net, tw.losses.CrossEntropy(), tw.optim.SGD(0.1), threads=1)
    x, y = np.random.default_rng(0).standard_normal((12, 4)).astype("f4"), np.arange(12) % 3
    history = trainer.fit(x, y, epochs=3, batch_size=4, callbacks=[Halves()], verbose=0)
    assert history.steps["lr"] == [0.1] * 3 + [0.05] * 3 + [0.025] * 3


def test_a_change_of_the_optimizer_takes_effect_at_once(tw):
    def change_lr():
        optimizer.lr = 0.5

    def change_rate():
        optimizer.rates["weight_decay"] = 0.25

    def change_group():
        optimizer.groups[0]["rates"]["weight_decay"] = 0.125

    optimizer = tw.optim.SGD(0.1, groups=[{"params": "*.bias", "weight_decay": 1.0}])
    for change in (change_lr, change_rate, change_group):
        rates = StepRates(optimizer)
        assert rates.of(optimizer)
        change()
        assert not rates.of(optimizer), change
    assert not rates.of(tw.optim.SGD(0.5))


def test_a_function_is_asked_at_every_step(tw):
    rate = [0.1]
    x, y = np.ones((4, 3), np.float32), np.zeros((4, 1), np.float32)
    trainer = tw.Trainer(tw.nn.Linear(1), tw.losses.MSE(), tw.optim.SGD(lambda t: rate[0]))
    assert trainer.step(x, y).lr == 0.1
    rate[0] = 0.05
    assert trainer.step(x, y).lr == 0.05
    trainer.optimizer.lr = 0.25
    assert trainer.step(x, y).lr == 0.25


def test_a_schedule_that_leaves_its_range_fails_at_that_step(tw):
    rates = StepRates(tw.optim.SGD(tw.schedules.Step(1.0, 1, 1e40)))  # infinite from step 8 on
    assert all(rates.row(step)[0, 0] >= 0 for step in range(5))
    with pytest.raises(ValueError, match="at step 9"):
        rates.row(9)


def variants(x, y):
    return {
        "ready": (x, y.astype(np.int32)),
        "int64": (x, y.astype(np.int64)),
        "uint8": (x, y.astype(np.uint8)),
        "uint16": (x, y.astype(np.uint16)),
        "lists": (x.tolist(), y.tolist()),
        "float64": (x.astype(np.float64), y),
        "strided": (np.repeat(x, 2, axis=0)[::2], np.repeat(y, 2)[::2]),
        "big-endian": (x.astype(">f4"), y.astype(">i8")),
        "transposed": (np.asfortranarray(x), y),
        "unaligned": (unaligned(x), unaligned(y)),
    }


def unaligned(a):
    memory = np.zeros(a.nbytes + 1, np.uint8)[1:]
    out = memory.view(a.dtype).reshape(a.shape)
    out[:] = a
    return out


def test_arrays_of_every_kind_give_the_same_bits(tw):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 5), dtype=np.float32), rng.integers(0, 3, 12)
    digests = {}
    for name, (a, b) in variants(x, y).items():
        trainer = tw.Trainer(tw.nn.Linear(3), tw.losses.CrossEntropy(), tw.optim.SGD(0.1))
        trainer.build(x, y)
        trainer.step(a, b)
        digests[name] = trainer.digest()
    assert len(set(digests.values())) == 1, digests


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("bad", [-1, 3, np.iinfo(np.int32).max])
def test_a_label_outside_is_refused_before_the_step(tw, bad, dtype):
    trainer = tw.Trainer(tw.nn.Linear(3), tw.losses.CrossEntropy(), tw.optim.SGD(0.1), on_nonfinite="skip")
    x, y = np.ones((4, 2), np.float32), np.array([0, 1, 2, 0], dtype)
    trainer.step(x, y)
    y[2] = bad
    with pytest.raises(ValueError, match=rf"label y\[2\] = {bad} is outside \[0, 3\)"):
        trainer.step(x, y)
    assert trainer.t == 1


def test_class_numbers(tw):
    numbers = tw._core.class_numbers
    ready = np.array([[0, 1], [2, 1]], np.int32)
    assert numbers(ready, 3) is ready
    wide = numbers(ready.astype(np.int64), 3)
    assert wide.dtype == np.int32 and np.array_equal(wide, ready)
    assert numbers(np.zeros((0, 3), np.int64), 5).shape == (0, 3)
    for bad in (ready - 1, ready.astype(np.int64) + 1, np.array([2**32], np.int64), ready.T, ready.astype(np.float32)):
        assert numbers(bad, 3) is None
