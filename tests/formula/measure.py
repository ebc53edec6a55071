"""How far a result is from the truth: units in the last place, and grids that reach the corners of a domain."""

import numpy as np

DTYPES = (np.float32, np.float64)


def exact(x):
    """x in the widest type that numpy has here: the reference is computed in it."""
    return np.asarray(x).astype(np.longdouble)


def ulps(y, reference):
    """|y - reference| in units in the last place of the reference, in y's type. Equal infinities and NaNs give 0."""
    info = np.finfo(y.dtype)
    reference = np.asarray(reference, np.longdouble)
    same = (np.isnan(y) & np.isnan(reference)) | (np.isinf(y) & (reference.astype(y.dtype) == y))
    size = np.where(np.isfinite(reference), np.abs(reference), 1)
    exponent = np.floor(np.log2(np.maximum(size, np.longdouble(info.smallest_subnormal))))
    unit = np.maximum(np.exp2(exponent - info.nmant), np.longdouble(info.smallest_subnormal))
    with np.errstate(invalid="ignore"):
        return np.where(same, 0.0, np.abs(exact(y) - reference) / unit).astype(np.float64)


def spread(rng, n, *ranges):
    """n numbers from each (low, high), and as many tiny ones of both signs."""
    parts = [rng.uniform(low, high, n) for low, high in ranges]
    parts.append(rng.choice([-1.0, 1.0], n) * 10.0 ** rng.uniform(-12, 0, n))
    return np.concatenate(parts)


def same_bits(a, b):
    """Equal bit for bit, NaNs of any payload taken as equal."""
    return np.array_equal(np.isnan(a), np.isnan(b)) and np.array_equal(
        np.where(np.isnan(a), 0, a).tobytes(), np.where(np.isnan(b), 0, b).tobytes()
    )


def close(a, b, rtol=1e-12, atol=0.0):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def tangent_by_differences(f, args, directions, h=1e-6):
    """The directional derivative of f at args by a fourth-order central difference, in float64."""
    at = [f(*[a + k * h * d for a, d in zip(args, directions, strict=True)]) for k in (-2, -1, 1, 2)]
    return (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h)
