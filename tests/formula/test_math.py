"""The elementary functions: error in ulp against extended precision, the ends of every domain, and tangents."""

import math

import numpy as np
import pytest
from thalweg import _core

from .measure import DTYPES, close, exact, spread, tangent_by_differences, ulps

inf, nan = np.inf, np.nan

# name: reference, bound in ulp, ranges in float32, ranges in float64
FUNCTIONS = {
    "exp": (np.exp, 0.9, [(-87, 88.7), (-4, 4)], [(-708, 709.7), (-4, 4)]),
    "expm1": (np.expm1, 1.15, [(-20, 88.7), (-1, 1)], [(-40, 709.7), (-1, 1)]),
    "tanh": (np.tanh, 2.05, [(-11, 11), (-1, 1)], [(-22, 22), (-1, 1)]),
    "log": (np.log, 0.65, [(1e-30, 1e30), (0.4, 2.5)], [(1e-300, 1e300), (0.4, 2.5)]),
    "log1p": (np.log1p, 0.65, [(-0.999999, 3), (0, 1e30)], [(-0.999999, 3), (0, 1e300)]),
    "sin": (np.sin, 0.8, [(-1e5, 1e5), (-4, 4)], [(-1e9, 1e9), (-4, 4)]),
    "cos": (np.cos, 0.8, [(-1e5, 1e5), (-4, 4)], [(-1e9, 1e9), (-4, 4)]),
}

needs_extended = pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="no extended precision here")


@needs_extended
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_in_ulp(name, dtype):
    reference, bound, *ranges = FUNCTIONS[name]
    x = spread(np.random.default_rng(1), 40_000, *ranges[dtype == np.float64]).astype(dtype)
    if name in ("log", "log1p"):
        x = np.concatenate([x, np.exp(np.random.default_rng(2).uniform(-80, 80, 40_000)).astype(dtype)])
        x = x[x > (0 if name == "log" else -1)]
    assert ulps(_core.formula(name, x), reference(exact(x))).max() <= bound


# erf from 40-digit arithmetic, at float64 arguments that float32 holds too.
ERF = {
    0.015625: "0x1.20d77083f17a0p-6",
    0.25: "0x1.1af54e232d609p-2",
    0.5: "0x1.0a7ef5c18edd2p-1",
    0.75: "0x1.6c1c9759d0e5fp-1",
    0.8125: "0x1.7fb9bfaed8078p-1",
    0.9375: "0x1.a1551a16aaeafp-1",
    0.96875: "0x1.a89c850b7d54dp-1",
    1.0: "0x1.af767a741088bp-1",
    1.03125: "0x1.b5e62fce16095p-1",
    1.0625: "0x1.bbef0fbde6221p-1",
    1.25: "0x1.d8865d98abe01p-1",
    1.5: "0x1.eea5557137ae0p-1",
    2.0: "0x1.fd9ae142795e3p-1",
    2.5: "0x1.ffcaa8f4c9beap-1",
    3.0: "0x1.fffd1ac4135f9p-1",
    3.5: "0x1.ffffe710d565ep-1",
    3.875: "0x1.fffffe92ced93p-1",
    4.5: "0x1.fffffffe4fa30p-1",
    5.5: "0x1.fffffffffffbep-1",
    5.875: "0x1.fffffffffffffp-1",
}


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 0.9), (np.float64, 2.0)])
def test_erf_error_in_ulp(dtype, bound):
    # math.erf is within 1 ulp in float64, so that 2 ulp from it bounds ours; the golden numbers below are sharper.
    x = spread(np.random.default_rng(3), 20_000, (-6.2, 6.2), (-1.2, 1.2)).astype(dtype)
    assert ulps(_core.formula("erf", x), np.array([math.erf(v) for v in x.astype(float)])).max() <= bound


def test_erf_golden_numbers():
    x = np.array(list(ERF))
    assert ulps(_core.formula("erf", x), np.array([float.fromhex(v) for v in ERF.values()])).max() <= 1


@needs_extended
@pytest.mark.parametrize("dtype", DTYPES)
def test_pow_error_in_ulp(dtype):
    rng, limit = np.random.default_rng(4), 87 if dtype == np.float32 else 708
    x = np.concatenate(
        [np.exp(rng.uniform(-limit, limit, 30_000)), rng.uniform(0.1, 3, 30_000), 1 + rng.normal(size=30_000) / 1e3]
    )
    x = x.astype(dtype)
    logs = np.log(exact(x))
    y = (rng.uniform(-limit, limit, x.size) / np.where(logs == 0, 1, logs)).astype(dtype)
    reference = np.power(exact(x), exact(y))
    assert ulps(_core.formula("pow", x, y), reference).max() <= 0.9


ENDS = {
    "exp": [(0.0, 1.0), (-0.0, 1.0), (inf, inf), (-inf, 0.0), (nan, nan), (1000.0, inf), (-1000.0, 0.0)],
    "expm1": [(0.0, 0.0), (-0.0, -0.0), (inf, inf), (-inf, -1.0), (nan, nan), (1000.0, inf), (-1000.0, -1.0)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (inf, 1.0), (-inf, -1.0), (nan, nan), (50.0, 1.0), (1e-38, 1e-38)],
    "log": [(0.0, -inf), (-0.0, -inf), (1.0, 0.0), (inf, inf), (-1.0, nan), (-inf, nan), (nan, nan)],
    "log1p": [(0.0, 0.0), (-0.0, -0.0), (-1.0, -inf), (-1.5, nan), (inf, inf), (-inf, nan), (nan, nan)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (inf, 1.0), (-inf, -1.0), (nan, nan), (30.0, 1.0), (-30.0, -1.0)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (inf, nan), (-inf, nan), (nan, nan), (1e-38, 1e-38)],
    "cos": [(0.0, 1.0), (-0.0, 1.0), (inf, nan), (-inf, nan), (nan, nan)],
    "sqrt": [(0.0, 0.0), (-0.0, -0.0), (inf, inf), (-1.0, nan), (nan, nan), (4.0, 2.0)],
}


# Between the last result that is no end and the limit from which nothing is computed.
BEFORE_LIMITS = {
    np.float32: {"exp": [(88.8, inf), (-103.99, 0.0)], "expm1": [(88.8, inf), (-17.9, -1.0)], "tanh": [(9.9, 1.0)]},
    np.float64: {"exp": [(709.9, inf), (-745.5, 0.0)], "expm1": [(709.9, inf), (-37.9, -1.0)], "tanh": [(19.9, 1.0)]},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ENDS)
def test_ends(name, dtype):
    rows = ENDS[name] + BEFORE_LIMITS[dtype].get(name, [])
    x, expected = (np.array(c, dtype) for c in zip(*rows, strict=True))
    y = _core.formula(name, np.resize(x, 64))[: x.size]  # vector lanes and the scalar tail
    np.testing.assert_array_equal(y, expected)
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(y[known]), np.signbit(expected[known]))
    np.testing.assert_array_equal(_core.formula(name, x), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pow_ends_are_those_of_c(dtype):
    points = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 2.5, -2.5, 1e30, inf, -inf, nan]
    points += [float(2**24 + 1), float(2**24 - 1), float(2**53 - 1), 1e31 if dtype == np.float32 else 1e300]
    x, y = (a.ravel().astype(dtype) for a in np.meshgrid(points, points))
    with np.errstate(all="ignore"):
        expected = np.power(x, y)
    result = _core.formula("pow", x, y)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))
    finite = np.isfinite(expected) & (expected != 0)
    close(result[finite], expected[finite], rtol=2 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(result[~finite], expected[~finite])
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(result[known]), np.signbit(expected[known]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_denormal_numbers(dtype):
    info = np.finfo(dtype)
    tiny = (info.smallest_subnormal * 2.0 ** np.arange(0, info.nmant, 3)).astype(dtype)
    for name in ("expm1", "tanh", "log1p", "sin"):
        np.testing.assert_array_equal(_core.formula(name, np.concatenate([tiny, -tiny])), np.concatenate([tiny, -tiny]))
    assert ulps(_core.formula("log", tiny), np.log(exact(tiny))).max() <= 0.65
    low = np.linspace(np.log(exact(info.smallest_subnormal)), np.log(exact(info.tiny)), 1000).astype(dtype)
    assert ulps(_core.formula("exp", low), np.exp(exact(low))).max() <= 1  # rounded twice at most
    assert ulps(_core.formula("erf", tiny), 2 / np.sqrt(np.longdouble(np.pi)) * exact(tiny)).max() <= 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_angles_without_meaning_stay_bounded(dtype):
    x = np.array([1e8, 1e15, 1e20, 1e30, 3e38], dtype) * np.array([[1], [-1]], dtype)
    s, c = _core.formula("sin", x), _core.formula("cos", x)
    close(s * s + c * c, np.ones_like(s), rtol=1e-6)


TANGENTS = {
    "exp": np.exp,
    "expm1": np.exp,
    "tanh": lambda x: 1 / np.cosh(x) ** 2,
    "log": lambda x: 1 / x,
    "log1p": lambda x: 1 / (1 + x),
    "erf": lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x),
    "sin": np.cos,
    "cos": lambda x: -np.sin(x),
    "sqrt": lambda x: 0.5 / np.sqrt(x),
    "abs": np.sign,
}


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 3e-6), (np.float64, 1e-14)])
@pytest.mark.parametrize("name", TANGENTS)
def test_tangents(name, dtype, rtol):
    rng = np.random.default_rng(5)
    x, t = rng.uniform(0.1, 2.5, 500).astype(dtype), rng.normal(size=500).astype(dtype)
    if name not in ("log", "sqrt", "log1p"):
        x *= rng.choice([-1, 1], 500).astype(dtype)
    y, d = _core.formula_jvp(name, [x], [t])
    np.testing.assert_array_equal(y, _core.formula(name, x))
    close(d, TANGENTS[name](x.astype(float)) * t, rtol=20 * rtol, atol=rtol)


def test_tangent_of_pow():
    rng = np.random.default_rng(6)
    x, y = rng.uniform(0.2, 3, 300), rng.uniform(-3, 3, 300)
    d_x, d_y = rng.normal(size=300), rng.normal(size=300)
    value, d = _core.formula_jvp("pow", [x, y], [d_x, d_y])
    np.testing.assert_array_equal(value, _core.formula("pow", x, y))
    close(d, y * x ** (y - 1) * d_x + x**y * np.log(x) * d_y, rtol=1e-12, atol=1e-13)
    base, exponent = np.array([0.0, 0.0, 0.0, -2.0]), np.array([0.0, 1.0, 2.0, 3.0])
    _, d = _core.formula_jvp("pow", [base, exponent], [np.ones(4), np.zeros(4)])
    np.testing.assert_array_equal(d, [0.0, 1.0, 0.0, 12.0])


@pytest.mark.parametrize("name", ["maximum", "minimum", "fma", "clamp"])
def test_tangents_of_selections(name):
    rng = np.random.default_rng(7)
    args = [rng.normal(size=200) for _ in range(2 if name in ("maximum", "minimum") else 3)]
    if name == "clamp":
        args = [args[0], np.full(200, -0.5), np.full(200, 0.7)]
    directions = [rng.normal(size=200) for _ in args]
    if name == "clamp":
        directions[1:] = [np.zeros(200), np.zeros(200)]
    _, d = _core.formula_jvp(name, args, directions)
    close(d, tangent_by_differences(lambda *a: _core.formula(name, *a), args, directions), rtol=1e-6, atol=1e-7)


def test_unknown_formulas_are_refused():
    with pytest.raises(ValueError, match="no formula"):
        _core.formula("exponential", np.zeros(3))
    with pytest.raises(ValueError, match="no formula"):
        _core.formula("exp", np.zeros(3), np.zeros(3))
