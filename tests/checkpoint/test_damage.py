"""Damaged checkpoints: every truncation, flipped bits everywhere, edited headers; what the message names, and the way
back to the previous good one."""

import json
import shutil
import tracemalloc

import numpy as np
import pytest
from thalweg import checkpoint
from thalweg.checkpoint import CheckpointError, CheckpointWarning

from .states import assert_same, state

FILES = ("model.safetensors", "optimizer.safetensors", "state.json", "MANIFEST.json")


@pytest.fixture
def run(tmp_path):
    checkpoint.save(tmp_path, state(1))
    return checkpoint.save(tmp_path, state(2))


@pytest.mark.parametrize("file", FILES)
def test_every_flipped_bit_is_noticed(run, file):
    path = run / file
    whole = path.read_bytes()
    for position in range(0, len(whole), max(1, len(whole) // 150)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=file.replace(".", r"\.")):
            checkpoint.load(run.parent)


@pytest.mark.parametrize("file", FILES)
def test_every_truncation_extension_and_absence_is_noticed(run, file):
    path = run / file
    whole = path.read_bytes()
    for data in [whole[:n] for n in range(0, len(whole), max(1, len(whole) // 40))] + [whole + b"\0", whole + whole]:
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=file.replace(".", r"\.")):
            checkpoint.load(run.parent)
    path.unlink()
    with pytest.raises(CheckpointError):
        checkpoint.load(run.parent)


def edit_header(path, change):
    """Changes the JSON header of a safetensors file, keeping its length."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    change(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    path.write_bytes(raw[:8] + text.ljust(size) + raw[8 + size :])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda h: h["0.weight"].update(shape=[3, 4, 3, 2]),
            r"tensor '0.weight' has dtype float32 and shape \[3, 4, 3, 2\]",
        ),
        (lambda h: h["0.weight"].update(dtype="I32"), "tensor '0.weight' has dtype int32"),
        (lambda h: h.pop("0.bias"), "tensor '0.bias' is missing"),
        (lambda h: h["0.bias"].update(data_offsets=[0, 16]), "in tensor '0.bias'"),
    ],
)
def test_edited_headers_are_named(run, change, message):
    edit_header(run / "model.safetensors", change)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(run.parent)


def test_the_damaged_tensor_is_named(run):
    path = run / "model.safetensors"
    raw = bytearray(path.read_bytes())
    position = raw.index(state(2)["parameters"]["3.weight"].tobytes())
    raw[position + 100] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged in tensor '3\.weight'"):
        checkpoint.load(run.parent)


def test_a_file_of_another_checkpoint_is_noticed(run):
    shutil.copy(run.parent / "step-00000001" / "model.safetensors", run / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged in tensor"):
        checkpoint.load(run.parent)


def test_sizes_are_held_against_the_manifest_before_allocation(run):
    with (run / "model.safetensors").open("r+b") as file:
        file.truncate(1 << 40)  # a sparse file: a terabyte that takes no room
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="1099511627776 bytes, expected"):
            checkpoint.load(run.parent)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_auto_goes_back_and_says_so(run):
    (run / "model.safetensors").write_bytes(b"")
    with pytest.warns(CheckpointWarning, match=r"model\.safetensors has 0 bytes.*going on from .*step-00000001"):
        assert_same(checkpoint.load(run.parent, resume="auto"), state(1))
    (run.parent / "step-00000001" / "state.json").unlink()
    with pytest.raises(CheckpointError, match="no other checkpoint"):
        checkpoint.load(run.parent, resume="auto")


def test_a_save_beside_a_damaged_checkpoint_works(run):
    for file in FILES:
        (run / file).write_bytes(np.random.default_rng(0).bytes(100))
    checkpoint.save(run.parent, state(3))
    assert_same(checkpoint.load(run.parent), state(3))
