"""Prints a digest of every row of the table, forward and backward, in both dtypes, as JSON: run in subprocesses by
tests/bits to compare instruction sets and numbers of threads.

  THALWEG_ISA=generic python -m tests.ops.digests [part of a name]
"""

import hashlib
import json
import sys

import numpy as np

from .row import each_sample
from .table import TABLE


def digest(*arrays):
    h = hashlib.sha256()
    for a in arrays:
        h.update(repr((a.shape, a.dtype.str)).encode() + np.ascontiguousarray(a).tobytes())
    return h.hexdigest()[:16]


def of_row(tw, row, sample, dtype):
    f, reals = row.with_reals(sample, lambda *a: row.call(tw.ops, *a), dtype)
    if not row.smooth:
        return digest(f(*reals))
    y, pullback = tw.vjp(f, *reals)
    cotangent = np.asarray(np.random.default_rng(7).standard_normal(y.shape), dtype)
    tangents = [np.asarray(np.random.default_rng([8, i]).standard_normal(x.shape), dtype) for i, x in enumerate(reals)]
    return digest(y, *pullback(cotangent), tw.jvp(f, reals, tangents)[1])


def same_in_place(tw, row, sample, dtype):
    """Whether values and tangents are the same where the operands and the result are values of the graph, whose memory
    the result may take: -(-x) is x to the bit."""
    f, reals = row.with_reals(sample, lambda *a: row.call(tw.ops, *a), dtype)
    tangents = [np.asarray(np.random.default_rng([8, i]).standard_normal(x.shape), dtype) for i, x in enumerate(reals)]
    inner = lambda *xs: tw.ops.neg(f(*[tw.ops.neg(tw.ops.neg(x)) for x in xs]))  # noqa: E731
    plain, inside = tw.jvp(f, reals, tangents), tw.jvp(inner, reals, tangents)
    return all(np.array_equal(a, -b, equal_nan=True) for a, b in zip(plain, inside, strict=True))


# Layer norms that stay in L3, and that go past the caches, of rows that begin in the middle of a cache line.
LARGE = [(700, 1001), (5003, 1001)]


def of_large(tw, shape, dtype):
    x, d_y, gamma, beta = (
        np.random.default_rng(i).standard_normal(s).astype(dtype) for i, s in enumerate([shape] * 2 + [shape[1:]] * 2)
    )
    y, pullback = tw.vjp(tw.ops.layer_norm, x, gamma, beta)
    return digest(y, *pullback(d_y))


def main(part=""):
    import thalweg as tw

    found = {"isa": tw._core.isa()}
    for name, row, sample in each_sample(TABLE, lambda row: part in row.name):
        for dtype in (np.float32, np.float64):
            found[f"{name}-{np.dtype(dtype).name}"] = of_row(tw, row, sample, dtype)
            if row.smooth:
                found[f"{name}-{np.dtype(dtype).name} in place"] = same_in_place(tw, row, sample, dtype)
    for shape in LARGE if part in "layer_norm" else []:
        for dtype in (np.float32, np.float64):
            found[f"layer_norm {shape}-{np.dtype(dtype).name}"] = of_large(tw, shape, dtype)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
