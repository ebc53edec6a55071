"""Saving while everything fails: each call in turn, for errors and for kill -9, and kills at random instants."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from thalweg import checkpoint

from .states import assert_same, state

OPERATIONS = ("open", "write", "fsync", "rename", "close")


def saved_steps(folder):
    return sorted(name for name in os.listdir(folder) if not name.startswith("step-")), checkpoint.load(folder)["meta"][
        "t"
    ]


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_old_checkpoint_is_whole_whichever_call_fails(tmp_path, monkeypatch, operation, error):
    checkpoint.save(tmp_path, state(1))
    for n in range(1, 100):
        monkeypatch.setenv("THALWEG_FAULT", f"{operation}:{n}:{error}")
        try:
            checkpoint.save(tmp_path, state(2))
        except OSError as failure:
            assert failure.errno == getattr(errno, error) and "checkpoints saved before are whole" in str(failure)
            monkeypatch.delenv("THALWEG_FAULT")
            found = checkpoint.load(tmp_path)
            assert_same(found, state(found["meta"]["t"]))
            assert not [name for name in os.listdir(tmp_path) if name.startswith(".tmp")]
        else:
            break
    assert n > 2, "the fault never struck"
    monkeypatch.delenv("THALWEG_FAULT")
    assert_same(checkpoint.load(tmp_path), state(2))


CHILD = """
    import sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from states import state
    from thalweg import checkpoint
    folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for t in range(first, last):
        checkpoint.save(folder, state(t))
        print(t, flush=True)
"""


def child(tmp_path, first, last, before="", **environment):
    code = textwrap.dedent(before) + textwrap.dedent(CHILD).format(tests=os.path.dirname(__file__))
    return subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), str(first), str(last)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE if before else None, text=True, env=os.environ | environment,
    )  # fmt: skip


@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_at_each_call_a_good_checkpoint_remains(tmp_path, operation):
    checkpoint.save(tmp_path, state(0))
    killed = 0
    for n in (1, 2, 4, 5, 6, 8):
        before = checkpoint.load(tmp_path)["meta"]["t"]
        process = child(tmp_path, before + 1, before + 2, THALWEG_FAULT=f"{operation}:{n}:KILL")
        process.communicate(timeout=60)
        killed += process.returncode == -signal.SIGKILL
        found = checkpoint.load(tmp_path)
        assert found["meta"]["t"] in (before, before + 1)
        assert_same(found, state(found["meta"]["t"]))
        assert process.returncode in (0, -signal.SIGKILL)
        checkpoint.save(tmp_path, state(before + 1))
        assert not [name for name in os.listdir(tmp_path) if name.startswith(".tmp")]
    assert killed >= 2


def test_killed_at_any_instant_a_good_checkpoint_remains(tmp_path):
    checkpoint.save(tmp_path, state(0))
    newest = 0
    for attempt in range(8):
        process = child(tmp_path, newest + 1, newest + 10_000)
        assert process.stdout is not None
        seen = int(process.stdout.readline())
        time.sleep(0.003 * attempt)
        process.kill()
        rest = process.communicate(timeout=60)[0].split()
        seen = int(rest[-1]) if rest else seen
        found = checkpoint.load(tmp_path)
        newest = found["meta"]["t"]
        assert newest >= seen  # what was reported as saved is there
        assert_same(found, state(newest))


def test_two_writers_take_turns(tmp_path):
    processes = [child(tmp_path, first, first + 10) for first in (0, 1000)]
    assert [process.communicate(timeout=60) and process.returncode for process in processes] == [0, 0]
    found = checkpoint.load(tmp_path)
    assert found["meta"]["t"] in (9, 1009)
    assert len(os.listdir(tmp_path)) == 3


NOT_AS_ROOT = """
    import ctypes, os
    if os.geteuid() == 0:  # give up what lets root write everywhere: CAP_DAC_OVERRIDE, and CAP_DAC_READ_SEARCH
        libc, header = ctypes.CDLL(None, use_errno=True), (ctypes.c_uint32 * 2)(0x20080522, 0)
        sets = (ctypes.c_uint32 * 6)()
        assert libc.capget(header, sets) == 0
        for i in range(3): sets[i] &= ~0b110
        assert libc.capset(header, sets) == 0
"""


def test_read_only_folders_are_refused(tmp_path):
    checkpoint.save(tmp_path, state(1))
    tmp_path.chmod(0o500)
    try:
        process = child(tmp_path, 2, 3, before=NOT_AS_ROOT)
        assert process.communicate(timeout=60)[1].splitlines()[-1].startswith("PermissionError: [Errno 13]")
        assert process.returncode == 1
    finally:
        tmp_path.chmod(0o700)
    assert sorted(os.listdir(tmp_path)) == ["LATEST", "step-00000001"]
    assert_same(checkpoint.load(tmp_path), state(1))


@pytest.mark.parametrize("spec", ["write", "write:x:EIO", "paint:1:EIO", "write:1:", "write:1:EWRONG"])
def test_a_misspelt_fault_is_an_error(tmp_path, monkeypatch, spec):
    monkeypatch.setenv("THALWEG_FAULT", spec)
    with pytest.raises(ValueError, match="THALWEG_FAULT"):
        checkpoint.save(tmp_path, state())
