"""A few random kills by tools/kills.py, which makes hundreds by hand; and that it would notice a bad end."""

import importlib.util
import random
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)


def tool(name):
    path = Path(__file__).resolve().parents[2] / "tools" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_killed_jobs_end_and_go_on_with_the_same_bits(capsys):
    assert tool("kills").main(["4", "--seed", "2"]) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.startswith("4 kills (")


def test_a_job_that_ends_otherwise_is_a_failure(tmp_path, monkeypatch):
    kills = tool("kills")
    monkeypatch.setattr(kills, "SCRIPT", kills.SCRIPT + "\nraise SystemExit(3)")
    with pytest.raises(kills.Failure, match="the alone job ended with 3 after the kill of nobody"):
        kills.training(["alone"], tmp_path, random.Random(0), 0, 0.0)


def test_flipped_bits_are_noticed(capsys):
    assert tool("flips").main(["200"], every=301) == 0, capsys.readouterr().out
    assert "200 of data flipped" in capsys.readouterr().out
