"""Callbacks that decide: what they decide, and that an interrupted training decides the same."""

import numpy as np
import pytest

from .two_classes import data, make


class Stop(Exception):
    pass


def stopping_at(tw, step):
    def end(batch, logs):
        if callback.trainer.t == step:
            raise Stop

    callback = tw.callbacks.LambdaCallback(on_train_batch_end=end)
    return callback


def resumed_everywhere(tw, make_trainer, callbacks, steps, **options):
    """Yield (interrupted and resumed, through a checkpoint or not; never interrupted) for a stop after each step."""
    x, y = data()
    options = {"epochs": 12, "batch_size": 32, "validation_data": (x[:20] + 1, y[:20]), "verbose": 0, **options}
    whole, whole_callbacks = make_trainer(), callbacks()
    whole.fit(x, y, **options, callbacks=whole_callbacks)
    for step in steps:
        for through_state in (False, True):
            ours, used = make_trainer(), callbacks()
            try:
                ours.fit(x, y, **options, callbacks=[*used, stopping_at(tw, step)])
            except Stop:
                pass
            else:
                raise AssertionError("the training ended before it could be interrupted")
            if through_state:
                state, ours, used = ours.state_dict(), make_trainer(), callbacks()
                ours.load_state_dict(state)
            ours.fit(x, y, **options, callbacks=used)
            yield (ours, used), (whole, whole_callbacks)


def test_a_scheduler_is_asked_once_an_epoch(tw):
    def callbacks():
        return [tw.callbacks.LearningRateScheduler(lambda epoch, lr: lr * 0.5)]

    for (ours, _), (whole, _) in resumed_everywhere(tw, lambda: make(tw), callbacks, range(1, 8), epochs=4):
        assert ours.digest() == whole.digest() and ours.history["lr"] == whole.history["lr"]
    again = make(tw)
    used = callbacks()
    for trainer in (make(tw), again):  # the same callback on another trainer begins anew
        trainer.fit(*data(), epochs=2, batch_size=32, callbacks=used, verbose=0)
    assert again.history["lr"] == [0.05, 0.025]


def test_a_scheduler_takes_one_argument_or_two_and_hides_no_mistake(tw):
    def broken(epoch, lr):
        return lr + "a"

    for schedule, expected in ((lambda epoch: 0.5, 0.5), (lambda epoch, lr: lr / 2, 0.05), (lambda *all: 0.25, 0.25)):
        trainer = make(tw)
        trainer.fit(*data(), epochs=1, batch_size=32, callbacks=tw.callbacks.LearningRateScheduler(schedule))
        assert trainer.history["lr"] == [expected]
    with pytest.raises(TypeError, match="unsupported operand"):
        make(tw).fit(*data(), epochs=1, batch_size=32, callbacks=tw.callbacks.LearningRateScheduler(broken))
    for wrong in (lambda: 0.1, lambda a, b, c: 0.1, 0.1):
        with pytest.raises(TypeError, match=r"expected .*\(epoch, lr\)"):
            tw.callbacks.LearningRateScheduler(wrong)


def test_the_best_weights_survive_a_checkpoint(tw, tmp_path):
    def callbacks():
        return [tw.callbacks.EarlyStopping(patience=4, restore_best_weights=True)]

    for (ours, (stopping,)), (whole, (expected,)) in resumed_everywhere(
        tw, lambda: make(tw, lr=lambda t: 0.3 if t < 4 else 3.0), callbacks, range(2, 10)
    ):
        assert whole.epoch < 12 and expected.best_epoch < whole.epoch - 1
        assert (stopping.best, stopping.best_epoch) == (expected.best, expected.best_epoch)
        assert (stopping.stopped_epoch, ours.epoch) == (expected.stopped_epoch, whole.epoch)
        assert ours.digest() == whole.digest()
    first = make(tw, lr=lambda t: 0.3)
    saved = tw.callbacks.ModelCheckpoint(tmp_path)
    x, y = data()
    first.fit(x, y, epochs=1, batch_size=32, validation_data=(x, y), callbacks=[*callbacks(), saved], verbose=0)
    kept = tw.checkpoint.load(tmp_path)
    names = [f"callbacks/0/state/weights/parameters/{name}" for name in first.parameters()]
    assert list(kept["arrays"]) == names
    assert kept["arrays"][names[0]].dtype == np.float32


def test_a_decision_to_stop_survives_an_interruption(tw):
    x, y = data()

    def refuse(epoch, logs):
        if epoch == 2:
            raise Stop

    trainer, stopping = make(tw, lr=0.0), tw.callbacks.EarlyStopping("loss", patience=2, min_delta=1e-6)
    options = {"epochs": 9, "batch_size": 32, "verbose": 0}
    with pytest.raises(Stop):
        trainer.fit(x, y, **options, callbacks=[stopping, tw.callbacks.LambdaCallback(on_epoch_end=refuse)])
    state = trainer.state_dict()
    trainer.fit(x, y, **options, callbacks=[stopping])
    assert trainer.epoch == 3 and stopping.stopped_epoch == 2
    again, fresh = make(tw, lr=0.0), tw.callbacks.EarlyStopping("loss", patience=2, min_delta=1e-6)
    again.load_state_dict(state)
    again.fit(x, y, **options, callbacks=[fresh])
    assert again.epoch == 3 and fresh.stopped_epoch == 2
    again.fit(x, y, **options, callbacks=[fresh])  # that training was over: this is the next
    assert again.epoch == 5


def test_early_stopping_in_keras_words(tw, capsys):
    x, y = data()
    trainer = make(tw, lr=0.0)
    stopping = tw.callbacks.EarlyStopping("loss", 1e-6, 2, 1, "min", start_from_epoch=4)
    trainer.fit(x, y, epochs=20, batch_size=64, callbacks=[stopping], verbose=0)
    assert trainer.epoch == 7 and stopping.best_epoch == 4
    assert capsys.readouterr().out.strip() == "epoch 7: early stopping, the best loss was in epoch 5"
    for options, error, message in (
        ({"patience": "a"}, TypeError, "patience is 'a', expected an integer"),
        ({"patience": -1}, ValueError, "patience is -1, expected at least 0"),
        ({"min_delta": "0"}, TypeError, "min_delta is '0'"),
        ({"start_from_epoch": 0.5}, TypeError, "start_from_epoch is 0.5"),
    ):
        with pytest.raises(error, match=message):
            tw.callbacks.EarlyStopping(**options)


class Given:
    """A callback that puts values of a test's own in the place of a logged quantity."""

    def __new__(cls, tw, kind, values, **options):
        class Made(kind):
            def on_epoch_end(self, epoch, logs=None):
                super().on_epoch_end(epoch, {**logs, "watched": values[epoch]})

        Made.__name__ = kind.__name__
        return Made("watched", **options)


@pytest.mark.parametrize(
    ("options", "values", "expected"),
    [
        # more than patience bad epochs; better is better by a ten-thousandth of the best
        ({"patience": 1}, [1, 1, 1, 1, 1, 1], [1, 1, 1, 0.1, 0.1, 0.01]),
        ({"patience": 1}, [1, 0.99995, 0.9998, 0.9996, 0.9994, 0.9992], [1, 1, 1, 1, 1, 1]),
        ({"patience": 0, "factor": 0.5, "min_lr": 0.3}, [1, 1, 1, 1, 1, 1], [1, 1, 0.5, 0.3, 0.3, 0.3]),
        ({"patience": 0, "factor": 0.5, "cooldown": 2}, [1] * 6, [1, 1, 0.5, 0.5, 0.5, 0.25]),
        ({"patience": 0, "factor": 0.5, "mode": "max"}, [1, 2, 3, 2, 4, 5], [1, 1, 1, 1, 0.5, 0.5]),
        ({"patience": 0, "factor": 0.5}, [-1, -1.00005, -1.1, float("nan"), -2, -3], [1, 1, 0.5, 0.5, 0.25, 0.25]),
    ],
)
def test_the_rate_falls_on_a_plateau(options, values, expected, tw):
    trainer = make(tw, lr=1.0)
    callback = Given(tw, tw.callbacks.ReduceLROnPlateau, values, **options)
    trainer.fit(*data(), epochs=6, batch_size=64, callbacks=[callback], verbose=0)
    assert trainer.history["lr"] == pytest.approx(expected)


def test_a_plateau_is_as_torch_sees_it(tw, torch):
    values = np.random.default_rng(0).choice([1.0, 0.99995, 0.9, 0.8999, 0.95], 40).tolist()
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2, cooldown=1, min_lr=1e-3)
    trainer, rates = make(tw, lr=1.0), []
    callback = Given(tw, tw.callbacks.ReduceLROnPlateau, values, factor=0.5, patience=2, cooldown=1, min_lr=1e-3)
    for value in values:
        rates.append(optimizer.param_groups[0]["lr"])
        theirs.step(value)
    trainer.fit(*data(), epochs=40, batch_size=64, callbacks=[callback], verbose=0)
    assert trainer.history["lr"] == pytest.approx(rates)


def test_a_plateau_goes_on_after_a_checkpoint_and_takes_groups_along(tw, capsys):
    def make_trainer():
        groups = [{"params": "*.bias", "lr": 0.25}]
        return tw.Trainer(tw.models.mlp((8,), 2), tw.losses.CrossEntropy(), tw.optim.SGD(0.5, groups=groups), threads=1)

    def callbacks():
        return [tw.callbacks.ReduceLROnPlateau("loss", 0.5, 1, min_delta=0.5)]

    for (ours, (used,)), (whole, (expected,)) in resumed_everywhere(
        tw, make_trainer, callbacks, range(1, 12), epochs=7
    ):
        assert ours.digest() == whole.digest() and used.state_dict() == expected.state_dict()
        assert ours.history["lr"] == whole.history["lr"]
        assert whole.optimizer.lr < 0.5 and whole.optimizer.groups[0]["lr"] == whole.optimizer.lr / 2
    with pytest.raises(TypeError, match="expected a number: give it no schedule"):
        make(tw, lr=tw.schedules.Cosine(0.1, 5)).fit(*data(), epochs=1, batch_size=32, callbacks=callbacks())
    for options, error in (({"factor": 1.0}, ValueError),
                           ({"patience": 1.5}, TypeError), ({"cooldown": -1}, ValueError),
                           ({"min_lr": "0"}, TypeError), ({"min_delta": -1}, ValueError)):  # fmt: skip
        with pytest.raises(error, match=rf"\[ReduceLROnPlateau\] {next(iter(options))} is"):
            tw.callbacks.ReduceLROnPlateau(**options)
    loud = tw.callbacks.ReduceLROnPlateau("loss", 0.5, 0, 1, min_delta=1.0)
    make(tw).fit(*data(), epochs=2, batch_size=32, callbacks=[loud], verbose=0)
    assert capsys.readouterr().out.strip() == "epoch 2: lr 0.1 -> 0.05, loss has stopped improving"
