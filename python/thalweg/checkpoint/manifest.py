"""What a checkpoint's MANIFEST.json says, how it is made, and how the files beside it are held against it.

    {"format": "thalweg checkpoint", "version": 1, "thalweg": "0.1.0", "serial": 7, "step": 720,
     "files": {"model.safetensors": {"size", "sha256", "tensors": {name: {"dtype", "shape", "role", "sha256"}}}, ...},
     "digest": SHA-256 of all the rest}
Each tensor has a digest of its own so that damage can be named; `digest` guards the manifest itself.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = "thalweg checkpoint"
FORMAT_VERSION = 1
MANIFEST = "MANIFEST.json"
MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
FILES = (MODEL, OPTIMIZER, STATE)
_LARGEST_MANIFEST = 1 << 28
_NAMES = {"F64": "float64", "F32": "float32", "I64": "int64", "I32": "int32", "U8": "uint8", "BOOL": "bool"}
DTYPES = tuple(_NAMES.values())


class CheckpointError(RuntimeError):
    """A checkpoint that is absent, damaged, of another format or of another model."""

    exit_code = 4


def sha256(data: Any) -> str:
    return hashlib.sha256(data).hexdigest()


def encode(document: Any) -> bytes:
    """JSON that decodes to equal data (floats keep their bits, keys their order) and encodes to the same bytes."""
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()


def describe(tensors: Mapping[str, np.ndarray], roles: Mapping[str, str]) -> dict[str, Any]:
    """The manifest's entries for contiguous arrays."""
    return {
        name: {
            "dtype": array.dtype.name,
            "shape": list(array.shape),
            "role": roles[name],
            "sha256": sha256(array.reshape(-1).view(np.uint8)),
        }
        for name, array in tensors.items()
    }


def seal(manifest: dict[str, Any]) -> bytes:
    return encode({**manifest, "digest": sha256(encode(manifest))})


def read(path: Path, limit: int) -> bytes:
    """The whole file, if it has at most `limit` bytes."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(size) if size <= limit else b""
    except OSError as error:
        raise CheckpointError(f"[checkpoint] cannot read {path}: {error.strerror}") from error
    if size > limit:
        raise CheckpointError(f"[checkpoint] {path} has {size} bytes, expected at most {limit}: it is damaged")
    return data


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint, checked for format, version, its own digest and the form of every entry."""
    path = folder / MANIFEST
    raw = read(path, _LARGEST_MANIFEST)
    try:
        manifest = json.loads(raw)
        if not isinstance(manifest, dict):
            raise ValueError("no object")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"[checkpoint] {path} is damaged: it is not valid JSON ({error})") from error
    _check_version(manifest, path)
    digest = manifest.pop("digest", None)
    try:
        intact = sha256(encode(manifest)) == digest
    except ValueError:
        intact = False
    if not intact:
        raise CheckpointError(f"[checkpoint] {path} is damaged: its digest does not match its content")
    try:
        _check_form(manifest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"[checkpoint] {path} is malformed: {error!r}") from error
    return manifest


def _check_version(manifest: dict[str, Any], path: Path) -> None:
    if manifest.get("format") != FORMAT:
        raise CheckpointError(f"[checkpoint] {path} does not describe a checkpoint (format {manifest.get('format')!r})")
    version = manifest.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise CheckpointError(f"[checkpoint] {path} has format version {version!r}, expected 1 to {FORMAT_VERSION}")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"[checkpoint] {path} has format version {version}, written by Thalweg {manifest.get('thalweg')}; this one "
            f"reads versions 1 to {FORMAT_VERSION}: install a newer Thalweg"
        )


def _check_form(manifest: dict[str, Any]) -> None:
    if set(manifest["files"]) != set(FILES):
        raise ValueError(f"files are {sorted(manifest['files'])}, expected {sorted(FILES)}")
    if not isinstance(manifest["serial"], int) or not isinstance(manifest["step"], int):
        raise ValueError("serial and step are whole numbers")
    for file, entry in manifest["files"].items():
        if not isinstance(entry["size"], int) or entry["size"] < 0 or not isinstance(entry["sha256"], str):
            raise ValueError(f"{file}: size {entry['size']!r}")
        total = sum(_bytes(name, tensor) for name, tensor in entry["tensors"].items())
        if total > entry["size"]:
            raise ValueError(f"{file}: tensors of {total} bytes in a file of {entry['size']}")


def _bytes(name: str, tensor: dict[str, Any]) -> int:
    if tensor["dtype"] not in DTYPES:
        raise ValueError(f"tensor {name!r} has dtype {tensor['dtype']!r}, expected one of {DTYPES}")
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in tensor["shape"]):
        raise ValueError(f"tensor {name!r} has shape {tensor['shape']!r}")
    return math.prod(tensor["shape"]) * np.dtype(tensor["dtype"]).itemsize


def check_sizes(folder: Path, manifest: dict[str, Any]) -> None:
    """Every file has its size; done before anything is allocated."""
    for file, entry in manifest["files"].items():
        try:
            size = (folder / file).stat().st_size
        except OSError as error:
            raise CheckpointError(f"[checkpoint] {folder / file} is missing: {error.strerror}") from error
        if size != entry["size"]:
            raise CheckpointError(
                f"[checkpoint] {folder / file} has {size} bytes, expected {entry['size']}: it is damaged"
            )


def read_file(folder: Path, file: str, manifest: dict[str, Any]) -> bytes:
    """The content of one file of the checkpoint, held against its digest."""
    entry = manifest["files"][file]
    data = read(folder / file, entry["size"])
    if len(data) != entry["size"] or sha256(data) != entry["sha256"]:
        damage = "" if file == STATE else _damage(data, entry["tensors"])
        raise CheckpointError(
            f"[checkpoint] {folder / file} is damaged{damage}: its digest does not match the manifest"
        )
    return data


def _damage(data: bytes, tensors: dict[str, Any]) -> str:
    """Where a safetensors file differs from the manifest: the header, a tensor's description, or a tensor's data."""
    size = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + size]) if 8 + size <= len(data) else None
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        return " in its header"
    found = {name: entry for name, entry in header.items() if name != "__metadata__"}
    for name, expected in tensors.items():
        entry = found.pop(name, None)
        if not isinstance(entry, dict):
            return f": tensor {name!r} is missing from its header"
        dtype = _NAMES.get(str(entry.get("dtype")), entry.get("dtype"))
        if dtype != expected["dtype"] or entry.get("shape") != expected["shape"]:
            return (
                f": tensor {name!r} has dtype {dtype} and shape {entry.get('shape')} in its header, "
                f"expected {expected['dtype']} and {expected['shape']}"
            )
        try:
            first, last = entry["data_offsets"]
            intact = sha256(data[8 + size + first : 8 + size + last]) == expected["sha256"]
        except (KeyError, TypeError, ValueError):
            intact = False
        if not intact:
            return f" in tensor {name!r}"
    return f": its header names the unknown tensor {min(found)!r}" if found else " in its header"
