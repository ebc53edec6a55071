"""Reads .npz files without trusting what they declare: no pickle, and no allocation that the file cannot fill."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

_DEFLATE_LIMIT = 1032  # no deflated byte stands for more


class DataError(ValueError):
    """A data file that is absent, damaged or not what it says."""

    exit_code = 3


def load_npz(path: str | os.PathLike[str], names: Sequence[str] = ("x", "y")) -> dict[str, np.ndarray]:
    """Reads the named arrays of an .npz file, as native-endian, C-contiguous arrays.

    Arrays must be numbers or booleans; those whose names start with x and y and end alike (x and y, x_train and
    y_train) must have the same number of rows. Returns: {name: array}.
    Raises: DataError, naming the file and the array: missing, truncated, declared larger than what the file holds, of
    objects (these would need pickle), or without matching rows.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {name: _read_array(archive, path, name) for name in names}
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise DataError(f"[data] cannot read {path}: {error}") from error
    _check_rows(path, arrays)
    return arrays


def _read_array(archive: zipfile.ZipFile, path: Path, name: str) -> np.ndarray:
    member = f"{name}.npy"
    if member not in archive.namelist():
        found = ", ".join(sorted(n.removesuffix(".npy") for n in archive.namelist())) or "nothing"
        raise DataError(f"[data] {path} has no array {name!r}; it holds {found}")
    entry = archive.getinfo(member)
    room = entry.compress_size * (1 if entry.compress_type == zipfile.ZIP_STORED else _DEFLATE_LIMIT)
    if entry.file_size > room or entry.compress_size > path.stat().st_size:
        raise DataError(f"[data] {path}: {name} declares {entry.file_size} bytes, more than the file can hold")
    with archive.open(entry) as file:
        shape, fortran, dtype = _read_header(file, path, name)
        declared = math.prod(shape) * dtype.itemsize
        if declared > entry.file_size:
            raise DataError(
                f"[data] {path}: {name} declares shape {shape} of {dtype}, {declared} bytes; it holds {entry.file_size}"
            )
        data = file.read(declared)
        if len(data) != declared or file.read(1):
            raise DataError(f"[data] {path}: {name} does not hold the {declared} bytes that its shape {shape} needs")
    array = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="), order="C")


def _read_header(file: IO[bytes], path: Path, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except (ValueError, TypeError, SyntaxError, RecursionError) as error:
        raise DataError(f"[data] {path}: {name} has a damaged header: {error}") from error
    if dtype.kind not in "biuf":
        raise DataError(f"[data] {path}: {name} has dtype {dtype}, expected real numbers or booleans")
    if any(n < 0 for n in shape):
        raise DataError(f"[data] {path}: {name} declares shape {shape}")
    return shape, fortran, dtype


def _check_rows(path: Path, arrays: dict[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        partner = "y" + name[1:]
        if not name.startswith("x") or partner not in arrays:
            continue
        labels = arrays[partner]
        if array.ndim < 2 or labels.ndim < 1 or len(array) != len(labels) or len(array) == 0:
            raise DataError(
                f"[data] {path}: {name} has shape {array.shape} and {partner} {labels.shape}, expected rows of "
                "features and as many labels, at least one"
            )
