"""Runs that are stopped, killed, damaged, starved or cut off from their output: exit codes, messages, what remains."""

import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from thalweg import checkpoint

from .processes import SECONDS, command, environment, metrics, started, thalweg, wait_for

# Ctrl-C at the moment when NumPy is imported.
INTERRUPT = (
    "before = builtins.__import__; builtins.__import__ = lambda name, *a, **k: "
    "name == 'numpy' and os.kill(os.getpid(), signal.SIGINT) or before(name, *a, **k)"
)
RUN = ("train", "--model", "mlp", "--epochs", "6")


def weights(folder):
    state = checkpoint.load(folder)
    return {name: array.tobytes() for name, array in {**state["parameters"], **state["buffers"]}.items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that is never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    assert thalweg(folder, *RUN, "--out", "run").returncode == 0
    return folder / "run"


def assert_same_run(found, expected):
    assert weights(found) == weights(expected)
    timeless = [{k: v for k, v in row.items() if k != "samples_per_second"} for row in metrics(found)]
    assert timeless == [{k: v for k, v in row.items() if k != "samples_per_second"} for row in metrics(expected)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_saves_and_the_resumed_run_has_the_same_bits(tmp_path, whole, number, code):
    process = started(tmp_path, *RUN, "--out", "run")
    wait_for(process, "epoch   2/6")
    process.send_signal(number)
    rest = process.communicate(timeout=SECONDS)[0]
    if process.returncode == 0:
        pytest.skip("the run ended before the signal came")
    assert process.returncode == code
    assert f"{number.name}: saved after step" in rest and "thalweg train --resume run" in rest
    result = thalweg(tmp_path, "train", "--resume", "run", "--threads", "1", "--world", "2")
    assert result.returncode == 0, result.stderr
    assert_same_run(tmp_path / "run", whole)


def test_killed_anywhere_the_resumed_run_has_the_same_bits(tmp_path, whole):
    kills = 0
    for attempt in range(12):
        arguments = ("train", "--resume", "run") if attempt else (*RUN, "--out", "run")
        fault = f"{('write', 'rename', 'fsync')[attempt % 3]}:{14 + attempt}:KILL"  # 8 writes make the first checkpoint
        result = thalweg(tmp_path, *arguments, THALWEG_FAULT=fault)
        assert result.returncode in (0, -signal.SIGKILL), result.stderr
        kills += result.returncode != 0
        if result.returncode == 0:
            break
    else:
        assert thalweg(tmp_path, "train", "--resume", "run").returncode == 0
    assert kills >= 2
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.parametrize("fault", ["rename:1:KILL", "write:4:KILL", "rename:5:KILL", "write:5:ENOSPC", "open:9:EIO"])
def test_a_run_that_ended_before_its_first_checkpoint_goes_on_by_resume(tmp_path, whole, fault):
    first = thalweg(tmp_path, *RUN, "--out", "run", THALWEG_FAULT=fault)
    assert first.returncode in (-signal.SIGKILL, 7), first.stderr
    again = thalweg(tmp_path, *RUN, "--out", "run")
    if fault != "rename:1:KILL":  # there the folder holds nothing yet
        assert again.returncode == 2 and "go on with it by --resume run" in again.stderr, again.stderr
        result = thalweg(tmp_path, "train", "--resume", "run", "--world", "2")
        if fault == "rename:5:KILL":  # the checkpoint is there, but LATEST does not name it
            assert result.returncode == 4 and "or use --fallback" in result.stderr, result.stderr
            result = thalweg(tmp_path, "train", "--resume", "run", "--fallback")
        else:
            assert "no checkpoint yet: the run starts anew from its config.json" in result.stdout
        assert result.returncode == 0, result.stderr
    assert_same_run(tmp_path / "run", whole)


def test_ctrl_c_during_the_imports_is_quiet(tmp_path):
    code = f"import builtins, os, signal; {INTERRUPT}; from thalweg_command import main; main()"
    result = subprocess.run([sys.executable, "-c", code, "train"], cwd=tmp_path, env=environment(), capture_output=True,
                            timeout=SECONDS, check=False)  # fmt: skip
    assert (result.returncode, result.stdout, result.stderr) == (130, b"", b"")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_twice_leaves_at_once_and_the_folder_is_whole(tmp_path):
    process = started(tmp_path, "train", "--model", "resnet20", "--epochs", "50", "--out", "run")
    wait_for(process, "epoch   1/50")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=SECONDS)
    assert process.returncode in (130, -signal.SIGINT) and time.monotonic() - began < 10
    assert checkpoint.load(tmp_path / "run")["meta"]["t"] > 0


def test_a_finished_run_that_is_resumed_only_tests_again(tmp_path, whole):
    before = metrics(whole)
    result = thalweg(tmp_path, "train", "--resume", whole)
    assert result.returncode == 0 and "test accuracy" in result.stdout
    assert metrics(whole) == before


def test_a_diverging_run_ends_with_5_names_a_tensor_and_keeps_the_checkpoint(tmp_path):
    result = thalweg(
        tmp_path, "train", "--model", "mlp", "--lr", "1000", "--optimizer", "sgd", "--epochs", "30", "--out", "run"
    )
    if result.returncode == 0:
        pytest.skip("this network survives the largest rate")
    assert result.returncode == 5, result.stderr
    assert "thalweg: " in result.stderr and "checkpoint stays in run" in result.stderr
    assert "a lower --lr than 1000, or --max-norm 1." in result.stderr
    assert checkpoint.verify(tmp_path / "run")["step"] >= 0


def test_resuming_what_is_no_run_or_damaged(tmp_path, whole):
    missing = thalweg(tmp_path, "train", "--resume", "none")
    assert missing.returncode == 4 and "none" in missing.stderr
    changed = thalweg(tmp_path, "train", "--resume", whole, "--epochs", "9")
    assert changed.returncode == 2 and "--epochs is 9, expected 6, as the run" in changed.stderr


def test_a_damaged_checkpoint_ends_with_4_and_fallback_goes_on(tmp_path, whole):
    assert thalweg(tmp_path, *RUN, "--out", "run").returncode == 0
    newest = tmp_path / "run" / (tmp_path / "run" / "LATEST").read_text().strip()
    data = bytearray((newest / "model.safetensors").read_bytes())
    data[-5] ^= 1
    (newest / "model.safetensors").write_bytes(data)
    result = thalweg(tmp_path, "train", "--resume", "run")
    assert result.returncode == 4 and "model.safetensors is damaged in tensor" in result.stderr
    result = thalweg(tmp_path, "train", "--resume", "run", "--fallback")
    assert result.returncode == 0 and "going on from" in result.stdout, result.stderr
    assert_same_run(tmp_path / "run", whole)


def test_an_edited_configuration_is_refused(tmp_path):
    assert thalweg(tmp_path, "train", "--model", "mlp", "--epochs", "1", "--out", "run").returncode == 0
    path = tmp_path / "run" / "config.json"
    original = path.read_text()
    for old, new, message in (
        ('"lr": 0.1', '"lr": 0.2', "lr is 0.2, expected 0.1"),
        ('"lr": 0.1', '"lr": NaN', "lr is nan"),
        ('"lr"', '"rate"', "rate is 0.1, expected one of the keys"),
        ("{", "", "config.json"),
    ):
        path.write_text(original.replace(old, new, 1))
        result = thalweg(tmp_path, "train", "--resume", "run")
        assert result.returncode == 2 and message in result.stderr, result.stderr


def test_a_full_disk_ends_with_7_and_the_checkpoint_from_before_is_whole(tmp_path):
    result = thalweg(tmp_path, *RUN, "--out", "run", THALWEG_FAULT="write:14:ENOSPC")
    assert result.returncode == 7 and "No space left on device" in result.stderr
    assert checkpoint.load(tmp_path / "run")["meta"]["t"] >= 0


@pytest.mark.parametrize("streams", [">&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", "| head -n 1"])
def test_closed_or_full_output_never_ends_a_run(tmp_path, streams):
    line = " ".join(f"'{part}'" for part in command("train", "--model", "mlp", "--epochs", "2", "--out", "run"))
    result = subprocess.run(["bash", "-c", f"set -o pipefail; {line} {streams}"], cwd=tmp_path, env=environment(),
                            timeout=SECONDS, check=False)  # fmt: skip
    assert result.returncode == 0
    assert float(metrics(tmp_path / "run")[-1]["test_accuracy"]) > 0.5


@pytest.mark.parametrize("term", ["xterm-256color", "dumb", ""])
def test_terminals_with_and_without_a_screen(tmp_path, term):
    master, slave = pty.openpty()
    process = subprocess.Popen(command("train", "--model", "mlp", "--epochs", "2", "--out", "run"), cwd=tmp_path,
                               env=environment(TERM=term), stdout=slave, stderr=slave, stdin=slave)  # fmt: skip
    os.close(slave)
    output = b""
    try:
        while chunk := os.read(master, 1 << 16):
            output += chunk
    except OSError:  # how a terminal says that its other end is closed
        pass
    os.close(master)
    assert process.wait(timeout=SECONDS) == 0
    assert b"epoch   2/2" in output and b"test accuracy" in output
    if term != "xterm-256color":
        assert b"\x1b[?25l" not in output  # nothing hides the cursor
