"""Every formula gives the same bits on the GPU as on the CPU: float, double, and dual numbers over both."""

import numpy as np
import pytest
from thalweg import _core

from .numbers import columns, counters, differences, special

DTYPES = (np.float32, np.float64)
COUNTING = ("philox_", "random_")  # formulas of integers below 2^32
EVERY = 251  # of the numbers of float32, for formulas of one argument


def arguments(name, count, dtype):
    """Values and tangents."""
    values, tangents = columns(dtype)
    if name.startswith(COUNTING):
        values = counters(dtype)
        tangents = [x[: values[0].size] for x in tangents]
    if name == "step_factor":  # t / every becomes an integer of 64 bits
        values = [np.abs(counters(dtype)[0]), 1 + np.abs(counters(dtype)[1]), counters(dtype)[2] / dtype(2**32)]
        tangents = [x[: values[0].size] for x in tangents]
    return values[:count], tangents[:count]


def compared(name, values, tangents):
    """Differences of value, value of the dual, and tangent."""
    lines = differences(name, values, _core.formula(name, *values), _core.formula(name, *values, device="cuda"))
    cpu, cuda = (_core.formula_jvp(name, values, tangents, device=device) for device in ("cpu", "cuda"))
    lines += differences(f"{name} of duals", [*values, *tangents], cpu[0], cuda[0])
    return lines + differences(f"tangent of {name}", [*values, *tangents], cpu[1], cuda[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "count"), _core.formulas())
def test_same_bits(name, count, dtype, gpu):
    lines = compared(name, *arguments(name, count, dtype))
    assert not lines, "\n".join(lines)


@pytest.mark.parametrize("name", [name for name, count in _core.formulas() if count == 1])
def test_same_bits_over_all_of_float32(name, gpu):
    x = np.arange(0, 2**32, EVERY, dtype=np.uint32).view(np.float32)
    lines = compared(name, [x], [np.resize(columns(np.float32)[1][0], x.size)])
    assert not lines, "\n".join(lines)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name, count in _core.formulas() if count == 2])
def test_same_bits_of_pairs_of_special_numbers(name, dtype, gpu):
    values = [np.ascontiguousarray(x.ravel()) for x in np.meshgrid(special(dtype), special(dtype))]
    if name.startswith(COUNTING):
        values = [x[: values[0].size] for x in counters(dtype)[:2]]
        values = [np.ascontiguousarray(x) for x in values]
    tangents = [np.resize(x, values[0].size) for x in columns(dtype)[1][:2]]
    lines = compared(name, values, tangents)
    assert not lines, "\n".join(lines)


def test_unknown_formulas_are_refused(gpu):
    with pytest.raises(ValueError, match="no formula"):
        _core.formula("exponential", np.zeros(3), device="cuda")


def test_no_elements(gpu):
    assert _core.formula("exp", np.zeros(0), device="cuda").shape == (0,)
