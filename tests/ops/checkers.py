"""The checkers that every gradient of the table goes through; test_planted.py proves that they reject wrong ones.

assert_close      error against a float64 reference, in units of the tensor's own scale
check_gradient    gradient against central differences (4th order) of a float64 function, along single elements and
                  dense directions
check_jvp         tangent against the same differences
Mistakes smaller than the tolerances below cannot be seen; every tolerance is at least 10 times below the smallest
planted mistake of test_planted.py.
"""

import numpy as np

TOLERANCE = {np.dtype(np.float32): 3e-6, np.dtype(np.float64): 1e-13}
DIFFERENCE_TOLERANCE = 2e-8
STEP = 1e-3


def assert_close(actual, expected, tolerance, what=""):
    """Same shape, NaN and infinities, and |actual - expected| <= tolerance (|expected| + its root mean square)."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite], err_msg=what)
    actual, expected = actual[finite], expected[finite]
    if not expected.size:
        return
    allowed = tolerance * (np.abs(expected) + np.sqrt(np.mean(expected**2)) + 1e-30)
    excess = np.abs(actual - expected) / allowed
    worst = int(np.argmax(np.where(np.isnan(excess), np.inf, excess)))
    assert excess[worst] <= 1, (
        f"{what}: element {worst} is {actual[worst]!r}, expected {expected[worst]!r}: "
        f"{excess[worst]:.3g} times the allowed error {allowed[worst]:.3g}"
    )


def inner(a, b):
    """Sum of products of two lists of arrays, None counting as zero."""
    return sum(float(np.sum(np.asarray(x, np.float64) * np.asarray(y, np.float64))) for x, y in zip(a, b, strict=True))


def difference(f, args, direction, step=STEP):
    """Derivative of f along `direction`, error about step^4: (8 (f(+h) - f(-h)) - (f(+2h) - f(-2h))) / 12 h."""

    def at(t):
        return np.asarray(f(*[a + t * d for a, d in zip(args, direction, strict=True)]), np.float64)

    return (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step)


def directions(rng, args, single=6, dense=3):
    """Unit directions: some single elements of every argument, then dense random ones over all of them."""
    for k, a in enumerate(args):
        for i in rng.permutation(a.size)[:single]:
            d = [np.zeros(np.shape(b)) for b in args]
            d[k].flat[i] = 1.0
            yield d
    for _ in range(dense):
        d = [rng.standard_normal(np.shape(a)) for a in args]
        length = np.sqrt(inner(d, d)) or 1.0
        yield [np.asarray(x / length) for x in d]


def check_gradient(f, args, gradients, rng, cotangent=None, tolerance=DIFFERENCE_TOLERANCE, what=""):
    """gradients = d sum(cotangent f(*args)) / d args, against differences of f; all in float64."""

    def scalar(*a):
        y = np.asarray(f(*a), np.float64)
        return y.sum() if cotangent is None else (cotangent * y).sum()

    scale = np.sqrt(inner(gradients, gradients)) + 1e-3
    for d in directions(rng, args):
        expected, actual = float(difference(scalar, args, d)), inner(gradients, d)
        error = abs(actual - expected) / (abs(expected) + scale)
        assert error <= tolerance, (
            f"{what}: derivative {actual!r}, by differences {expected!r}: relative error {error:.3g}"
        )


def check_jvp(f, args, jvp, rng, tolerance=DIFFERENCE_TOLERANCE, what=""):
    """jvp(tangents) -> tangent of f's output, against differences of f."""
    for d in directions(rng, args, single=1, dense=2):
        expected, actual = difference(f, args, d), np.asarray(jvp(d), np.float64)
        scale = np.abs(expected).max(initial=0.0) + 1e-3
        worst = np.abs(actual - expected).max(initial=0.0) / scale
        assert actual.shape == expected.shape and worst <= tolerance, f"{what}: tangent off by {worst:.3g} of its scale"
