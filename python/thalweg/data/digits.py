"""The handwritten digits: 1,797 images of 8x8 pixels, split once and for all into 1,437 to train and 360 to test.

Source: "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak 1998, UCI Machine Learning Repository,
https://doi.org/10.24432/C50P49, CC BY 4.0; see ATTRIBUTION.md beside this file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .npz import load_npz

Split = tuple[np.ndarray, np.ndarray]


def digits() -> tuple[Split, Split]:
    """Reads the digits: ((x_train, y_train), (x_test, y_test)).

    x: (rows, 8, 8, 1) float32 in [0, 1]; y: (rows,) int32, 0 to 9. The split is stratified and stored with the data.
    Raises: DataError when the installed file is damaged.
    """
    arrays = load_npz(Path(__file__).with_name("digits.npz"), ("images", "labels", "test_rows"))
    x = (arrays["images"][..., None] / np.float32(16)).astype(np.float32)
    y = arrays["labels"].astype(np.int32)
    test = np.zeros(len(y), dtype=bool)
    test[arrays["test_rows"]] = True
    return (x[~test], y[~test]), (x[test], y[test])
