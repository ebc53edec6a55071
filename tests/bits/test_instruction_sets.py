"""The same bits from the generic, AVX2 and AVX-512 objects: every operator's forward, backward and tangent, and a
training run, each in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def in_process(module, *args, isa=None, cores=None, timeout=200):
    """JSON printed by a module of the tests, with one instruction set and number of cores."""
    code = f"import os; {f'os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{cores}]); ' if cores else ''}"
    code += f"import runpy, sys; sys.argv = {[module, *args]!r}; runpy.run_module({module!r}, run_name='__main__')"
    env = {**os.environ, **({"THALWEG_ISA": isa} if isa else {})}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def isas(tw):
    return tw._core.isas()


@pytest.fixture(scope="module")
def operators_generic(isas):
    if "generic" not in isas:
        pytest.skip("built for one instruction set only")
    return in_process("tests.ops.digests", isa="generic")


def differing(a, b):
    return sorted(k for k in a if k != "isa" and a[k] != b[k])


@pytest.mark.timeout(250)
@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_operators(isa, isas, operators_generic):
    if isa not in isas:
        pytest.skip(f"this processor has no {isa}")
    found = in_process("tests.ops.digests", isa=isa)
    assert found["isa"] == isa and operators_generic["isa"] == "generic" and found.keys() == operators_generic.keys()
    assert not differing(found, operators_generic)
    assert all(found[k] for k in found if k.endswith("in place"))


def test_operators_in_place(operators_generic):
    assert all(operators_generic[k] for k in operators_generic if k.endswith("in place"))


@pytest.mark.timeout(250)
def test_operators_on_one_core_and_on_all(operators_generic):
    assert not differing(in_process("tests.ops.digests", cores=1), operators_generic)


@pytest.mark.timeout(250)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bf16"])
def test_training(dtype, isas):
    runs = {isa: in_process("tests.bits.training", dtype, "1", "4", isa=isa) for isa in isas}
    for isa, found in runs.items():
        assert found.pop("isa") == isa
        for name, value in found.items():
            assert value == found[name.replace("world 4", "world 1")], f"{isa}: {name}"
    first = next(iter(runs.values()))
    for isa, found in runs.items():
        assert found == first, f"{isa} differs from {isas[0]}"


def test_an_unknown_instruction_set_is_refused(isas):
    done = subprocess.run(
        [sys.executable, "-c", "import thalweg; print(thalweg._core.isa())"],
        env={**os.environ, "THALWEG_ISA": "avx9000"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0 and "ValueError" in done.stderr and "avx9000" in done.stderr
    assert all(isa in done.stderr for isa in isas)
