"""Where sample arguments are drawn from: functions (rng, shape) -> array.

Real ones are multiples of 2^-12, so float32 and float64 see the same numbers; kinked operators get points that
differences cannot carry over the kink.
"""

import numpy as np


def _grid(x):
    return np.round(x * 4096) / 4096


def normal(rng, shape):
    return _grid(rng.standard_normal(shape))


def small(rng, shape):
    return _grid(0.3 * rng.standard_normal(shape))


def positive(rng, shape):
    return _grid(rng.uniform(0.25, 3.0, shape))


def above_minus_one(rng, shape):
    return _grid(rng.uniform(-0.75, 3.0, shape))


def nonzero(rng, shape):
    return _grid(rng.uniform(0.1, 2.5, shape) * rng.choice([-1.0, 1.0], shape))


def distinct(rng, shape):
    """All elements at least 1/64 apart: no ties for maxima, also not within a difference's step."""
    size = int(np.prod(shape, dtype=np.int64))
    return np.asarray((rng.permutation(size).reshape(shape) - size // 2) / 64.0)


def odd_sixtyfourths(rng, shape):
    """Never equal to a `distinct` value, and 1/128 away from it."""
    return distinct(rng, shape) + 1 / 128


def few_values(rng, shape):
    """Small integers with many ties, for comparisons."""
    return rng.integers(-1, 2, shape).astype(np.float64)


def bits(rng, shape):
    return rng.integers(0, 2, shape).astype(np.float64)


def probabilities(rng, shape):
    p = rng.integers(1, 9, shape).astype(np.float64)
    return p / p.sum(-1, keepdims=True)


def labels(classes):
    def draw(rng, shape):
        return rng.integers(0, classes, shape)

    return draw
