"""A training that was interrupted anywhere and goes on ends with the same bits as one that never stopped."""

import os
import signal
import threading

import numpy as np
import pytest

ROWS, BATCH, EPOCHS = 45, 16, 3


def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((ROWS, 6, 6, 2)).astype("float32"), rng.integers(0, 4, ROWS)


def make(tw, **options):
    nn = tw.nn
    net = nn.Sequential(
        *(nn.Conv2d(6, 3, padding=1, bias=False), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.3)),
        *(nn.Flatten(), nn.Linear(4)),
    )
    schedule = tw.schedules.WarmUp(tw.schedules.Cosine(0.1, 20), 3)
    options = {"seed": 4, "metrics": ["accuracy"], "max_norm": 1.0, **options}
    optimizer = tw.optim.SGD(schedule, 0.9, form="heavy_ball", groups=[{"params": "*.bias", "lr": 0.01}])
    return tw.Trainer(net, tw.losses.CrossEntropy(), optimizer, **options)


def fit(trainer, **options):
    x, y = data()
    arguments = {"epochs": EPOCHS, "batch_size": BATCH, "validation_data": (x[:20], y[:20]), **options}
    return trainer.fit(x, y, **arguments)


class Stop(Exception):
    pass


def stop_at(tw, step):
    def end(batch, logs):
        if trainer_of(callback).t == step:
            raise Stop

    callback = tw.callbacks.LambdaCallback(on_train_batch_end=end)
    return callback


def trainer_of(callback):
    return callback.trainer


def logs_without_speed(history):
    return {name: values for name, values in history.history.items() if name != "samples_per_second"}


def test_every_step_is_a_good_place_to_stop(tw, tmp_path):
    whole = make(tw)
    expected = logs_without_speed(fit(whole))
    assert whole.t == 9 and whole.epoch == EPOCHS
    for step in range(1, 9):
        first = make(tw)
        with pytest.raises(Stop):
            fit(first, callbacks=[stop_at(tw, step)])
        assert first.t == step
        state = first.state_dict()
        again = make(tw)
        again.load_state_dict(state)
        assert logs_without_speed(fit(again)) == expected, step
        assert again.digest() == whole.digest(), step
        assert logs_without_speed(fit(first)) == expected and first.digest() == whole.digest(), step


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("world", [1, 2])
def test_a_checkpoint_rebuilds_the_trainer(world, precision, tw, tmp_path):
    whole = make(tw, precision=precision)
    fit(whole)
    first = make(tw, world=2, precision=precision)
    with pytest.raises(Stop):
        fit(first, callbacks=[stop_at(tw, 5)])
    first.save(tmp_path / "run")
    again = tw.Trainer.load(tmp_path / "run", world=world)
    assert (again.t, again.seed, again.max_norm) == (5, 4, 1.0)
    fit(again)
    assert again.digest() == whole.digest()
    x, _ = data()
    np.testing.assert_array_equal(again.predict(x), whole.predict(x))


@pytest.mark.parametrize("before", [1, 2, 3, 4, 6, 8])
def test_any_number_of_ranks_goes_on_with_the_checkpoint_of_any_other(before, tw, tmp_path):
    """The same bits between numbers that divide the shards, and for each pair always; else equal to rounding."""
    first = make(tw, world=before, dtype="float64")
    with pytest.raises(Stop):
        fit(first, callbacks=[stop_at(tw, 5)], verbose=0)
    first.save(tmp_path / "run")
    ended = {}
    for after in (1, 2, 3, 4, 6, 8, 3):
        again = tw.Trainer.load(tmp_path / "run", world=after)
        assert again.digest() == first.digest()  # parameters, buffers and the optimizer's state, on every rank
        fit(again, verbose=0)
        assert ended.setdefault(after, again).digest() == again.digest()
    fit(first, verbose=0)
    exact = [t.digest() for world, t in ended.items() if 8 % world == 0]
    assert len(set(exact)) == 1 and (8 % before or exact[0] == first.digest())
    for t in ended.values():
        for name, value in t.parameters().items():
            np.testing.assert_allclose(value, first.parameters()[name], rtol=1e-9, atol=1e-11, err_msg=name)


def deciding(tw):
    """Callbacks that remember: what they decide depends on the epochs before."""
    return [
        tw.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=0, min_delta=0.5),
        tw.callbacks.EarlyStopping(monitor="val_loss", patience=2, min_delta=10.0, restore_best_weights=True),
    ]


@pytest.mark.parametrize("step", [2, 4, 5, 8])
def test_new_objects_of_the_callbacks_go_on_where_the_interrupted_ones_stood(tw, step):
    """As a notebook's cell does that is run again."""

    def make_one():
        net = tw.nn.Sequential(tw.nn.Flatten(), tw.nn.Linear(8), tw.nn.Tanh(), tw.nn.Linear(4))
        return tw.Trainer(net, tw.losses.CrossEntropy(), tw.optim.SGD(lr=0.5), seed=1)

    whole, cut = make_one(), make_one()
    fit(whole, epochs=6, callbacks=deciding(tw))
    with pytest.raises(Stop):
        fit(cut, epochs=6, callbacks=[*deciding(tw), stop_at(tw, step)])
    fit(cut, epochs=6, callbacks=deciding(tw))
    assert cut.t == whole.t and cut.digest() == whole.digest() and cut.optimizer.lr == whole.optimizer.lr
    before = cut.optimizer.lr
    fit(cut, epochs=cut.epoch + 1, callbacks=deciding(tw))  # a new training: they begin anew
    assert cut.optimizer.lr == before < 0.5


def test_finished_is_finished_and_more_is_more(tw):
    once, twice = make(tw), make(tw)
    fit(once)
    fit(twice, epochs=1)
    fit(twice)
    before = twice.digest()
    assert before == once.digest()
    fit(twice)
    assert twice.digest() == before and twice.epoch == EPOCHS
    fit(twice, epochs=twice.epoch + 1)
    assert twice.t == 12


def test_an_interrupted_epoch_goes_on_with_the_same_rows_only(tw):
    x, y = data()
    first = make(tw)
    with pytest.raises(Stop):
        fit(first, callbacks=[stop_at(tw, 4)])
    again = make(tw)
    again.load_state_dict(first.state_dict())
    for trainer in (first, again):
        for rows, options, message in (
            (ROWS, {"batch_size": 20}, "batch_size is 20, but epoch 2 was interrupted after 16 of 45 rows with .* 16"),
            (32, {}, "rows is 32, but epoch 2 .* with rows 45"),
            (ROWS, {"shuffle": False}, "shuffle is False, but epoch 2 .* with shuffle True"),
        ):
            with pytest.raises(ValueError, match=message):
                trainer.fit(x[:rows], y[:rows], **{"epochs": 3, "batch_size": BATCH, **options})
        assert (trainer.t, trainer.epoch) == (4, 1)
        fit(trainer, epochs=2)
        trainer.fit(x[:32], y[:32], epochs=3, batch_size=20)
    assert first.digest() == again.digest()


def test_a_state_says_what_it_was_trained_with(tw):
    trainer = make(tw)
    fit(trainer, epochs=1)
    meta = trainer.state_dict()["meta"]
    assert (meta["batch_size"], meta["rows"], meta["shuffle"]) == (BATCH, ROWS, True)
    assert meta["config"] == make(tw, world=2, threads=1).build(*data()).state_dict()["meta"]["config"]
    assert meta["config"] != make(tw, max_norm=2.0).build(*data()).state_dict()["meta"]["config"]


def test_parts_of_ones_own_must_be_given(tw, tmp_path):
    x, y = data()
    trainer = tw.Trainer(tw.models.mlp((8,), 4), lambda p, t: tw.ops.cross_entropy(p, t), tw.optim.SGD(lambda t: 0.1))
    trainer.fit(x, y, epochs=1, batch_size=16)
    trainer.save(tmp_path / "own")
    with pytest.raises(ValueError, match=r"loss=\.\.\."):
        tw.Trainer.load(tmp_path / "own")
    again = tw.Trainer.load(tmp_path / "own", loss=trainer.loss, optimizer=tw.optim.SGD(lambda t: 0.1))
    assert again.digest() == trainer.digest()


def test_a_state_of_another_network_changes_nothing(tw):
    x, y = data()
    ours = make(tw)
    fit(ours, epochs=1)
    before = ours.digest(), ours.t, ours.epoch
    wide = tw.Trainer(tw.models.mlp((8,), 4), ours.loss, make(tw).optimizer, seed=4).build(x, y)
    adam = tw.Trainer(ours.net, ours.loss, tw.optim.Adam(), seed=4).build(x, y)
    double = make(tw, dtype="float64").build(x, y)
    for other, message in ((wide, "parameter"), (adam, "another optimizer"), (double, "float64")):
        with pytest.raises(ValueError, match=message):
            ours.load_state_dict(other.state_dict())
    assert (ours.digest(), ours.t, ours.epoch) == before


def test_ctrl_c_is_obeyed_at_a_steps_edge(tw):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4000, 8, 8, 4)).astype("float32"), rng.integers(0, 4, 4000)

    def make_one():
        net = tw.nn.Sequential(tw.nn.Conv2d(16, 3), tw.nn.BatchNorm(), tw.nn.ReLU(), tw.nn.Flatten(), tw.nn.Linear(4))
        return tw.Trainer(net, tw.losses.CrossEntropy(), tw.optim.SGD(0.01, 0.9), threads=1)

    trainer, whole = make_one(), make_one()
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    trainer.build(x, y)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(x, y, epochs=10_000, batch_size=8)
    timer.join()
    stopped = trainer.t
    assert 0 < stopped < 10_000 * 500
    epochs = trainer.epoch + 1
    trainer.fit(x, y, epochs=epochs, batch_size=8)
    whole.fit(x, y, epochs=epochs, batch_size=8)
    assert trainer.t == whole.t >= stopped and trainer.digest() == whole.digest()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_exception_inside_a_native_chunk_loses_no_step(tw):
    """A signal's handler that raises: sums and history hold the steps before it."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((16000, 64)).astype("float32"), np.arange(16000) % 4

    def make_one():
        net = tw.nn.Sequential(tw.nn.Linear(512), tw.nn.ReLU(), tw.nn.Linear(512), tw.nn.ReLU(), tw.nn.Linear(4))
        return tw.Trainer(net, tw.losses.CrossEntropy(), tw.optim.SGD(0.01), threads=1).build(x, y)

    def handler(*_):
        raise Stop

    class Alarm(tw.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs):
            signal.setitimer(signal.ITIMER_REAL, 0.1)

    whole, cut = make_one(), make_one()
    expected = whole.fit(x, y, epochs=1, batch_size=16)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        with pytest.raises(Stop):
            cut.fit(x, y, epochs=1, batch_size=16, callbacks=[Alarm()])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert 0 < cut.t == len(cut.history.steps["loss"]) < 1000
    found = cut.fit(x, y, epochs=1, batch_size=16)
    assert logs_without_speed(found) == logs_without_speed(expected) and found.steps == expected.steps
    assert cut.digest() == whole.digest()


def test_ctrl_c_ends_a_validation_at_once(tw):
    x, y = data()
    many = np.broadcast_to(x[:1], (400_000, 6, 6, 2)), np.zeros(400_000, int)
    trainer, whole = make(tw, threads=1), make(tw, threads=1)
    timer = threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT))  # the three steps are long done
    start = tw.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: timer.start())
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(x, y, epochs=1, batch_size=BATCH, validation_data=many, callbacks=[start])
    assert (trainer.t, trainer.epoch) == (3, 0)
    assert logs_without_speed(fit(trainer)) == logs_without_speed(fit(whole))
    timer.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_checkpoint_with_more_in_it_than_this_version_knows(tw, tmp_path):
    trainer = make(tw)
    trainer.fit(*data(), epochs=1, batch_size=BATCH)
    state = trainer.state_dict()
    state["meta"]["previous_lr"] = [0.1, 0.01]  # as earlier versions wrote
    tw.checkpoint.save(tmp_path, state)
    assert tw.Trainer.load(tmp_path).digest() == trainer.digest()
