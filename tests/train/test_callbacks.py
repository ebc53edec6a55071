"""Callbacks under Keras's names, the history, and what a step reports."""

import csv

import numpy as np
import pytest

from .two_classes import data, make


def test_the_order_of_hooks(tw):
    calls = []
    names = [
        n
        for n in dir(tw.callbacks.Callback)
        if n.startswith("on_") and n not in ("on_progress", "on_train_interrupted")
    ]
    hooks = {n: lambda *a, n=n: calls.append(n) for n in names}
    make(tw).fit(*data(), epochs=2, batch_size=32, callbacks=[tw.callbacks.LambdaCallback(**hooks)])
    batch = ["on_train_batch_begin", "on_train_batch_end"]
    epoch = ["on_epoch_begin", *batch, *batch, "on_epoch_end"]
    assert calls == ["on_train_begin", *epoch, *epoch, "on_train_end"]
    with pytest.raises(TypeError, match="no hook"):
        tw.callbacks.LambdaCallback(on_epoch=print)
    with pytest.raises(TypeError, match="no Callback"):
        make(tw).fit(*data(), epochs=1, batch_size=32, callbacks=[print])


def test_history_has_a_value_an_epoch(tw):
    x, y = data()
    trainer = make(tw)
    history = trainer.fit(x, y, epochs=3, batch_size=20, validation_data=(x, y))
    assert history.epoch == [0, 1, 2]
    expected = {"loss", "accuracy", "grad_norm", "lr", "samples_per_second", "val_loss", "val_accuracy"}
    assert set(history.history) == expected and all(len(v) == 3 for v in history.history.values())
    assert len(history.steps["loss"]) == trainer.t == 12
    assert history["loss"][2] < history["loss"][0]


def test_history_is_one_for_the_trainers_life(tw):
    x, y = data()
    trainer = make(tw)
    first = trainer.fit(x, y, epochs=1, batch_size=16, verbose=0)
    assert trainer.fit(x, y, epochs=3, batch_size=16, verbose=0) is first is trainer.history
    assert first.epoch == [0, 1, 2] and all(len(values) == trainer.t == 12 for values in first.steps.values())
    trainer.load_state_dict(trainer.state_dict())
    assert trainer.history is first and first.epoch == [0, 1, 2] and first.steps["loss"] == []


def test_callbacks_do_not_change_the_training(tw):
    plain, watched = make(tw), make(tw)
    plain.fit(*data(), epochs=2, batch_size=7)
    watched.fit(
        *data(),
        epochs=2,
        batch_size=7,
        callbacks=[tw.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: 0)],
    )
    assert plain.digest() == watched.digest()
    plain_loss, watched_loss = plain.history["loss"], watched.history["loss"]
    assert plain_loss == watched_loss


def test_early_stopping_restores_the_best(tw):
    x, y = data()
    trainer = make(tw, lr=lambda t: 0.5 if t < 20 else 0.0)
    stopping = tw.callbacks.EarlyStopping("loss", patience=2, min_delta=1e-3, restore_best_weights=True)
    trainer.fit(x, y, epochs=50, batch_size=16, callbacks=[stopping])
    assert stopping.stopped_epoch == trainer.epoch - 1 < 40
    assert stopping.best_epoch == stopping.stopped_epoch - 2
    with pytest.raises(ValueError, match="'val_loss' is not logged"):
        make(tw).fit(x, y, epochs=1, batch_size=16, callbacks=[tw.callbacks.EarlyStopping()])


def test_early_stopping_goes_on_counting_after_a_checkpoint(tw, tmp_path):
    x, y = data()

    def callbacks():
        return [
            tw.callbacks.ModelCheckpoint(tmp_path / "run"),
            tw.callbacks.EarlyStopping("loss", patience=5, min_delta=1e-6),
        ]

    first, whole = make(tw, lr=0.0), make(tw, lr=0.0)
    first.fit(x, y, epochs=3, batch_size=16, callbacks=callbacks())
    again = tw.Trainer.load(tmp_path / "run")
    again.fit(x, y, epochs=50, batch_size=16, callbacks=callbacks())
    whole.fit(x, y, epochs=50, batch_size=16, callbacks=callbacks())
    assert again.epoch == whole.epoch == 6


def test_hooks_of_evaluation_and_prediction(tw):
    calls = []
    names = ["on_test_begin", "on_test_end", "on_predict_begin", "on_predict_end"]
    hooks = {n: lambda logs, n=n: calls.append((n, sorted(logs))) for n in names}
    callback = tw.callbacks.LambdaCallback(**hooks)
    x, y = data()
    trainer = make(tw)
    trainer.fit(x, y, epochs=1, batch_size=32, validation_data=(x, y), callbacks=[callback], verbose=0)
    trainer.evaluate(x, y, callbacks=[callback])
    test = [("on_test_begin", []), ("on_test_end", ["accuracy", "loss"])]
    assert calls == test * 2
    trainer.predict(x, callbacks=callback)
    assert calls[4:] == [("on_predict_begin", []), ("on_predict_end", [])]
    for method in (trainer.evaluate, trainer.predict):
        with pytest.raises(TypeError, match="no Callback"):
            method(*data()[: 1 + (method == trainer.evaluate)], callbacks=[print])


def test_numbers_of_updates_between_checkpoints(tw, tmp_path):
    for freq, error in (
        (2.5, TypeError),
        (None, TypeError),
        (True, TypeError),
        (0, ValueError),
        ("epochs", ValueError),
    ):
        with pytest.raises(error, match=r"\[ModelCheckpoint\] save_freq is"):
            tw.callbacks.ModelCheckpoint(tmp_path, save_freq=freq)


def test_checkpoints_every_few_updates(tw, tmp_path):
    x, y = data()
    trainer = make(tw)
    saved = tw.callbacks.ModelCheckpoint(tmp_path / "run", save_freq=3)
    trainer.fit(x, y, epochs=2, batch_size=16, callbacks=[saved])
    assert trainer.t == 8
    again = tw.Trainer.load(tmp_path / "run")
    assert again.t == 6
    again.fit(x, y, epochs=2, batch_size=16)
    assert again.digest() == trainer.digest()


def test_learning_rate_scheduler_and_csv(tw, tmp_path):
    path = tmp_path / "log.csv"
    trainer = make(tw)
    callbacks = [tw.callbacks.LearningRateScheduler(lambda epoch, lr: lr / 2), tw.callbacks.CSVLogger(path)]
    history = trainer.fit(*data(), epochs=3, batch_size=16, callbacks=callbacks)
    assert history["lr"] == pytest.approx([0.05, 0.025, 0.0125])
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(r["epoch"]) for r in rows] == [0, 1, 2]
    assert [float(r["loss"]) for r in rows] == history["loss"]


def test_a_diverged_run_names_what_happened(tw):
    x, _ = data()

    def diverging():
        net = tw.nn.Sequential(tw.nn.Linear(8), tw.nn.Linear(1))
        return tw.Trainer(net, tw.losses.MSE(), tw.optim.SGD(1e30), threads=1)

    target = np.zeros((64, 1))
    trainer = diverging()
    with pytest.raises(tw.DivergedError, match="diverged at update"):
        trainer.fit(x, target, epochs=5, batch_size=16)
    assert all(np.isfinite(p).all() for p in trainer.parameters().values())
    calm = diverging()
    calm.fit(x, target, epochs=5, batch_size=16, callbacks=[tw.callbacks.TerminateOnNaN()])
    assert calm.epoch < 5


def test_skipping_keeps_the_parameters(tw):
    x, y = data()
    trainer = make(tw, on_nonfinite="skip")
    trainer.step(x, y)
    before = trainer.parameters()
    bad = x.copy()
    bad[3, 2] = np.inf
    assert trainer.step(bad, y).skipped
    for name, value in trainer.parameters().items():
        np.testing.assert_array_equal(value, before[name])


def test_reports_are_complete(tw):
    x, y = data()
    report = make(tw, world=2).step(x, y)
    assert report.t == 1 and report.count == 64 and report.lr == 0.1 and not report.skipped
    assert 0 <= report.accuracy <= 1 and report.metrics == {"accuracy": report.accuracy}
    assert report.grad_norm > 0 and report.seconds > 0 and report.bytes_comm > 0
    assert "loss=" in repr(report)
    with pytest.raises(AttributeError, match="'perplexity'"):
        _ = report.perplexity


def test_progress_is_a_line_an_epoch(tw, capsys):
    make(tw).fit(*data(), epochs=2, batch_size=16, verbose=1)
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 2 and "loss" in lines[0] and "accuracy" in lines[1]


def test_a_finished_training_says_so(tw, capsys):
    trainer = make(tw)
    trainer.fit(*data(), epochs=2, batch_size=32, verbose=0)
    trainer.fit(*data(), epochs=2, batch_size=32, verbose=0)
    assert capsys.readouterr().out == ""
    trainer.fit(*data(), epochs=2, batch_size=32)
    out = capsys.readouterr().out
    assert out.startswith("all 2 epochs are done; ") and out.count("\n") == 1 and "fit(epochs=trainer.epoch + 1)" in out


def test_progress_names_rows_and_keeps_numbers_short(tw, capsys):
    from thalweg.console import progress_text

    make(tw).fit(*data(), epochs=1, batch_size=16)
    assert "samples/s" in capsys.readouterr().out
    net = tw.nn.Sequential(tw.nn.Conv2d(2, 3), tw.nn.Flatten(), tw.nn.Linear(2))
    images = np.ones((8, 4, 4, 1), np.float32)
    tw.Trainer(net, tw.losses.CrossEntropy(), tw.optim.SGD(0.1)).fit(images, np.arange(8) % 2, epochs=1, batch_size=4)
    assert "images/s" in capsys.readouterr().out
    for loss, text in ((0.51234, "0.5123"), (1.2346e32, "1.235e+32"), (1.5e-6, "1.500e-06"), (0.0, "0.0000"),
                       (float("nan"), "nan"), (54321.5, "54321.5000"), (-2e9, "-2.000e+09")):  # fmt: skip
        assert progress_text({"loss": loss}) == f"loss {text}"
