"""Bad inputs of every operator: refused by a ValueError or TypeError that names operator, value and allowed range, when
called on arrays and when recorded; nothing is lost and the next good call works."""

import numpy as np
import pytest

from .row import cast
from .table import TABLE

BAD = [(row, i) for row in TABLE for i in range(len(row.bad))]
IDS = [f"{row.name}-{i}" for row, i in BAD]


def check_message(message, row, bad):
    names = (row.operator, *row.messages)
    assert any(f"[{n}]" in message or f"[{n} " in message for n in names), f"{message!r} does not name [{row.operator}]"
    for part in bad.parts:
        assert part in message, f"{message!r} does not say {part!r}"


@pytest.mark.parametrize("row, i", BAD, ids=IDS)
def test_refused_with_a_message(row, i, ops):
    bad = row.bad[i]
    with pytest.raises(bad.error) as caught:
        bad.call(ops)
    check_message(str(caught.value), row, bad)
    row.call(ops, *cast(row.arrays(0), np.float32))


@pytest.mark.parametrize("row, i", BAD, ids=IDS)
def test_refused_while_recording(row, i, tw):
    """Inside a function under differentiation the same error comes out, from the line that made it."""
    bad = row.bad[i]

    def f(x):
        y = bad.call(tw.ops)
        return tw.ops.sum(tw.ops.mul(tw.ops.sum(y), x))

    with pytest.raises(bad.error) as caught:
        tw.grad(f)(np.ones(2, np.float32))
    check_message(str(caught.value), row, bad)
    np.testing.assert_array_equal(tw.grad(lambda x: tw.ops.sum(tw.ops.square(x)))(np.ones(2)), [2.0, 2.0])


@pytest.mark.parametrize(
    "call",
    [
        lambda ops: ops.add(np.ones(2), "1"),
        lambda ops: ops.relu(None),
        lambda ops: ops.conv2d(np.ones((1, 3, 3, 1)), np.ones((1, 2, 2, 1)), stride="2"),
        lambda ops: ops.softmax(np.ones((2, 2)), axis=0.5),
        lambda ops: ops.sum(np.ones((2, 2)), axis="0"),
        lambda ops: ops.reshape(np.ones(4), (2.0, 2.0)),
        lambda ops: ops.max_pool2d(np.ones((1, 4, 4, 1)), 2.5),
        lambda ops: ops.transpose(np.ones((2, 2)), ("a", "b")),
        lambda ops: ops.gelu(np.ones(2), approximate=3),
        lambda ops: ops.concat(3),
    ],
)
def test_arguments_of_a_wrong_kind(call, ops):
    with pytest.raises((TypeError, ValueError)) as caught:
        call(ops)
    assert str(caught.value).startswith("[")


def test_unknown_keyword_names_it(ops):
    with pytest.raises(TypeError, match="dilatation"):
        ops.conv2d(np.ones((1, 3, 3, 1)), np.ones((1, 2, 2, 1)), dilatation=2)


def test_shape_products_beyond_64_bits(ops):
    for shape in ((2**33, 2**33), (2**62, 4), (2**63, 1)):
        with pytest.raises((ValueError, OverflowError, MemoryError)):
            ops.broadcast_to(np.ones(1, np.float32), shape)
