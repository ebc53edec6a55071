"""Arguments that reach every corner of a formula, and the comparison of two results bit for bit."""

import functools

import numpy as np

BITS = {np.float32: np.uint32, np.float64: np.uint64}
COLUMNS = 12  # the longest list of arguments


def special(dtype):
    """Zeros, ends and thresholds of both signs, each with its neighbours; halfway cases of roundings; inf and NaN."""
    info = np.finfo(dtype)
    points = [0.0, info.smallest_subnormal, info.tiny, info.tiny / 2, info.eps, info.max, 2.0**-30, 2.0**-60]
    points += [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, np.sqrt(0.5), np.sqrt(2.0), 10.0, 13.0, 20.0, 30.0, 60.0, 1e5, 1e9]
    points += [4.1, 6.0, 7.83, 12.0, 18.0, 38.0, 88.0, 88.72, 89.0, 103.97, 104.0, 709.78, 710.0, 745.13, 746.0]
    points += [2.0**k + d for k in (21, 22, 23, 24, 50, 51, 52, 53) for d in (-0.5, 0.0, 0.5, 1.0)]
    points += [(k + 0.5) * s for k in range(12) for s in (1.0, np.log(2.0), np.pi / 2)]  # halfway between integers
    points += [127.5 * np.log(2.0), 128 * np.log(2.0), 1023.5 * np.log(2.0)]  # where 1 + e^x is inf
    points += [k * s for k in range(1, 9) for s in (np.log(2.0), np.pi / 4)]
    with np.errstate(over="ignore"):
        x = np.array(points, np.float64).astype(dtype)
        x = np.concatenate([x, np.nextafter(x, dtype(0)), np.nextafter(x, dtype(np.inf))])
    return np.concatenate([x, -x, np.array([np.inf, -np.inf, np.nan], dtype)])


@functools.cache
def columns(dtype, n=400_000):
    """COLUMNS arguments and as many tangents: ordinary numbers, mostly positive; all bit patterns; special numbers."""
    rng = np.random.default_rng(0)
    shape, third = (2 * COLUMNS, n), n // 3
    x = np.empty(shape, dtype)
    scale = 10.0 ** rng.uniform(-3, 2, (shape[0], third))
    x[:, :third] = rng.normal(size=(shape[0], third)) * scale * rng.choice([1, 1, -1], (shape[0], third))
    x[:COLUMNS, : third // 2] = np.abs(x[:COLUMNS, : third // 2])
    x[:, third : 2 * third] = rng.integers(0, 2 ** (8 * x.itemsize), (shape[0], third), BITS[dtype]).view(dtype)
    x[:, 2 * third :] = rng.choice(special(dtype), (shape[0], n - 2 * third))
    return list(x[:COLUMNS]), list(x[COLUMNS:])


@functools.cache
def counters(dtype, n=100_000):
    """Integers below 2^32 that dtype holds."""
    rng = np.random.default_rng(1)
    return [(rng.integers(0, 2**24, n) * rng.choice([1, 256], n)).astype(dtype) for _ in range(COLUMNS)]


def distance(a, b):
    """How many numbers lie between a and b; where one of them is NaN, -1."""
    kind = BITS[a.dtype.type]

    def place(x):
        bits = x.view(kind).astype(object)
        top = 1 << (8 * x.itemsize - 1)
        return np.where(bits >= top, top - bits, bits)

    return np.where(np.isnan(a) | np.isnan(b), -1, np.abs(place(a) - place(b)))


def differences(what, arguments, a, b):
    """Lines that say where two results differ in a bit (any NaN equals any NaN): the worst five first."""
    kind = BITS[a.dtype.type]
    i = np.flatnonzero((a.view(kind) != b.view(kind)) & ~(np.isnan(a) & np.isnan(b)))
    if not i.size:
        return []
    lines = [f"{what} {a.dtype}: {i.size} of {a.size} differ"]
    i = i[:100_000]
    ulp = distance(a[i], b[i])
    for k in np.argsort(-ulp, kind="stable")[:5]:
        given = ", ".join(f"{float(x[i[k]]).hex()}" for x in arguments)
        lines.append(f"  ({given}): cpu {float(a[i[k]]).hex()}, cuda {float(b[i[k]]).hex()}, {ulp[k]} ulp")
    return lines
