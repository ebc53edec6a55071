"""Files of arrays: what is read, and what is refused by name before anything large is allocated."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from thalweg.data import DataError, load_npz


def member(shape, dtype="<f4", data=b"", fortran=False):
    """An .npy member that declares `shape` and holds `data`."""
    header = repr({"descr": dtype, "fortran_order": fortran, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def archive(path, compression=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return path


def test_reads_what_numpy_writes(tmp_path):
    x = np.asfortranarray(np.arange(12, dtype=">f8").reshape(3, 4))
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", x=x, y=np.arange(3), extra=np.zeros(2))
        arrays = load_npz(tmp_path / "a.npz")
        assert arrays.keys() == {"x", "y"} and np.array_equal(arrays["x"], x)
        assert arrays["x"].dtype == np.dtype("=f8") and arrays["x"].flags.c_contiguous


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (member((1 << 40, 4)), "x declares shape"),
        (member((1 << 62, 1 << 62)), "x declares shape"),
        (member((4, 4), data=bytes(60)), "x does not hold the 64 bytes"),
        (member((4, 4), data=bytes(68)), "x does not hold the 64 bytes"),
        (member((-1, 4), data=bytes(16)), "x declares shape"),
        (member((4, 4), "|O", bytes(128)), "x has dtype object"),
        (member((4, 4), "<c8", bytes(128)), "x has dtype complex64"),
        (b"no header at all", "x has a damaged header"),
        (b"\x93NUMPY\x01\x00\xff\xff{'descr': ", "x has a damaged header"),
        (member((5, 4), data=bytes(80)), "expected rows of features and as many labels"),
        (member((0, 4)), "expected rows of features and as many labels"),
    ],
)
def test_lying_members_are_refused_by_name(tmp_path, data, message):
    path = archive(tmp_path / "a.npz", x=data, y=member((4,), "<i4", bytes(16)))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=message):
            load_npz(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_declared_size_beyond_the_file_is_refused(tmp_path):
    path = archive(tmp_path / "a.npz", x=member((4, 4), data=bytes(64)), y=member((4,), "<i4", bytes(16)))
    raw = bytearray(path.read_bytes())
    directory = raw.index(b"PK\x01\x02")
    raw[directory + 24 : directory + 28] = struct.pack("<I", 1 << 31)  # the uncompressed size in the zip's directory
    path.write_bytes(raw)
    with pytest.raises(DataError, match="more than the file can hold"):
        load_npz(path)


def test_every_truncation_is_refused(tmp_path):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.arange(8.0).reshape(4, 2), y=np.arange(4))
    path = tmp_path / "a.npz"
    for size in range(0, len(buffer.getvalue()), 7):
        path.write_bytes(buffer.getvalue()[:size])
        with pytest.raises(DataError, match=r"a\.npz"):
            load_npz(path)


def test_flipped_bits_are_refused_or_harmless(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(8.0).reshape(4, 2), y=np.arange(4))
    whole = (tmp_path / "a.npz").read_bytes()
    expected = load_npz(tmp_path / "a.npz")
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 4
        (tmp_path / "b.npz").write_bytes(damaged)
        try:
            arrays = load_npz(tmp_path / "b.npz")
        except DataError:
            continue
        assert all(np.array_equal(arrays[name], expected[name]) for name in expected), position


def test_missing_files_and_arrays_are_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.npz"):
        load_npz(tmp_path / "none.npz")
    np.savez(tmp_path / "a.npz", images=np.zeros(3))
    with pytest.raises(DataError, match="no array 'x'; it holds images"):
        load_npz(tmp_path / "a.npz")
