"""The run folder: its files, what a resumed run keeps of them, and folders that are taken."""

import csv
import json
import math

import numpy as np
import pytest
from thalweg.checkpoint import CheckpointError, save
from thalweg.run import COLUMNS, RunFolder, new_folder

STATE = {"parameters": {"w": np.ones(3, np.float32)}, "buffers": {}, "optimizer": [], "meta": {"t": 4, "epoch": 2}}


def row(epoch, **more):
    return {"epoch": epoch, "step": 2 * epoch, "loss": 1 / epoch, "lr": 0.1, **more}


def test_metrics_are_the_same_in_both_files(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.create({"model": "cnn"})
    rows = [row(1), row(2, grad_norm=math.nan), row(3, test_accuracy=0.99)]
    for each in rows:
        run.add(each)
    table = list(csv.DictReader((run.path / "metrics.csv").read_text().splitlines()))
    lines = [
        json.loads(line, parse_constant=pytest.fail) for line in (run.path / "metrics.jsonl").read_text().splitlines()
    ]
    assert tuple(table[0]) == COLUMNS and len(table) == len(lines) == 3
    assert [float(t["loss"]) for t in table] == [r["loss"] for r in lines] == [r["loss"] for r in rows]
    assert lines[1]["grad_norm"] is None and table[2]["test_accuracy"] == "0.99" and table[0]["test_accuracy"] == ""
    with pytest.raises(ValueError, match="unknown columns"):
        run.add({"lss": 1})


def test_a_resumed_run_continues_its_table_where_the_checkpoint_ends(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.create({"model": "cnn"})
    run.add(row(1))
    run.add(row(2))
    run.save(STATE, {"model": "cnn"})
    run.add(row(3))  # after the checkpoint: lost when the run is killed here
    (run.path / ".tmp-step-00000009-1-ab").mkdir()
    again = RunFolder(tmp_path / "run")
    state, config, rows = again.load()
    assert state["meta"] == STATE["meta"] and config == {"model": "cnn"} and rows == [row(1), row(2)]
    again.resume(config, rows)
    again.add(row(3, loss=0.25))
    table = list(csv.DictReader((run.path / "metrics.csv").read_text().splitlines()))
    assert [t["epoch"] for t in table] == ["1", "2", "3"] and table[2]["loss"] == "0.25"
    assert not list(run.path.glob(".tmp*"))


def test_folders_that_hold_a_run_are_not_taken(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.create({})
    with pytest.raises(FileExistsError, match="already holds a run"):
        RunFolder(tmp_path / "run").create({})
    assert [new_folder(tmp_path / "new").name for _ in range(3)] == ["new", "new-2", "new-3"]


def test_a_checkpoint_of_another_program_is_explained(tmp_path):
    save(tmp_path, STATE)
    with pytest.raises(CheckpointError, match="not written by `thalweg train`"):
        RunFolder(tmp_path).load()
