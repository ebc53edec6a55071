"""bench/check.py on made-up rows: what counts as a loss, what is said of other machines, what is stored."""

import importlib
import json
import os
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
MACHINE = {"vendor": "AuthenticAMD", "family": "25", "model": "17", "name": "AMD EPYC", "kernels": "avx512"}


@pytest.fixture
def lib(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))

    def module(name):
        return importlib.import_module(name)

    yield module
    for name in [n for n in sys.modules if n == "check" or n.split(".")[0] == "compare_lib"]:
        del sys.modules[name]


def row(name="mlp", ratio=2.0, spread=0.02, threads=1, **more):
    return {"workload": name, "threads": threads, "ratio": ratio, "spread": spread, "others": 0.0, **more}


def kinds(lib, rows, stored):
    return [v.kind for v in lib("compare_lib.check").compare(rows, stored)]


@pytest.mark.parametrize(
    "ratio, kind", [(2.0, "same"), (1.95, "same"), (1.93, "loss"), (2.05, "same"), (2.07, "better"), (0.5, "loss")]
)
def test_noise_is_three_times_the_spread(lib, ratio, kind):
    stored = {"mlp, 1 thread": {"ratio": 2.0, "spread": 0.01}}  # the larger spread counts: 0.02
    assert kinds(lib, [row(ratio=ratio)], stored) == [kind]


def test_a_spread_is_at_least_a_hundredth_of_the_ratio(lib):
    stored = {"mlp, 1 thread": {"ratio": 2.0, "spread": 0.0}}
    assert kinds(lib, [row(ratio=1.95, spread=0.0), row(ratio=1.93, spread=0.0)], stored) == ["same", "loss"]


def test_threads_are_apart(lib):
    stored = {"mlp, 1 thread": {"ratio": 2.0, "spread": 0.01}, "mlp, 2 threads": {"ratio": 1.0, "spread": 0.01}}
    assert kinds(lib, [row(), row(threads=2, ratio=1.0), row("conv")], stored) == ["same", "same", "new"]


def write_run(path, rows, **machine):
    path.write_text(json.dumps({"machine": {**MACHINE, **machine}, "rows": rows}))
    return str(path)


def test_the_whole_way(lib, tmp_path, capsys):
    main, ratios = lib("check").main, ["--ratios", str(tmp_path / "ratios.json")]
    good = write_run(tmp_path / "good.json", [row(), row("conv", 1.3)])
    assert main([good, *ratios]) == 0 and "ANOTHER MACHINE" in capsys.readouterr().out
    assert main([good, "--update", *ratios]) == 0
    assert main([good, *ratios]) == 0
    shown = capsys.readouterr().out
    assert "ANOTHER" not in shown and "AuthenticAMD family 25 model 17, avx512" in shown and shown.count("same") == 2
    bad = write_run(tmp_path / "bad.json", [row(ratio=1.5), row("conv", 1.3)])
    assert main([bad, *ratios]) == 1 and "1 of 2 lost beyond noise: mlp, 1 thread" in capsys.readouterr().out
    other = write_run(tmp_path / "other.json", [row(ratio=1.5)], model="1")
    assert main([other, *ratios]) == 0 and "ANOTHER MACHINE: nothing is stored for" in capsys.readouterr().out
    slower_kernels = write_run(tmp_path / "avx2.json", [row(ratio=1.5)], kernels="avx2")
    assert main([slower_kernels, *ratios]) == 0 and "ANOTHER MACHINE" in capsys.readouterr().out
    disagrees = write_run(tmp_path / "error.json", [{"workload": "mlp", "threads": 1, "error": "the loss differs"}])
    assert main([disagrees, *ratios]) == 1 and "the loss differs" in capsys.readouterr().out


def test_update_keeps_what_was_not_measured_and_refuses_a_busy_machine(lib, tmp_path):
    main, file = lib("check").main, tmp_path / "ratios.json"
    ratios = ["--update", "--ratios", str(file)]
    main([write_run(tmp_path / "a.json", [row(), row("conv", 1.3)]), *ratios])
    main([write_run(tmp_path / "b.json", [row(ratio=2.5), {"workload": "conv", "threads": 1, "error": "?"}]), *ratios])
    main([write_run(tmp_path / "c.json", [row(ratio=9.0)], model="1"), *ratios])
    stored = json.loads(file.read_text())
    assert {m: {k: v["ratio"] for k, v in s["rows"].items()} for m, s in stored.items()} == {
        "AuthenticAMD family 25 model 17, avx512": {"conv, 1 thread": 1.3, "mlp, 1 thread": 2.5},
        "AuthenticAMD family 25 model 1, avx512": {"mlp, 1 thread": 9.0},
    }
    busy = write_run(tmp_path / "d.json", [row(ratio=1.0, others=0.5)])
    with pytest.raises(SystemExit, match="busy during mlp, 1 thread"):
        main([busy, *ratios])
    assert json.loads(file.read_text()) == stored
    assert main([busy, "--busy", *ratios]) == 0


def test_ratio_and_spread_of_rounds(lib):
    measured = lib("compare_lib.timing").Measured({"ours": [1.0, 1.0, 2.0, 1.0], "peer": [2.0, 3.0, 2.0, 2.0]})
    assert measured.ratios("peer", "ours") == [2.0, 3.0, 1.0, 2.0]
    assert (measured.ratio("peer", "ours"), measured.spread("peer", "ours")) == (2.0, 0.5)


def test_processor(lib):
    machine = lib("compare_lib.machine")
    first = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: Xeon\n"
    text = f"{first}\n{first.replace('143', '7')}"
    found = machine.processor(text)
    assert found == {"vendor": "GenuineIntel", "family": "6", "model": "143", "name": "Xeon"}
    assert machine.machine_class({**found, "kernels": "avx2"}) == "GenuineIntel family 6 model 143, avx2"
    assert machine.machine_class({**machine.processor(""), "kernels": "generic"})  # no such file: still a name


def test_processes_that_still_run_are_not_others(lib):
    used = lib("compare_lib.machine")._processor_seconds
    assert abs(used(os.getpid()) - sum(os.times()[:2])) < 0.5 and used(0) == 0
