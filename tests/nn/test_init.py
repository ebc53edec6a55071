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


@pytest.mark.parametrize("name", ["lecun_normal", "lecun_uniform", "xavier_uniform", "kaiming_normal"])
def test_what_is_drawn_has_the_scale(tw, name):
    init, shape = getattr(tw.init, name)(), (400, 500)
    drawn = init(shape, "float64", 0, "layer.weight")
    expected = std_of(name, math.sqrt(2) if name.startswith("kaiming") else 1.0, shape)
    assert abs(drawn.mean()) < 5 * expected / math.sqrt(drawn.size)
    assert drawn.std() == pytest.approx(expected, rel=0.01)
    assert np.array_equal(drawn, init(shape, "float64", 0, "layer.weight"))


def test_truncated_normal(tw):
    init = tw.init.truncated_normal(0.5, 1.0)
    drawn = init((400, 500), "float64", 0, "layer.weight")
    assert np.abs(drawn - 1).max() <= 1.0 and abs(drawn.mean() - 1) < 5e-3
    assert drawn.std() == pytest.approx(0.8796 * 0.5, rel=0.01)  # of the normal distribution cut at 2 deviations
    assert tw.init.build(init.describe()) == init


def test_numbers_at_the_door(tw):
    init = tw.init
    assert init.normal(np.float32(0.5), np.int64(1)) == init.normal(0.5, 1.0)
    assert type(init.kaiming_normal(np.float32(0.5)).describe()["b"]) is float
    for make in (init.normal, init.truncated_normal, init.lecun_normal, init.kaiming_uniform, init.constant):
        with pytest.raises(TypeError, match=r"\[init.*'a', expected a number"):
            make("a")
        with pytest.raises(ValueError, match=r"\[init.*nan"):
            make(float("nan"))
    for make in (init.normal, init.truncated_normal):
        with pytest.raises(ValueError, match=r"std is -1\.0"):
            make(-1.0)
    with pytest.raises(ValueError, match="above high"):
        init.uniform(1, 0)
