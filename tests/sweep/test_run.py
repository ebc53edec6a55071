"""How a sweep runs: what is made once, who gets which value, Ctrl-C, failures, progress, refusals."""

import os
import signal
import time

import numpy as np
import pytest
from thalweg.sweep import native
from thalweg.sweep.progress import SweepProgress

from .small import data, sweep


def counted(monkeypatch, where, name):
    calls, original = [], getattr(where, name)

    def call(*arguments, **options):
        calls.append(arguments)
        return original(*arguments, **options)

    monkeypatch.setattr(where, name, call)
    return calls


def test_a_network_is_recorded_once_for_all_runs_that_share_it(tw, monkeypatch):
    recordings = counted(monkeypatch, native, "record_both")
    models = counted(monkeypatch, native, "native_model")
    over = {"lr": np.geomspace(0.01, 0.1, 5), "width": [4, 8], "seed": range(3), "momentum": [0.0, 0.9]}
    result = sweep(
        tw,
        over,
        net=lambda width: tw.models.mlp((width,), 2),
        optimizer=lambda lr, momentum: tw.optim.SGD(lr, momentum),
    )
    assert len(result) == 60 and len(recordings) == 2 and len(models) == 2
    assert (result["status"] == "finished").all()


@pytest.mark.parametrize("limit", ["_MOST_BYTES", "_MOST_NETWORKS"])
def test_a_long_sweep_takes_several_native_calls(tw, monkeypatch, limit):
    options = {
        "over": {"lr": [0.05, 0.1, 0.2], "width": [4, 6]},
        "net": lambda width: tw.models.mlp((width,), 2),
        "optimizer": lambda lr: tw.optim.SGD(tw.schedules.Cosine(lr, 10)),
    }
    whole = sweep(tw, **options)
    monkeypatch.setattr(native, limit, 1)
    calls = counted(monkeypatch, tw._core, "sweep")
    parts = sweep(tw, **options)
    assert len(calls) > 1
    np.testing.assert_array_equal(parts["loss"], whole["loss"])
    assert [run.index for run in parts if run._parameters is not None] == [whole.best().index]


def test_functions_get_the_values_that_they_name(tw):
    seen = []

    def net(width, depth=1, *, seed):
        seen.append((width, depth, seed))
        return tw.models.mlp((width,) * depth, 2)

    runs = [{"width": 4}, {"width": 4, "seed": 2}, {"width": 4, "depth": 2}, {"width": 4, "lr": 0.2}]
    result = sweep(tw, runs, net=net, optimizer=tw.optim.SGD)
    assert seen == [(4, 1, 0), (4, 1, 2), (4, 2, 0)]
    assert result.history["lr"][:, 0].tolist() == [0.01, 0.01, 0.01, 0.2]


def test_losses_may_be_made_of_swept_values(tw):
    own = lambda prediction, target: tw.ops.cross_entropy(prediction, target, reduction="none")  # noqa: E731
    made = sweep(tw, {"label_smoothing": [0.0, 0.2]}, loss=tw.losses.CrossEntropy)
    fixed = sweep(tw, {"seed": [0]}, loss=own)
    assert made[0]["loss"] == fixed[0]["loss"] != made[1]["loss"]


def test_epochs_and_batch_sizes_may_differ(tw):
    result = sweep(tw, {"epochs": [1, 3], "batch_size": [8, 40]}, epochs=None, batch_size=None)
    assert result["updates"].tolist() == [5, 1, 15, 3]
    assert np.isnan(result.history["loss"]).sum(1).tolist() == [2, 2, 0, 0]


def test_numpy_values_and_generators_are_taken(tw):
    result = sweep(tw, {"lr": np.array([0.1, 0.2], np.float32), "seed": iter([1, 2])})
    assert [type(run["lr"]) for run in result] == [float] * 4 and len(result) == 4


class Interrupted:
    """Sends Ctrl-C from the second look at the progress on."""

    def __init__(self, monkeypatch, error=None):
        self.looks, self.error = 0, error
        monkeypatch.setattr(SweepProgress, "look", self.look)

    def look(self, runs, steps):
        self.looks += 1
        if self.looks == 2:
            self.sent = time.monotonic()
            if self.error:
                raise self.error
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("epochs", [[10**5, 10**5, 1], [30, 10**5]])  # in the second case the caller's thread is idle
def test_ctrl_c_returns_what_is_finished(tw, monkeypatch, epochs):
    interrupt = Interrupted(monkeypatch)
    result = sweep(tw, {"epochs": epochs}, epochs=None, keep="all")
    assert time.monotonic() - interrupt.sent < 2  # 0.1 s on an idle machine
    assert result.interrupted
    status = result["status"].tolist()
    assert status == (["interrupted", "interrupted", "waiting"] if len(epochs) == 3 else ["finished", "interrupted"])
    assert result.unfinished == [{"epochs": n} for n, s in zip(epochs, status, strict=True) if s != "finished"]
    stopped = next(run for run in result if run.status == "interrupted")
    assert stopped.updates > 0 and len(stopped.history["loss"]) == stopped.updates // 5
    assert np.isnan(stopped["loss"]) and f"interrupted after {stopped.updates} updates" in str(result)


def test_the_rest_of_an_interrupted_sweep_can_be_made(tw, monkeypatch):
    with monkeypatch.context() as patch:
        Interrupted(patch, KeyboardInterrupt())
        part = sweep(tw, {"seed": range(3)}, epochs=10**5)
    assert part.interrupted
    monkeypatch.setattr(SweepProgress, "look", lambda *_: None)
    rest = part + sweep(tw, part.unfinished, epochs=1)
    assert len(rest) == 3 and not rest.interrupted and (rest["status"] == "finished").all()


def test_another_exception_ends_the_sweep(tw, monkeypatch):
    Interrupted(monkeypatch, OSError("a handler of one's own"))
    with pytest.raises(OSError, match="of one's own"):
        sweep(tw, {"seed": range(2)}, epochs=10**5)
    assert sweep(tw, {"seed": range(2)}, epochs=1)["updates"].tolist() == [5, 5]


def test_a_run_without_memory_stops_no_other(tw):
    net = lambda width: tw.models.mlp((width, width), 2)  # noqa: E731
    result = sweep(tw, {"width": [4, 10**6]}, net=net, keep="all")
    assert result["status"].tolist() == ["finished", "failed"]
    assert "memory" in result[1].error and result[1].error in str(result)
    with pytest.raises(RuntimeError, match=r"every run failed, the first by: .*memory"):
        sweep(tw, {"width": [10**6]}, net=net)


def test_progress_and_silence(tw, capsys):
    sweep(tw, {"seed": range(2)})
    assert capsys.readouterr().out == ""
    sweep(tw, {"seed": range(2)}, verbose=1)
    assert capsys.readouterr().out.startswith("2 runs in ")


BAD = [
    ({"over": {}}, ValueError, "over is empty"),
    ({"over": []}, ValueError, "over is empty"),
    ({"over": 5}, TypeError, "expected a dict of lists"),
    ({"over": [5]}, TypeError, r"over\[0\] is 5"),
    ({"over": {"lr": []}}, ValueError, r"over\['lr'\] is empty"),
    ({"over": {"lr": 0.1}}, TypeError, r"over\['lr'\] is 0.1, expected a list"),
    ({"over": {"lr": "abc"}}, TypeError, "expected a list"),
    ({"over": {3: [1]}}, TypeError, "key 3"),
    ({"over": {"status": [1]}}, ValueError, "'status', which is a column"),
    ({"over": {"loss": [1]}}, ValueError, "'loss', which is a column"),
    ({"over": {"width": [1]}}, ValueError, "nothing takes 'width'.*lambda width"),
    ({"net": lambda width: None}, ValueError, r"net asks for 'width', which is not swept \(swept are seed"),
    ({"over": [{"lr": 1}, {"seed": 0}], "optimizer": lambda lr: None}, ValueError, "'lr', which run 1 lacks"),
    ({"net": lambda w: 5, "over": {"w": [1]}}, TypeError, "net is 5, expected an nn.Module"),
    ({"net": 5}, TypeError, "net is 5"),
    ({"optimizer": "sgd"}, TypeError, "optimizer is 'sgd'"),
    ({"net": lambda x, /: None}, TypeError, "by position only"),
    ({"over": {"seed": [1.5]}}, TypeError, "seed is 1.5"),
    ({"over": {"seed": [0], "epochs": [1]}}, ValueError, "epochs is 2, but over has values"),
    ({"epochs": None}, TypeError, "epochs is missing"),
    ({"epochs": 0}, ValueError, "epochs is 0"),
    ({"batch_size": 1.5}, TypeError, "batch_size"),
    ({"threads": 0}, ValueError, "threads is 0"),
    ({"threads": 5000}, ValueError, "threads = 5000"),
    ({"keep": "worst"}, ValueError, "keep is 'worst'"),
    ({"monitor": "val_loss"}, ValueError, "no 'val_loss'; there are loss"),
    ({"mode": "up"}, ValueError, "mode is 'up'"),
    ({"metrics": ["f1"]}, ValueError, "unknown metric"),
    ({"shards": 3}, ValueError, "power of two"),
    ({"callbacks": []}, TypeError, "callbacks makes no sense here.*Trainer.fit"),
    ({"world": 2}, TypeError, "world makes no sense here"),
    ({"patience": 2}, TypeError, "no argument 'patience'"),
    ({"validation_data": 3}, TypeError, "pair"),
    ({"validation_data": (np.zeros((3, 5)), [0, 1])}, ValueError, "y has 2 rows, x has 3"),
    ({"data": (np.zeros((0, 5)), np.zeros(0, int))}, ValueError, "no rows"),
    ({"data": (np.zeros((3, 5)), [0, 1, 2])}, ValueError, "label"),
    ({"data": (np.full((3, 5), np.nan), [0, 1, 0])}, ValueError, "not finite"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_bad_input(tw, options, error, message):
    with pytest.raises(error, match=message):
        sweep(tw, **{"over": {"seed": [0]}, **options})


def test_a_batch_that_a_batch_norm_can_not_train_on(tw):
    with pytest.raises(ValueError, match="batch norm"):
        sweep(tw, {"batch_size": [13]}, batch_size=None, net=tw.models.mlp((4,), 2, batch_norm=True))


def test_data_are_converted_once(tw, monkeypatch):
    x, y = data()
    calls = counted(monkeypatch, tw._core, "sweep")
    sweep(tw, {"width": [4, 6]}, net=lambda width: tw.models.mlp((width,), 2), data=(x.astype(float), y))
    first, second = calls[0][0]
    assert all(a is b for a, b in zip(first["data"], second["data"], strict=True))
