"""`thalweg train` as a newcomer uses it: what it prints, what it leaves, how good it is, and every option."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import thalweg as tw

from .processes import metrics, thalweg

SHORT = ("train", "--epochs", "1", "--model", "mlp")


def test_the_first_run(tmp_path):
    result = thalweg(tmp_path, "train")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    for text in (f"thalweg {tw.__version__}", "threads", "seed 0", "Conv2d", "BatchNorm", "parameters", "mult-adds",
                 "epoch  20/20", "loss", "accuracy", "lr ", "grad_norm", "images/s", "What to try next"):  # fmt: skip
        assert text in result.stdout, text
    accuracy = float(re.search(r"test accuracy ([\d.]+)%", result.stdout).group(1))
    assert accuracy >= 98.5
    run = tmp_path / "runs" / "digits-cnn"
    rows = metrics(run)
    assert len(rows) == 21 and abs(float(rows[-1]["test_accuracy"]) * 100 - accuracy) < 0.01
    assert [int(row["epoch"]) for row in rows[:20]] == list(range(1, 21))
    for column in ("step", "loss", "accuracy", "val_loss", "val_accuracy", "lr", "grad_norm", "samples_per_second"):
        assert all(np.isfinite(float(row[column])) for row in rows[:20]), column
    assert float(rows[19]["loss"]) < float(rows[0]["loss"])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [int(row["step"]) for row in rows]
    config = json.loads((run / "config.json").read_text())
    assert config["lr"] == 0.1 and config["shards"] == 8 and config["seed"] == 0


def test_the_run_folder_loads_as_a_trainer(tmp_path):
    result = thalweg(tmp_path, *SHORT, "--out", "mine")
    assert result.returncode == 0, result.stderr
    trainer = tw.Trainer.load(tmp_path / "mine")
    _, (x_test, y_test) = tw.data.digits()
    accuracy = np.mean(trainer.predict(x_test).argmax(1) == y_test)
    assert abs(float(metrics(tmp_path / "mine")[-1]["test_accuracy"]) - accuracy) < 1e-6


@pytest.mark.parametrize("seed", range(1, 10))
def test_every_seed_is_good(tmp_path, seed):
    result = thalweg(tmp_path, "train", "--seed", seed, "--out", "run")
    assert result.returncode == 0, result.stderr
    assert float(metrics(tmp_path / "run")[-1]["test_accuracy"]) >= 0.985


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "adagrad"])
def test_every_optimizer_trains(tmp_path, optimizer):
    result = thalweg(tmp_path, "train", "--optimizer", optimizer, "--epochs", "6", "--out", "run")
    assert result.returncode == 0, result.stderr
    assert float(metrics(tmp_path / "run")[-1]["test_accuracy"]) >= 0.95


@pytest.mark.parametrize(("model", "epochs", "least"), [("mlp", 10, 0.94), ("lenet5", 10, 0.9), ("resnet20", 2, 0.8)])
def test_every_model_trains(tmp_path, model, epochs, least):
    result = thalweg(tmp_path, "train", "--model", model, "--epochs", epochs)
    assert result.returncode == 0, result.stderr
    assert float(metrics(tmp_path / "runs" / f"digits-{model}")[-1]["test_accuracy"]) >= least


def test_folders_are_numbered_and_never_taken_twice(tmp_path):
    for _ in range(2):
        assert thalweg(tmp_path, *SHORT).returncode == 0
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"digits-mlp", "digits-mlp-2"}
    result = thalweg(tmp_path, *SHORT, "--out", "runs/digits-mlp")
    assert result.returncode == 2 and "already holds a run" in result.stderr and "--resume" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--model", "vgg"), "--model is 'vgg', expected one of cnn, mlp, lenet5, resnet20"),
        (("train", "--optimizer", "lion"), "--optimizer is 'lion', expected one of sgd, adam"),
        (("train", "--precision", "half"), "--precision is 'half', expected one of float32, bf16"),
        (("train", "--lr", "nan"), "--lr is nan, expected a number above 0, at most 1000"),
        (("train", "--lr", "fast"), "Invalid value for '--lr'"),
        (("train", "--epochs", "0"), "--epochs is 0, expected a whole number from 1"),
        (("train", "--batch-size", "1295"), "--batch-size is 1295, expected a whole number from 1 to 1294"),
        (("train", "--world", "0"), "--world is 0, expected a whole number from 1"),
        (("train", "--shards", "3"), "--shards is 3, expected a power of two"),
        (("train", "--modell", "cnn"), "No such option: --modell"),
        (("train", "--resume", "a", "--out", "b"), "--out is 'b', expected nothing beside --resume"),
        (("train", "--out", ""), "--out is '', expected the name of a folder"),
        (("train", "--resume", ""), "--resume is '', expected the name of a folder"),
        (("train", "--out", "/etc/passwd"), "--out is '/etc/passwd', expected a folder that can be made and written"),
        (
            ("train", "--out", "/etc/passwd/a"),
            "--out is '/etc/passwd/a', expected a folder that can be made and written",
        ),
        (("train", "--out", "/proc/a"), "--out is '/proc/a', expected a folder that can be made and written"),
        (("train", "--out", "a" * 300), "File name too long"),
        (("train", "--max-norm", "0"), "--max-norm is 0.0, expected a finite number above 0"),
        (("train", "--max-norm", "inf"), "--max-norm is inf, expected a finite number above 0"),
        (("train", "--fallback"), "--fallback is True, expected a --resume"),
        (("trian",), "No such command"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(tmp_path, arguments, message):
    result = thalweg(tmp_path, *arguments)
    assert result.returncode == 2 and message in result.stderr and "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "variable", "value", "message"),
    [
        (("info",), "THALWEG_ISA", "foo", "THALWEG_ISA=foo cannot run here"),
        (("train",), "THALWEG_ISA", "foo", "THALWEG_ISA=foo cannot run here"),
        (("train",), "THALWEG_FAULT", "foo", "THALWEG_FAULT is 'foo', expected <open|write"),
        (("train",), "THALWEG_FAULT", "write:900:EFOO", "names the unknown error 'EFOO'"),
    ],
)
def test_wrong_variables_are_refused_in_one_line(tmp_path, arguments, variable, value, message):
    result = thalweg(tmp_path, *arguments, **{variable: value})
    assert result.returncode == 2 and message in result.stderr and result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_gradient_can_be_clipped(tmp_path):
    assert "max_norm 0.5," in thalweg(tmp_path, *SHORT, "--max-norm", "0.5", "--out", "run").stdout
    assert tw.Trainer.load(tmp_path / "run").max_norm == 0.5


def test_bf16_is_as_good_and_a_resumed_run_keeps_it(tmp_path):
    result = thalweg(tmp_path, "train", "--precision", "bf16", "--out", "run")
    assert result.returncode == 0, result.stderr
    assert "20 epochs, bf16\n" in result.stdout
    assert float(metrics(tmp_path / "run")[-1]["test_accuracy"]) >= 0.985
    assert json.loads((tmp_path / "run" / "config.json").read_text())["precision"] == "bf16"
    assert tw.Trainer.load(tmp_path / "run").precision == "bf16"
    other = thalweg(tmp_path, "train", "--resume", "run", "--precision", "float32")
    assert other.returncode == 2 and "--precision is 'float32', expected 'bf16', as the run" in other.stderr
    assert thalweg(tmp_path, "train", "--resume", "run").returncode == 0


def test_version_info_and_help(tmp_path):
    assert thalweg(tmp_path, "--version").stdout.strip() == tw.__version__
    module = [sys.executable, "-m", "thalweg", "--version"]
    assert (
        subprocess.run(module, capture_output=True, text=True, timeout=60, check=True).stdout.strip() == tw.__version__
    )
    info = thalweg(tmp_path, "info")
    assert info.returncode == 0 and tw._core.isa() in info.stdout and "threads" in info.stdout
    assert "--resume" in thalweg(tmp_path, "train", "--help").stdout
