"""Arrays of every kind at the door: any layout gives the same bits as a contiguous copy; other dtypes are converted or
refused by name, never misread."""

import numpy as np
import pytest

from .row import cast
from .table import TABLE

PLAIN = [row for row in TABLE if row.operator == row.name]


def strided(a):
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1]), np.nan, a.dtype) if a.dtype.kind == "f" else None
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype) if wide is None else wide
    wide[..., ::2] = a
    return wide[..., ::2]


def reversed_(a):
    return np.ascontiguousarray(a[::-1])[::-1]


def unaligned(a):
    raw = np.zeros(a.nbytes + 1, np.uint8)
    out = raw[1:].view(a.dtype).reshape(a.shape)
    out[...] = a
    return out


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def big_endian(a):
    return a.astype(a.dtype.newbyteorder(">"))


LAYOUTS = {
    "fortran": np.asfortranarray,
    "strided": strided,
    "reversed": reversed_,
    "unaligned": unaligned,
    "read_only": read_only,
    "big_endian": big_endian,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("row", PLAIN, ids=lambda row: row.name)
def test_layouts_give_the_same_bits(row, layout, ops):
    for dtype in (np.float32, np.float64):
        arrays = cast(row.arrays(0), dtype)
        expected = row.call(ops, *arrays)
        y = row.call(ops, *[LAYOUTS[layout](a) if a.ndim else a for a in arrays])
        assert y.dtype == dtype and y.tobytes() == expected.tobytes()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_take_any_layout(layout, tw):
    x = np.random.default_rng(0).standard_normal((4, 6))
    u = np.random.default_rng(1).standard_normal((4, 6))
    _, pullback = tw.vjp(tw.ops.tanh, x)
    _, other = tw.vjp(tw.ops.tanh, LAYOUTS[layout](x))
    assert pullback(u)[0].tobytes() == other(LAYOUTS[layout](u))[0].tobytes()


def test_broadcast_arrays(ops):
    x = np.broadcast_to(np.array([1.0, 2.0, 3.0]), (4, 3))
    np.testing.assert_array_equal(ops.add(x, 1.0), x + 1)
    np.testing.assert_array_equal(ops.sum(x, axis=0), [4.0, 8.0, 12.0])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64, np.bool_])
def test_integers_and_bools_become_float32(dtype, ops):
    x = np.array([[1, 0], [1, 1]], dtype)
    y = ops.mul(x, 0.5)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, x.astype(np.float32) * 0.5)
    assert ops.add(x, np.ones(2, np.float64)).dtype == np.float64


def test_float16_is_converted_or_refused_by_name(ops):
    x = np.array([1.5, -2.25, 65504.0], np.float16)
    try:
        y = ops.neg(x)
    except TypeError as error:
        assert "float16" in str(error)
    else:
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y, -x.astype(np.float32))


@pytest.mark.parametrize(
    "x, named",
    [
        (np.array([1 + 2j]), "complex128"),
        (np.array([1 + 2j], np.complex64), "complex64"),
        (np.array([None]), "object"),
        (np.array(["a"]), "<U1"),
        (np.array([b"a"]), "S1"),
        (np.array(["2020-01-01"], "datetime64[D]"), "datetime64"),
        (np.zeros(2, [("a", np.float32)]), "'a'"),
    ],
)
def test_other_dtypes_are_refused_by_name(x, named, ops):
    with pytest.raises(TypeError) as caught:
        ops.add(np.ones(1), x)
    assert named in str(caught.value) and "[add]" in str(caught.value)


def test_float64_wins_and_python_numbers_are_weak(ops):
    a, b = np.ones(3, np.float32), np.ones(3, np.float64)
    assert ops.add(a, b).dtype == np.float64 and ops.add(b, a).dtype == np.float64
    assert (
        ops.add(a, 2.0).dtype == np.float32 and ops.add(a, 2).dtype == np.float32 and ops.mul(3, a).dtype == np.float32
    )
    np.testing.assert_array_equal(ops.sub(5, a), np.full(3, 4, np.float32))
    assert ops.add(b, 1 / 3)[0] == 1 + 1 / 3


def test_lists_and_array_interfaces_come_in(ops, torch):
    np.testing.assert_array_equal(ops.add([1.0, 2.0], np.ones(2)), [2.0, 3.0])
    np.testing.assert_array_equal(ops.neg(torch.arange(3, dtype=torch.float32)), [0.0, -1.0, -2.0])

    class Interface:
        def __init__(self, a):
            self.__array_interface__ = a.__array_interface__
            self.keep = a

    np.testing.assert_array_equal(ops.neg(Interface(np.arange(6.0)[::2])), [0.0, -2.0, -4.0])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64, ">i4"])
def test_labels_of_any_integer_type_and_layout(dtype, ops):
    logits = np.random.default_rng(0).standard_normal((6, 5))
    labels = np.array([0, 4, 1, 2, 3, 0])
    expected = ops.cross_entropy(logits, labels, reduction="none")
    np.testing.assert_array_equal(ops.cross_entropy(logits, labels.astype(dtype), reduction="none"), expected)
    np.testing.assert_array_equal(
        ops.cross_entropy(logits, labels[::-1], reduction="none")[0],
        expected.dtype.type(ops.cross_entropy(logits, labels[::-1].copy(), reduction="none")[0]),
    )
    big = np.array([0, 2**32, 1, 2, 3, 0])  # 0 when cut to 32 bits
    with pytest.raises(ValueError, match=r"\[cross_entropy\].*4294967296"):
        ops.cross_entropy(logits, big)


def test_bool_and_complex_labels(ops):
    with pytest.raises(TypeError, match="complex128"):
        ops.cross_entropy(np.ones((2, 3)), np.array([1j, 0]))
    with pytest.raises(TypeError, match="bool"):
        ops.cross_entropy(np.ones((2, 3)), np.array([True, False]))


def test_results_are_the_callers_own(ops):
    x = np.ones(4, np.float32)
    y = ops.relu(x)
    y[0] = 5
    assert x[0] == 1 and ops.relu(x)[0] == 1
    for whole in (
        *(ops.reshape(x, (2, 2)), ops.slice(x, (0,), (4,)), ops.index(x, slice(None)), ops.index(x, ...)),
        *(ops.squeeze(x), ops.split(x, 1)[0], ops.transpose(x), ops.broadcast_to(x, (4,)), ops.clip(x, 0)),
        *(ops.concat([x]), ops.dropout(x, 0.0), ops.expand_dims(x, 0), ops.stack([x])),
    ):
        assert not np.shares_memory(whole, x)
    assert ops.index(np.arange(3), slice(None)).dtype == np.float32  # as of any part
    assert ops.index(np.float64(3.0), ...) == 3


def test_numpys_scalars_are_numbers(tw):
    """Wherever a number is asked for: one helper looks at all of them."""
    x = np.ones((4, 4), np.float32)
    np.testing.assert_array_equal(tw.ops.dropout(x, np.float32(0.5)), tw.ops.dropout(x, 0.5))
    np.testing.assert_array_equal(tw.ops.leaky_relu(-x, np.float64(0.5)), -0.5 * x)
    tw.ops.layer_norm(x, eps=np.float32(1e-3))
    assert tw.nn.Dropout(np.float32(0.5)).p == 0.5 and tw.losses.CrossEntropy(np.float32(0.5)).label_smoothing == 0.5
    assert tw.world(np.int64(2)).size == 2
    for wrong in ("a", None, True, np.bool_(True), 1j, x):
        with pytest.raises(TypeError, match=r"\[dropout\] p is"):
            tw.ops.dropout(x, wrong)
    with pytest.raises(TypeError, match=r"number of ranks is 2\.0"):
        tw.world(2.0)


def test_names_of_precisions(tw):
    for right in ("float64", np.float64, np.dtype("float64"), float):
        assert tw.arrays.check_dtype(right, "Trainer") == "float64"
    for wrong, error in ((None, TypeError), (3.5, TypeError), ("half", ValueError), (np.int32, ValueError)):
        with pytest.raises(error, match=r"\[Trainer\] dtype is .*expected 'float32' or 'float64'"):
            tw.arrays.check_dtype(wrong, "Trainer")


def test_torchs_precisions_are_refused_by_name(tw, torch):
    with pytest.raises(TypeError, match=r"dtype is torch\.float64"):
        tw.arrays.check_dtype(torch.float64, "Trainer")


def test_one_hot_integers_are_probabilities(ops):
    logits, y = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32), np.array([0, 3, 1, 2, 2, 0])
    one_hot = np.eye(4, dtype=int)[y]
    soft = ops.cross_entropy(logits, one_hot, label_smoothing=0.1)
    assert soft.dtype == np.float32
    np.testing.assert_allclose(soft, ops.cross_entropy(logits, y, label_smoothing=0.1), rtol=1e-6)
    np.testing.assert_array_equal(ops.correct(logits, one_hot), ops.correct(logits, y))
