"""What a checkpoint holds and how the folder around it looks: round trips, names, LATEST, keeping, modes, refusals."""

import json
import os
import stat

import numpy as np
import pytest
from thalweg import checkpoint
from thalweg.checkpoint import CheckpointError, CheckpointWarning

from .states import assert_same, state


def test_round_trip_is_exact_and_writable(tmp_path):
    folder = checkpoint.save(tmp_path / "run", state(7))
    found = checkpoint.load(tmp_path / "run")
    assert_same(found, state(7))
    assert_same(checkpoint.load(folder), state(7))
    assert all(a.flags.writeable and a.flags.c_contiguous for a in found["parameters"].values())


def test_strided_fortran_reversed_and_big_endian_arrays_keep_their_values(tmp_path):
    base = np.arange(24, dtype=np.float64).reshape(4, 6)
    forms = {
        "fortran": np.asfortranarray(base),
        "transposed": base.T,
        "strided": base[::2, ::3],
        "reversed": base[::-1],
        "broadcast": np.broadcast_to(base[0], (3, 6)),
        "big": base.astype(">f8"),
    }
    checkpoint.save(tmp_path, {"parameters": forms, "buffers": {}, "optimizer": [], "meta": {"t": 0}})
    found = checkpoint.load(tmp_path)["parameters"]
    for name, array in forms.items():
        assert np.array_equal(found[name], array) and found[name].dtype == np.float64, name


def test_other_tools_read_the_files(tmp_path):
    from safetensors.numpy import load_file

    folder = checkpoint.save(tmp_path, state(1))
    assert sorted(os.listdir(folder)) == ["MANIFEST.json", "model.safetensors", "optimizer.safetensors", "state.json"]
    model = load_file(folder / "model.safetensors")
    assert np.array_equal(model["0.weight"], state(1)["parameters"]["0.weight"])
    json.loads((folder / "state.json").read_text(), parse_constant=pytest.fail)  # strict JSON: no Infinity, no NaN


def test_the_newest_two_stay_and_latest_names_the_last_saved(tmp_path):
    for t in (5, 10, 15, 12):
        checkpoint.save(tmp_path, state(t))
    assert sorted(os.listdir(tmp_path)) == ["LATEST", "step-00000012", "step-00000015"]
    assert checkpoint.load(tmp_path)["meta"]["t"] == 12


def test_a_step_saved_twice_never_overwrites(tmp_path):
    first = checkpoint.save(tmp_path, state(5, seed=1))
    second = checkpoint.save(tmp_path, state(5, seed=2))
    assert first.name == "step-00000005" and second.name == "step-00000005-2"
    assert_same(checkpoint.load(tmp_path), state(5, seed=2))
    assert_same(checkpoint.load(first), state(5, seed=1))


def test_the_umask_decides_the_modes(tmp_path):
    old = os.umask(0o027)
    try:
        folder = checkpoint.save(tmp_path / "run", state())
    finally:
        os.umask(old)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in [folder, tmp_path / "run" / "LATEST", *folder.iterdir()]
    }
    assert modes.pop(folder.name) == 0o750 and set(modes.values()) == {0o640}


def test_nothing_tells_how_many_processes_wrote_it(tmp_path):
    one, two = checkpoint.save(tmp_path / "a", state(3)), checkpoint.save(tmp_path / "b", state(3))
    for file in os.listdir(one):
        assert (one / file).read_bytes() == (two / file).read_bytes(), file


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"parameters": {"w": np.array([object()])}}, TypeError, "'w' has dtype object"),
        ({"parameters": {"w": np.zeros(2, complex)}}, TypeError, "'w' has dtype complex128"),
        ({"parameters": {"": np.zeros(2)}}, ValueError, "unique, non-empty"),
        ({"buffers": {"0.weight": np.zeros(2)}}, ValueError, "'0.weight', expected a unique"),
        ({"meta": {"t": -1}}, ValueError, "number of updates"),
        ({"meta": {}}, ValueError, "number of updates"),
        ({"meta": {"t": 1, "f": print}}, TypeError, r"meta\['f'\] is of type builtin"),
        ({"meta": {"t": 1, "d": {1: 2}}}, TypeError, r"meta\['d'\] has the key 1"),
    ],
)
def test_states_that_cannot_be_stored_are_refused_and_nothing_changes(tmp_path, change, error, message):
    checkpoint.save(tmp_path, state(2))
    with pytest.raises(error, match=message):
        checkpoint.save(tmp_path, state(3) | change)
    assert sorted(os.listdir(tmp_path)) == ["LATEST", "step-00000002"]


def test_names_of_tensors_never_become_paths(tmp_path):
    names = ["../../evil", "/etc/passwd", "a/b", "con\n", "ä"]
    checkpoint.save(tmp_path / "run", {"parameters": {n: np.zeros(1) for n in names}, "buffers": {}, "optimizer": [],
                                       "meta": {"t": 0}})  # fmt: skip
    assert list(checkpoint.load(tmp_path / "run")["parameters"]) == names
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("content", ["../step-00000001", "/tmp", "step-00000009", "", "step-00000001/..", "x" * 100])
def test_latest_is_looked_up_never_followed(tmp_path, content):
    checkpoint.save(tmp_path / "run", state(1))
    (tmp_path / "run" / "LATEST").write_text(content)
    with pytest.raises(CheckpointError, match="LATEST"):
        checkpoint.load(tmp_path / "run")
    with pytest.warns(CheckpointWarning, match="step-00000001"):
        assert_same(checkpoint.load(tmp_path / "run", resume="auto"), state(1))


def test_absent_checkpoints_are_said_to_be_absent(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        assert not checkpoint.has_checkpoint(folder)
        with pytest.raises(CheckpointError, match=str(folder)):
            checkpoint.load(folder, resume="auto")
    with pytest.raises(ValueError, match="resume = 'yes'"):
        checkpoint.load(tmp_path, resume="yes")


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (2, "format version 2, written by Thalweg .*: install a newer"),
        (0, "version 0, expected 1 to 1"),
        ("1", "version '1'"),
    ],
)
def test_other_format_versions_are_explained(tmp_path, version, message):
    path = checkpoint.save(tmp_path, state()) / "MANIFEST.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": version}))
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(tmp_path)


def test_stale_temporary_folders_are_cleaned_at_the_next_save(tmp_path):
    checkpoint.save(tmp_path, state(1))
    (tmp_path / ".tmp-step-00000002-123-abcd").mkdir()
    (tmp_path / ".tmp-step-00000002-123-abcd" / "model.safetensors").write_bytes(b"half")
    (tmp_path / ".tmp-LATEST-123-abcd").write_text("step")
    assert checkpoint.clean(tmp_path) == 2 and checkpoint.clean(tmp_path) == 0
    (tmp_path / ".tmp-step-00000003-9-ef").mkdir()
    checkpoint.save(tmp_path, state(2))
    assert sorted(os.listdir(tmp_path)) == ["LATEST", "step-00000001", "step-00000002"]
