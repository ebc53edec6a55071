"""What is refused without a GPU, and what is refused anywhere."""

import numpy as np
import pytest
from thalweg import _core

from .conftest import found


def test_the_reason_is_named():
    name, why = found()
    if name is not None:
        pytest.skip(f"there is a device: {name}")
    assert why.startswith("[cuda] ")
    for call in (
        lambda: _core.formula("exp", np.zeros(3), device="cuda"),
        lambda: _core.formula_jvp("exp", [np.zeros(3)], [np.zeros(3)], device="cuda"),
    ):
        with pytest.raises(RuntimeError, match=r"\[cuda\]"):
            call()


def test_an_unknown_device_is_refused():
    with pytest.raises(ValueError, match="device 'tpu', expected 'cpu' or 'cuda'"):
        _core.formula("exp", np.zeros(3), device="tpu")


def test_the_comparison_finds_one_bit():
    """What the tests on a GPU rely on: a difference is found, measured and named; NaNs are equal."""
    from .numbers import differences

    a = np.array([1.0, -0.0, np.nan, 2.0, -1e-310])
    b = a.copy()
    b[2:3] = np.array([0x7FF8000000000001], np.uint64).view(float)
    assert not differences("f", [a], a, b)
    b[3], b[1] = np.nextafter(2.0, 3), 0.0
    first, *rest = differences("f", [a], a, b)
    assert first == "f float64: 2 of 5 differ"
    assert rest[0].endswith("1 ulp") and "(0x1.0000000000000p+1)" in rest[0]
    assert rest[1].endswith("0 ulp")
