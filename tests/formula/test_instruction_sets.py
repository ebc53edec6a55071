"""Every formula gives the same bits from the generic, AVX2 and AVX-512 kernels, each in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from thalweg import _core

ROOT = Path(__file__).resolve().parents[2]


def run(isa):
    done = subprocess.run(
        [sys.executable, "-m", "tests.formula.digests"], cwd=ROOT, env={**os.environ, "THALWEG_ISA": isa},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["isa"] == isa
    return report["digests"]


def test_same_bits_from_every_instruction_set():
    isas = _core.isas()
    if len(isas) < 2:
        pytest.skip(f"only {isas} here")
    first, *others = (run(isa) for isa in isas)
    assert len(first) > 100
    for other in others:
        assert not [name for name in first if first[name] != other[name]]
