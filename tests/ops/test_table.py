"""Every row of the table forward: in float32 and float64 against the reference, and the reference against torch."""

import numpy as np
import pytest

from .checkers import TOLERANCE, assert_close
from .row import cast, each_sample
from .table import RANDOM, TABLE

SAMPLES = list(each_sample(TABLE))
IDS = [name for name, _, _ in SAMPLES]
CASES = [case[1:] for case in SAMPLES]


@pytest.mark.parametrize("row, sample", CASES, ids=IDS)
def test_reference_agrees_with_torch(row, sample, torch):
    if row.torch is None:
        pytest.skip("torch has no such operator")
    arrays = row.arrays(sample)
    expected = row.torch(torch, *[torch.from_numpy(a) for a in arrays]).numpy()
    assert_close(row.ref(*arrays), expected, 1e-13, row.name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("row, sample", CASES, ids=IDS)
def test_forward(row, sample, dtype, ops):
    arrays = row.arrays(sample)
    y = row.call(ops, *cast(arrays, dtype))
    assert isinstance(y, np.ndarray) and y.dtype == dtype
    assert_close(y, row.ref(*arrays), row.loose * TOLERANCE[y.dtype], row.name)


@pytest.mark.parametrize("row", [row for row in TABLE if row.operator == row.name], ids=lambda row: row.name)
def test_calling_changes_no_argument_and_returns_new_memory(row, ops):
    arrays = cast(row.arrays(0), np.float32)
    before = [a.copy() for a in arrays]
    y = row.call(ops, *arrays)
    first = y.copy()
    again = row.call(ops, *arrays)
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.shares_memory(a, y)
    assert not np.shares_memory(y, again)
    np.testing.assert_array_equal(y, first)
    np.testing.assert_array_equal(again, first)
    y[...] = 0  # the caller's own, writable


def test_every_operator_has_a_row(ops):
    have = {row.operator for row in TABLE} | RANDOM
    missing = sorted(set(ops.__all__) - have)
    assert not missing, f"operators without a row in the table: {missing}"
    assert not sorted(have - set(ops.__all__)), "rows for operators that thalweg.ops does not list"
