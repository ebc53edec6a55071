"""The digits as shipped: sizes, split, ranges, and the digest of every array."""

import hashlib

import numpy as np
import thalweg as tw


def test_shapes_dtypes_and_ranges():
    (x, y), (x_test, y_test) = tw.data.digits()
    assert x.shape == (1437, 8, 8, 1) and x_test.shape == (360, 8, 8, 1)
    assert x.dtype == np.float32 and y.dtype == np.int32 and y.shape == (1437,) and y_test.shape == (360,)
    assert x.min() == 0 and x.max() == 1 and np.array_equal(np.unique(y), np.arange(10))
    assert np.all(x * 16 == np.round(x * 16)) and x.flags.c_contiguous and x.flags.writeable


def test_split_is_stratified_and_disjoint():
    (x, y), (x_test, y_test) = tw.data.digits()
    train, test = np.bincount(y, minlength=10), np.bincount(y_test, minlength=10)
    assert np.all(np.abs(test - 0.2 * (train + test)) <= 1)
    assert len({image.tobytes() for image in x} & {image.tobytes() for image in x_test}) == 0


def test_content_is_fixed():
    digest = hashlib.sha256()
    for x, y in tw.data.digits():
        digest.update(np.rint(x * 16).astype(np.uint8).tobytes() + y.astype(np.uint8).tobytes())
    assert digest.hexdigest() == "52ee9c9b8f89da26054b8eade8639a97c7d42133a29482b1441795981b9b23d0"
