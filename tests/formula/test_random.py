"""Philox against its published vectors, and the distributions drawn from it."""

import numpy as np
import pytest
from thalweg import _core

# Random123, kat_vectors, philox4x32-10: counter, key, result
VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_published_vectors(counter, key, expected):
    words = [np.array([int(w, 16)], float) for w in (*key.split(), *counter.split())]
    got = [int(_core.formula(f"philox_{i}", *words)[0]) for i in range(4)]
    assert got == [int(w, 16) for w in expected.split()]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_distributions(dtype):
    n = 400_000
    x = _core.fill_random("normal", 2.0, 3.0, 1, "w", (n,), dtype)
    assert x.dtype == dtype and abs(x.mean() - 2) < 0.03 and abs(x.std() - 3) < 0.02
    z = (x.astype(float) - 2) / 3
    assert abs((z**3).mean()) < 0.02 and abs((z**4).mean() - 3) < 0.06 and 4 < np.abs(z).max() < 6.5
    u = _core.fill_random("uniform", -1.0, 3.0, 1, "w", (n,), dtype)
    assert u.min() >= -1 and u.max() <= 3
    counts, _ = np.histogram(u, 50, (-1, 3))
    assert ((counts - n / 50) ** 2 / (n / 50)).sum() < 100  # 49 degrees of freedom
    t = _core.fill_random("truncated_normal", 1.0, 0.5, 1, "w", (n,), dtype)
    assert np.abs(t - 1).max() <= 1 and abs(t.std() - 0.5 * 0.87962566) < 2e-3


def test_an_element_depends_on_its_place_alone():
    long = _core.fill_random("normal", 0.0, 1.0, 7, "w", (50_001,), "float64")
    short = _core.fill_random("normal", 0.0, 1.0, 7, "w", (13, 7), "float64")
    np.testing.assert_array_equal(short.ravel(), long[:91])
    for seed, stream in ((8, "w"), (7, "v")):
        other = _core.fill_random("normal", 0.0, 1.0, seed, stream, (50_001,), "float64")
        assert abs(np.corrcoef(long, other)[0, 1]) < 0.02 and not np.any(other == long)


def test_float32_is_float64_rounded():
    for name in ("normal", "uniform", "truncated_normal"):
        wide = _core.fill_random(name, 0.0, 1.0, 3, "w", (1000,), "float64")
        np.testing.assert_array_equal(
            _core.fill_random(name, 0.0, 1.0, 3, "w", (1000,), "float32"), wide.astype(np.float32)
        )


def test_unknown_distributions_are_refused():
    with pytest.raises(ValueError, match="cauchy"):
        _core.fill_random("cauchy", 0.0, 1.0, 0, "w", (3,), "float32")


def test_permutations():
    for n in (0, 1, 2, 1797):
        np.testing.assert_array_equal(np.sort(_core.permutation(n, 5, "order")), np.arange(n))
    assert not np.array_equal(_core.permutation(100, 5, "order"), _core.permutation(100, 6, "order"))
    np.testing.assert_array_equal(_core.permutation(100, 5, "order"), _core.permutation(100, 5, "order"))
    codes = [int(np.dot(_core.permutation(4, seed, "order"), [64, 16, 4, 1])) for seed in range(12_000)]
    _, counts = np.unique(codes, return_counts=True)
    assert counts.size == 24 and ((counts - 500) ** 2 / 500).sum() < 50  # 23 degrees of freedom


def test_keys_differ():
    seed, stream = (a.ravel().astype(float) for a in np.meshgrid(np.arange(100), np.arange(100)))
    keys = [_core.formula(f"random_key_{i}", seed, stream) for i in (0, 1)]
    assert np.unique(keys[0] * 2.0**20 + keys[1] / 2.0**12).size == 10_000
