"""`thalweg sweep`: its table and files, the bits of `thalweg train`, signals, wrong options."""

import csv
import json
import signal
import time

import pytest
from thalweg.cli.interrupt import Stopped
from thalweg.cli.sweep import _signals

from .processes import SECONDS, SLOW, metrics, started, thalweg


def rows(folder):
    return list(csv.DictReader((folder / "runs.csv").read_text().splitlines()))


def test_a_sweep_has_the_runs_of_train(tmp_path):
    choices = ("--epochs", "2", "--batch-size", "100")
    result = thalweg(tmp_path, "sweep", "--model", "mlp", "--optimizer", "sgd,adam", "--seeds", "2", *choices)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    assert "4 runs in" in result.stdout and "mean val_loss" in result.stdout and "in runs/sweep:" in result.stdout
    found = rows(tmp_path / "runs" / "sweep")
    assert [(r["optimizer"], r["lr"], r["seed"]) for r in found] == [
        ("sgd", "0.1", "0"), ("sgd", "0.1", "1"), ("adam", "0.003", "0"), ("adam", "0.003", "1")]  # fmt: skip
    alone = thalweg(tmp_path, "train", "--model", "mlp", "--optimizer", "adam", "--seed", "1", *choices, "--out", "one")
    assert alone.returncode == 0, alone.stderr
    for name in ("loss", "val_loss", "val_accuracy", "grad_norm"):
        assert metrics(tmp_path / "one")[1][name] == found[3][name]
    lines = (tmp_path / "runs" / "sweep" / "runs.jsonl").read_text().splitlines()
    assert [float(v) for v in json.loads(lines[3])["history"]["loss"]] == [
        float(r["loss"]) for r in metrics(tmp_path / "one")[:2]
    ]


def test_precisions_can_be_compared(tmp_path):
    result = thalweg(tmp_path, "sweep", "--model", "mlp", "--precision", "float32,bf16", "--epochs", "1")
    assert result.returncode == 0, result.stderr
    plain, rounded = rows(tmp_path / "runs" / "sweep")
    assert (plain["precision"], rounded["precision"]) == ("float32", "bf16")
    assert plain["loss"] != rounded["loss"] and abs(float(plain["loss"]) - float(rounded["loss"])) < 0.05
    one = thalweg(tmp_path, "sweep", "--model", "mlp", "--precision", "bf16", "--epochs", "1", "--out", "one")
    assert one.returncode == 0 and rows(tmp_path / "one")[0]["loss"] == rounded["loss"]
    wrong = thalweg(tmp_path, "sweep", "--precision", "half")
    assert wrong.returncode == 2 and "--precision is 'half', expected one of float32, bf16" in wrong.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_leaves_what_is_finished(tmp_path, number, code):
    for seconds in (0.3, 1.5, 7.5):  # a machine with other work may not have finished a run by then
        process = started(tmp_path, "sweep", "--model", "mlp", "--seeds", "3000", "--out", "some", "--epochs", "2")
        limit = time.monotonic() + SECONDS
        while not (tmp_path / "some").exists() and time.monotonic() < limit:
            time.sleep(0.02)
        time.sleep(seconds * SLOW)
        process.send_signal(number)
        out = process.communicate(timeout=SECONDS)[0]
        if (tmp_path / "some" / "runs.csv").exists():
            break
    if process.returncode == 0:
        pytest.skip("the sweep ended before the signal came")
    assert process.returncode == code, out
    assert "not started" in out and len(rows(tmp_path / "some")) == 3000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--lr", "0.1,fast"), "--lr is '0.1,fast', expected numbers with commas"),
        (("--lr", "-1"), "--lr is -1.0, expected a number above 0"),
        (("--batch-size", "1.5"), "--batch-size is '1.5', expected whole numbers"),
        (("--batch-size", "64,5000"), "--batch-size is 5000, expected a whole number from 1 to"),
        (("--model", "mlp,vgg"), "--model is 'vgg', expected one of"),
        (("--seeds", "0"), "--seeds is 0, expected a whole number from 1 on"),
        (("--threads", "0"), "--threads is 0, expected a whole number from 1"),
        (("--out", "file/below"), "--out is 'file/below', expected a folder that can be made"),
        (("--out", ""), "--out is '', expected the name of a folder"),
    ],
)
def test_wrong_options(tmp_path, options, message):
    (tmp_path / "file").write_text("")
    result = thalweg(tmp_path, "sweep", *options)
    assert result.returncode == 2 and message in result.stderr and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_before_the_first_run_has_its_exit_code(number, code):
    with pytest.raises(Stopped) as stopped, _signals():
        signal.raise_signal(number)
    assert stopped.value.exit_code == code
