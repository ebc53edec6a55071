"""For whom ranks wait: what steps, histories and the line of an epoch say of a rank that is late."""

import re

import numpy as np
import pytest
from thalweg.waits import Waits

STEPS = 20


def trainer(tw, world):
    net = tw.nn.Sequential(tw.nn.Linear(20), tw.nn.BatchNorm(), tw.nn.ReLU(), tw.nn.Linear(5))
    return tw.Trainer(net, loss=tw.losses.CrossEntropy(), optimizer=tw.optim.SGD(lr=0.1), world=world, threads=1)


def data(rows):
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, 7)).astype("f4"), rng.integers(0, 5, rows)


@pytest.mark.parametrize("late", [0, 2])
def test_a_late_rank_is_named(late, tw, monkeypatch):
    monkeypatch.setenv("THALWEG_DELAY", f"{late}:0.03")
    t = trainer(tw, 3)
    history = t.fit(*data(8 * STEPS), epochs=1, batch_size=8, verbose=0)
    assert history.steps["waited_for"].count(late) >= 0.8 * STEPS, history.steps  # the machine may hold others up too
    assert np.median(history.steps["seconds_waited_for"]) > 0.025
    assert history.waits.share(late) > 0.5
    report = t.step(*data(8))
    assert report.waited_for == late and report.seconds_waited_for > 0.02
    assert report.seconds >= report.seconds_comm >= report.seconds_wait >= 0


def test_one_rank_waits_for_nobody(tw):
    t = trainer(tw, 1)
    history = t.fit(*data(32), epochs=1, batch_size=8, verbose=0)
    report = t.step(*data(8))
    assert (report.waited_for, report.seconds_waited_for, history.waits) == (-1, 0.0, None)
    assert "waited_for" not in history.steps


def test_the_epoch_says_who_was_late(tw, capsys, monkeypatch):
    monkeypatch.setenv("THALWEG_DELAY", "1:0.06")
    trainer(tw, 2).fit(*data(160), epochs=1, batch_size=8)
    assert re.search(r"samples/s  rank 1 made the others wait (9\d|100)% of the time\n", capsys.readouterr().out)


@pytest.mark.parametrize("text", ["1", "a:1", "1:x", "1:-2", "1:nan"])
def test_delays_are_rank_and_seconds(text, tw, monkeypatch):
    monkeypatch.setenv("THALWEG_DELAY", text)
    with pytest.raises(RuntimeError, match=r"THALWEG_DELAY is .*, expected RANK:SECONDS"):
        trainer(tw, 2).build(*data(8))


def columns(steps, seconds=1.0):
    times = {"seconds": seconds, "seconds_comm": 0.5, "seconds_wait": 0.2}
    return {name: np.full(steps, value) for name, value in times.items()}


def test_what_processes_say_adds_up():
    waits = Waits(3)
    told = np.array([[[1, 1], [0.4, 0.0]], [[-1, 2], [0.0, 0.1]], [[1, 0], [0.2, 0.3]]])  # (ranks, 2, steps)
    ranks, seconds = waits.add(columns(2), told)
    np.testing.assert_array_equal(ranks, [1, 0])
    np.testing.assert_allclose(seconds, [0.3, 0.15])  # means of the two others
    np.testing.assert_allclose(waits.waited_for, [0.15, 0.3, 0.05])
    assert waits.line() == "rank 1 made the others wait 15% of the time"
    first = str(waits).splitlines()[0]
    assert first == "2.00 s in steps of this rank: 50.0% computing, 30.0% exchanging, 20.0% waiting"


def test_what_threads_say_is_a_mean_already():
    waits = Waits(4)
    ranks, seconds = waits.add(columns(1), np.array([[[3], [0.3]]]))
    assert (ranks[0], seconds[0], waits.share(3)) == (3, 0.3, 0.3)


def test_little_is_not_spoken_of():
    waits = Waits(2)
    waits.add(columns(1, 10.0), np.array([[[1], [0.4]]]))
    assert waits.line() == ""
    assert str(Waits(2)) == "no step was reported"
