#!/usr/bin/env python3
"""Writes python/thalweg/data/digits.npz from scikit-learn's copy of the handwritten digits; needed once, kept as proof.

images (1797, 8, 8) uint8, 0 to 16; labels (1797,) uint8; test_rows (360,) int16: the rows of the test set, a stratified
fifth. The file is the same, byte for byte, whenever it is made from the same arrays. Run: python tools/make_digits.py
"""

import io
import zipfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

TARGET = Path(__file__).resolve().parent.parent / "python" / "thalweg" / "data" / "digits.npz"


def main() -> None:
    source = load_digits()
    labels = source.target.astype(np.uint8)
    rows = np.arange(len(labels), dtype=np.int16)
    _, test_rows = train_test_split(rows, test_size=360, random_state=0, stratify=labels)
    arrays = {"images": source.images.astype(np.uint8), "labels": labels, "test_rows": np.sort(test_rows)}
    with zipfile.ZipFile(TARGET, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy")  # its date is 1980: no trace of when it was made
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, member.getvalue())
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
