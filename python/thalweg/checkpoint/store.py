"""Saving and loading a training state as a folder that is whole at every instant.

Order of a save: files into a temporary folder, each synced; the manifest last; the folder synced; everything read back
and verified; the folder renamed; its parent synced; LATEST replaced; then older checkpoints removed.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import durable, manifest
from .manifest import MANIFEST, MODEL, OPTIMIZER, STATE, CheckpointError

LATEST = "LATEST"
_FOLDER = re.compile(r"step-\d{8,18}(?:-\d{1,6})?")
_ROLES = {"parameter": "parameters", "buffer": "buffers", "array": "arrays"}  # of a tensor: its place in a state
FALLBACK = "resume='auto'"  # as messages say it
_FLOAT = "$float"  # JSON has no infinities: {"$float": "inf"}


class CheckpointWarning(UserWarning):
    """Another checkpoint was loaded than the newest one."""


def save(folder: str | os.PathLike[str], state: Mapping[str, Any], *, keep: int = 2) -> Path:
    """Writes `state` as the newest checkpoint of `folder` and returns the new checkpoint's own folder.

    state: {"parameters": {name: array}, "buffers": {...}, "optimizer": [{...}, ...], "meta": JSON data with "t", the
    number of updates done}, and "arrays": {name: array} where the meta needs any. The newest `keep` checkpoints stay.
    Raises: OSError (disk full, no permission: the checkpoints from before are whole and LATEST still names one),
    TypeError and ValueError (a state that cannot be stored), CheckpointError (what was written reads back wrong).
    """
    if keep < 1:
        raise ValueError(f"[checkpoint] keep = {keep}, expected at least 1")
    contents, entries, step = _contents(state)
    root = Path(folder)
    with contextlib.ExitStack() as held:
        try:
            root.mkdir(parents=True, exist_ok=True)
            alone = held.enter_context(durable.locked(root))
        except TimeoutError:
            raise
        except OSError as error:
            raise _failure(error, root) from error
        if alone:
            _clean(root)
        serials = _serials(root)
        sealed = _seal(entries, step, 1 + max(serials.values(), default=0))
        final = _free_name(root, step)
        try:
            _write(root, final, contents | {MANIFEST: sealed})
            durable.replace_file(root / LATEST, f"{final.name}\n".encode())
        except OSError as error:
            raise _failure(error, final) from error
        _remove_old(root, final.name, keep)
    return final


def load(folder: str | os.PathLike[str], *, resume: str = "latest") -> dict[str, Any]:
    """Reads the newest checkpoint of `folder` (or the checkpoint that `folder` itself is), checking every byte.

    resume="auto" goes back to the newest good checkpoint when LATEST's is damaged or missing, and warns which one it
    took. Returns: the state as it was given to `save`. Raises: CheckpointError, naming the file and the tensor."""
    if resume not in ("latest", "auto"):
        raise ValueError(f"[checkpoint] resume = {resume!r}, expected 'latest' or 'auto'")
    root = Path(folder)
    if (root / MANIFEST).exists():
        return _load(root)
    try:
        return _load(root / _latest(root))
    except CheckpointError as error:
        if resume != "auto":
            raise
        return _load_previous(root, error)


def verify(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Holds a checkpoint's files against its manifest, and returns the manifest. Raises: CheckpointError."""
    root = Path(folder)
    checkpoint = root if (root / MANIFEST).exists() else root / _latest(root)
    return _verify(checkpoint)[0]


def clean(folder: str | os.PathLike[str]) -> int:
    """Removes what a killed run left unfinished in `folder`; returns how many temporary files and folders that was."""
    root = Path(folder)
    if not root.is_dir():
        return 0
    with durable.locked(root) as alone:
        return _clean(root) if alone else 0


def has_checkpoint(folder: str | os.PathLike[str]) -> bool:
    root = Path(folder)
    return root.is_dir() and ((root / MANIFEST).exists() or (root / LATEST).exists() or bool(_folders(root)))


# --- writing


def _contents(state: Mapping[str, Any]) -> tuple[dict[str, bytes], dict[str, Any], int]:
    """The bytes and the manifest entries of the three files, and the step."""
    from safetensors.numpy import save as pack

    model, roles = _flatten({role: state.get(key, {}) for role, key in _ROLES.items()})
    arenas: Sequence[Mapping[str, Any]] = state["optimizer"]
    optimizer, arena_roles = _flatten(
        {f"state {i}": {f"{i}/{n}": a for n, a in d.items()} for i, d in enumerate(arenas)}
    )
    meta = plain(dict(state["meta"]), "meta")
    step = meta.get("t")
    if not isinstance(step, int) or step < 0:
        raise ValueError(f"[checkpoint] meta['t'] = {step!r}, expected the number of updates done")
    document = manifest.encode({"meta": meta, "optimizer_arenas": len(arenas)})
    contents = {MODEL: pack(model), OPTIMIZER: pack(optimizer), STATE: document}
    tables = {
        MODEL: manifest.describe(model, roles),
        OPTIMIZER: manifest.describe(optimizer, arena_roles),
        STATE: {},
    }
    entries = {
        file: {"size": len(data), "sha256": manifest.sha256(data), "tensors": tables[file]}
        for file, data in contents.items()
    }
    return contents, entries, step


def _flatten(groups: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """One dictionary of contiguous native arrays, and the role of each."""
    tensors: dict[str, np.ndarray] = {}
    roles: dict[str, str] = {}
    for role, group in groups.items():
        for name, value in group.items():
            if not isinstance(name, str) or not name or name == "__metadata__" or name in tensors:
                raise ValueError(f"[checkpoint] {role} has the name {name!r}, expected a unique, non-empty string")
            array = np.asarray(value)
            if array.dtype.name not in manifest.DTYPES:
                raise TypeError(
                    f"[checkpoint] {role} {name!r} has dtype {array.dtype}, expected one of {manifest.DTYPES}"
                )
            # safetensors takes the memory as it lies: strides and byte order must be made plain first
            tensors[name] = array.astype(array.dtype.newbyteorder("="), order="C", copy=False)
            roles[name] = role
    return tensors, roles


def plain(value: Any, where: str) -> Any:
    """`value` as JSON data that reads back equal: NumPy scalars become numbers, tuples lists, infinities marked."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return number if math.isfinite(number) else {_FLOAT: repr(number)}
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"[checkpoint] {where} has the key {wrong[0]!r}, expected strings")
        return {key: plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise TypeError(f"[checkpoint] {where} is of type {type(value).__name__}, expected JSON data")


def _seal(entries: dict[str, Any], step: int, serial: int) -> bytes:
    from .. import __version__

    head = {"format": manifest.FORMAT, "version": manifest.FORMAT_VERSION, "thalweg": __version__}
    return manifest.seal({**head, "serial": serial, "step": step, "files": entries})


def _write(root: Path, final: Path, contents: Mapping[str, bytes]) -> None:
    """The folder `final` with these files (the manifest last), verified before it gets its name."""
    new = durable.temporary(root, final.name)
    try:
        new.mkdir()
        for file, data in contents.items():
            durable.write_file(new / file, data)
        durable.sync_folder(new)
        _verify(new)
        durable.rename(new, final)
        durable.sync_folder(root)
    except BaseException:
        durable.remove(new)
        raise


def _failure(error: OSError, final: Path) -> OSError:
    path = Path(error.filename).name if error.filename else "a file"
    return OSError(
        error.errno,
        f"[checkpoint] saving {final} failed at {path}: {error.strerror}; checkpoints saved before are whole",
    )


def _free_name(root: Path, step: int) -> Path:
    """step-00000720, or step-00000720-2 where that is taken: a checkpoint in use is never overwritten."""
    base = f"step-{step:08d}"
    path, n = root / base, 1
    while path.exists():
        n += 1
        path = root / f"{base}-{n}"
    return path


def _remove_old(root: Path, newest: str, keep: int) -> None:
    serials = _serials(root)
    old = sorted((name for name in serials if name != newest), key=lambda name: serials[name], reverse=True)
    for name in old[keep - 1 :]:
        gone = durable.temporary(root, name)
        try:
            os.rename(root / name, gone)  # half a removal never looks like a checkpoint
        except OSError:
            continue  # the new checkpoint stands; the next save tries again
        durable.remove(gone)


def _clean(root: Path) -> int:
    stale = [path for path in root.iterdir() if path.name.startswith(durable.TEMPORARY)]
    for path in stale:
        durable.remove(path)
    return len(stale)


# --- reading


def _folders(root: Path) -> list[str]:
    try:
        return sorted(path.name for path in root.iterdir() if _FOLDER.fullmatch(path.name) and path.is_dir())
    except OSError as error:
        raise CheckpointError(f"[checkpoint] cannot read {root}: {error.strerror}") from error


def _serials(root: Path) -> dict[str, int]:
    """When each checkpoint was saved, as a counter; unreadable ones count as the oldest."""
    serials = {}
    for name in _folders(root):
        try:
            serials[name] = int(manifest.read_manifest(root / name)["serial"])
        except CheckpointError:
            serials[name] = 0
    return serials


def _latest(root: Path) -> str:
    """The folder that LATEST names. The name is looked up among the folders that exist, it is never made a path."""
    folders = _folders(root)
    path = root / LATEST
    if not path.exists():
        hint = f"; it holds {', '.join(folders)}: load one of them, or use {FALLBACK}" if folders else ""
        raise CheckpointError(f"[checkpoint] {root} has no file {LATEST}{hint}")
    name = manifest.read(path, 64).decode(errors="replace").strip()
    if name not in folders:
        raise CheckpointError(f"[checkpoint] {path} names {name!r}, which is not a checkpoint in {root}")
    return name


def _verify(folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The manifest and the bytes of every file of a checkpoint, all checked."""
    described = manifest.read_manifest(folder)
    manifest.check_sizes(folder, described)
    return described, {file: manifest.read_file(folder, file, described) for file in manifest.FILES}


def _load(folder: Path) -> dict[str, Any]:
    described, contents = _verify(folder)
    tables = {file: described["files"][file]["tensors"] for file in (MODEL, OPTIMIZER)}
    model = _unpack(folder / MODEL, contents[MODEL], tables[MODEL])
    optimizer = _unpack(folder / OPTIMIZER, contents[OPTIMIZER], tables[OPTIMIZER])
    try:
        document = json.loads(contents[STATE])
        arenas: list[dict[str, np.ndarray]] = [{} for _ in range(document["optimizer_arenas"])]
        for name, array in optimizer.items():
            index, _, rest = name.partition("/")
            arenas[int(index)][rest] = array
        meta = _unplain(document["meta"])
    except (KeyError, IndexError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"[checkpoint] {folder / STATE} is malformed: {error!r}") from error
    state: dict[str, Any] = {
        key: {n: a for n, a in model.items() if tables[MODEL][n]["role"] == role} for role, key in _ROLES.items()
    }
    if not state["arrays"]:
        del state["arrays"]
    return {**state, "optimizer": arenas, "meta": meta}


def _unpack(path: Path, data: bytes, table: dict[str, Any]) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load as unpack

    try:
        tensors = unpack(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"[checkpoint] {path} is malformed: {error}") from error
    if tensors.keys() != table.keys():
        raise CheckpointError(f"[checkpoint] {path} and its manifest differ in {sorted(tensors.keys() ^ table.keys())}")
    for name, array in tensors.items():
        if [array.dtype.name, list(array.shape)] != [table[name]["dtype"], table[name]["shape"]]:
            raise CheckpointError(
                f"[checkpoint] {path}: tensor {name!r} is {array.dtype.name} {array.shape}, the manifest says "
                f"{table[name]['dtype']} {tuple(table[name]['shape'])}"
            )
    return {name: tensors[name].copy() for name in table}  # writable, and in the order in which they were saved


def _unplain(value: Any) -> Any:
    if isinstance(value, dict):
        return (
            float(value[_FLOAT]) if value.keys() == {_FLOAT} else {key: _unplain(item) for key, item in value.items()}
        )
    return [_unplain(item) for item in value] if isinstance(value, list) else value


def _load_previous(root: Path, error: CheckpointError) -> dict[str, Any]:
    serials = _serials(root)
    for name in sorted(serials, key=lambda name: serials[name], reverse=True):
        try:
            state = _load(root / name)
        except CheckpointError:
            continue
        warnings.warn(f"{error}; going on from {root / name}, the newest good one", CheckpointWarning, stacklevel=3)
        return state
    raise CheckpointError(f"{error}; no other checkpoint in {root} is good") from error
