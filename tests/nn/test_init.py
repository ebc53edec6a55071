"""Initialisers: the scale of each against its formula in float64, bit for bit, and what is drawn against the scale."""

import math

import numpy as np
import pytest

SHAPES = [(10, 784), (512, 512), (16, 3, 3, 8), (6, 5, 5, 1), (7,), (3, 0)]
GAINS = [1.0, math.sqrt(2), 5 / 3, 0.02]


def fans(shape):
    if len(shape) < 2:
        return shape[0], shape[0]
    field = math.prod(shape[1:-1])
    return field * shape[-1], shape[0] * field


def std_of(name, gain, shape, fan="in"):
    fan_in, fan_out = fans(shape)
    fan = (fan_in + fan_out) / 2 if name.startswith("xavier") else {"in": fan_in, "out": fan_out}[fan]
    variance = 2.0 if name.startswith("kaiming") and gain == math.sqrt(2) else gain**2
    return math.sqrt(variance / max(1.0, fan))


@pytest.mark.parametrize("gain", GAINS)
@pytest.mark.parametrize("family", ["lecun", "xavier", "kaiming"])
def test_scales(tw, family, gain):
    for shape in SHAPES:
        normal, uniform = (getattr(tw.init, f"{family}_{kind}")(gain) for kind in ("normal", "uniform"))
        std = std_of(family, gain, shape)
        assert normal._range(shape) == (0.0, std)
        assert uniform._range(shape) == (-math.sqrt(3) * std, math.sqrt(3) * std)


def test_fan_out(tw):
    for shape in SHAPES:
        assert tw.init.kaiming_normal(1.0, "out")._range(shape) == (0.0, std_of("kaiming", 1.0, shape, "out"))


@pytest.mark.parametrize("name", ["lecun_normal", "xavier_uniform", "kaiming_normal"])
def test_what_is_drawn_has_the_scale(tw, name):
    init, shape = getattr(tw.init, name)(), (400, 500)
    drawn = init(shape, "float64", 0, "layer.weight")
    expected = std_of(name, math.sqrt(2) if name.startswith("kaiming") else 1.0, shape)
    assert abs(drawn.mean()) < 5 * expected / math.sqrt(drawn.size)
    assert drawn.std() == pytest.approx(expected, rel=0.01)
    assert np.array_equal(drawn, init(shape, "float64", 0, "layer.weight"))
