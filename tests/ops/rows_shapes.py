"""Rows of the table: reductions and changes of shape."""

import numpy as np

from . import domains as d
from .row import Arg, Bad, Row

N = np.ones


def reduction(name, axis, keepdims, shapes):
    ref = getattr(np, name)
    torch_name = {"max": "amax", "min": "amin"}.get(name, name)

    def call(ops, x):
        return getattr(ops, name)(x, axis=axis, keepdims=keepdims)

    def torch(t, x):
        dims = tuple(range(x.ndim)) if axis is None else axis
        return getattr(t, torch_name)(x, dim=dims, keepdim=keepdims) if x.ndim else x

    extreme = name in ("max", "min")
    plain = axis is None and not keepdims
    bad = [
        Bad(lambda ops: getattr(ops, name)(N((2, 3)), axis=2), ("axis", "2")),
        Bad(lambda ops: getattr(ops, name)(N((2, 3)), axis=(0, 0)), ("axis", "0")),
    ]
    if name != "sum":
        bad.append(Bad(lambda ops: getattr(ops, name)(N((0, 3)), axis=0), ("(0, 3)",)))
    return Row(
        name if plain else f"{name}/axis={axis}{',keepdims' if keepdims else ''}".replace(" ", ""),
        call,
        lambda x: ref(x, axis=axis, keepdims=keepdims),
        torch,
        tuple((Arg(s, d.distinct if extreme else d.normal),) for s in shapes),
        curved=False,
        bad=tuple(bad) if plain else (),
    )


REDUCTIONS = [
    reduction(name, axis, keepdims, shapes)
    for name in ("sum", "mean", "max", "min")
    for axis, keepdims, shapes in (
        (None, False, ((3, 4), (1,), (2, 1030), (5, 3, 2))),
        (0, False, ((7, 5), (300, 3), (1, 4))),
        (-1, True, ((3, 37), (2, 3, 1))),
        ((0, 2), False, ((3, 4, 5),)),
        (1, False, ((2, 65, 3),)),
    )
]


def statistic(name, ref, torch, axis, keepdims, *shapes, bad=(), draw=d.normal, **options):
    """A reduction made of others, with second derivatives."""
    word = name.split("/")[0]

    def axes(x):
        return tuple(range(x.ndim)) if axis is None else axis

    return Row(
        name,
        lambda ops, x: getattr(ops, word)(x, axis, keepdims, **options),
        lambda x: ref(x, axes(x), keepdims),
        lambda t, x: torch(t, x, axes(x), keepdims),
        tuple((Arg(s, draw),) for s in shapes),
        loose=4,
        bad=bad,
    )


def no_axis(name):
    return Bad(lambda ops: getattr(ops, name)(N((2, 3)), axis=2), ("axis", "2"))


def of_nothing(name):
    return Bad(lambda ops: getattr(ops, name)(N((0, 3)), 0), ("(0, 3)",))


def ref_logsumexp(x, axes, keepdims):
    m = x.max(axes, keepdims=True)
    y = m + np.log(np.exp(x - m).sum(axes, keepdims=True))
    return y if keepdims else y.squeeze(axes)


def spread(name, ddof):
    return (
        lambda x, a, k: getattr(np, name)(x, axis=a, keepdims=k, ddof=ddof),
        lambda t, x, a, k: getattr(t, name)(x, dim=a, keepdim=k, correction=ddof),
    )


def length(x, axes, keepdims):
    return np.sqrt((x * x).sum(axes, keepdims=keepdims))


DDOF = (
    of_nothing("var"),
    Bad(lambda ops: ops.var(N((2, 3)), 0, ddof=2), ("ddof", "2")),
    Bad(lambda ops: ops.var(N((2, 3)), 0, ddof=-1), ("ddof", "-1")),
)
STATISTICS = [
    statistic("var", *spread("var", 0), None, False, (3, 4), (2, 33), (5,), bad=(no_axis("var"), *DDOF)),
    statistic("var/unbiased", *spread("var", 1), (0, 2), True, (3, 2, 5), ddof=1),
    statistic("std", *spread("std", 0), -1, False, (3, 4), (2, 3, 33), bad=(no_axis("std"), of_nothing("std"))),
    statistic("std/unbiased", *spread("std", 1), None, False, (4, 5), ddof=1),
    statistic(
        *("norm", length, lambda t, x, a, k: t.linalg.vector_norm(x, dim=a, keepdim=k), None, False, (3, 4), (37,)),
        bad=(no_axis("norm"),),
    ),
    statistic(
        *("norm/axis", length, lambda t, x, a, k: t.linalg.vector_norm(x, dim=a, keepdim=k), 1, True, (3, 4, 2)),
    ),
    statistic(
        *("logsumexp", ref_logsumexp, lambda t, x, a, k: t.logsumexp(x, a, k), None, False, (3, 4), (7,)),
        bad=(no_axis("logsumexp"), of_nothing("logsumexp")),
        draw=d.distinct,
    ),
    statistic(
        *("logsumexp/axis", ref_logsumexp, lambda t, x, a, k: t.logsumexp(x, a, k), -1, True, (2, 3, 37), (5, 1)),
        draw=d.distinct,
    ),
]


def shaping(name, call, ref, torch, *shapes, bad=(), messages=()):
    return Row(
        name,
        call,
        ref,
        torch,
        (tuple(Arg(s, d.normal) for s in shapes),),
        curved=False,
        bad=bad,
        messages=messages,
    )


SHAPING = [
    shaping(
        "reshape",
        lambda ops, x: ops.reshape(x, (4, 6)),
        lambda x: x.reshape(4, 6),
        lambda t, x: x.reshape(4, 6),
        (2, 3, 4),
        bad=(
            Bad(lambda ops: ops.reshape(N((2, 3)), (4, 2)), ("(2, 3)", "(4, 2)")),
            Bad(lambda ops: ops.reshape(N((2, 3)), (-1, -1)), ("-1",)),
            Bad(lambda ops: ops.reshape(N((2, 3)), (-1, 4)), ("(2, 3)",)),
            Bad(lambda ops: ops.reshape(N((2, 3)), (-2, 3)), ("-2",)),
            Bad(lambda ops: ops.reshape(N((2, 3)), (2**40, 2**40))),
        ),
    ),
    shaping(
        "reshape/minus_one",
        lambda ops, x: ops.reshape(x, (-1, 3)),
        lambda x: x.reshape(-1, 3),
        lambda t, x: x.reshape(-1, 3),
        (2, 3, 4),
    ),
    shaping("reshape/scalar", lambda ops, x: ops.reshape(x, ()), lambda x: x.reshape(()), None, (1, 1)),
    shaping(
        "transpose",
        lambda ops, x: ops.transpose(x),
        lambda x: x.T,
        lambda t, x: x.permute(2, 1, 0),
        (2, 3, 5),
        bad=(
            Bad(lambda ops: ops.transpose(N((2, 3)), (0, 2)), ("2",)),
            Bad(lambda ops: ops.transpose(N((2, 3)), (0, 0)), ("0",)),
            Bad(lambda ops: ops.transpose(N((2, 3)), (0,))),
        ),
    ),
    shaping(
        "transpose/axes",
        lambda ops, x: ops.transpose(x, (0, 3, 1, 2)),
        lambda x: x.transpose(0, 3, 1, 2),
        lambda t, x: x.permute(0, 3, 1, 2),
        (2, 3, 5, 4),
    ),
    shaping(
        "concat",
        lambda ops, a, b, c: ops.concat([a, b, c]),
        lambda a, b, c: np.concatenate([a, b, c]),
        lambda t, a, b, c: t.cat([a, b, c]),
        (2, 3),
        (0, 3),
        (4, 3),
        bad=(
            Bad(lambda ops: ops.concat([N((2, 3)), N((2, 4))], axis=0), ("(2, 3)", "(2, 4)")),
            Bad(lambda ops: ops.concat([N((2, 3)), N((2, 3))], axis=2), ("axis", "2")),
            Bad(lambda ops: ops.concat([N((2, 3)), N((2, 3, 1))], axis=0)),
            Bad(lambda ops: ops.concat([], axis=0), error=(TypeError, ValueError)),
        ),
    ),
    shaping(
        "concat/last_axis",
        lambda ops, a, b: ops.concat([a, b], axis=-1),
        lambda a, b: np.concatenate([a, b], -1),
        lambda t, a, b: t.cat([a, b], -1),
        (2, 3, 4),
        (2, 3, 1),
    ),
    shaping(
        "stack",
        lambda ops, a, b: ops.stack([a, b]),
        lambda a, b: np.stack([a, b]),
        lambda t, a, b: t.stack([a, b]),
        (2, 3),
        (2, 3),
        bad=(
            Bad(lambda ops: ops.stack([N((2, 3)), N((2, 4))]), ("(2, 3)", "(2, 4)")),
            Bad(lambda ops: ops.stack([N((2, 3)), N((2, 3))], axis=3), ("axis", "3")),
            Bad(lambda ops: ops.stack([]), error=TypeError),
        ),
    ),
    shaping(
        "stack/last_axis",
        lambda ops, a, b, c: ops.stack([a, b, c], axis=-1),
        lambda a, b, c: np.stack([a, b, c], -1),
        lambda t, a, b, c: t.stack([a, b, c], -1),
        (2, 3),
        (2, 3),
        (2, 3),
    ),
    shaping(
        "expand_dims",
        lambda ops, x: ops.expand_dims(x, 1),
        lambda x: np.expand_dims(x, 1),
        lambda t, x: x.unsqueeze(1),
        (2, 3),
        bad=(
            Bad(lambda ops: ops.expand_dims(N((2, 3)), 3), ("axis", "3")),
            Bad(lambda ops: ops.expand_dims(N((2, 3)), (0, 0)), ("twice",)),
        ),
    ),
    shaping(
        "expand_dims/several",
        lambda ops, x: ops.expand_dims(x, (0, -1)),
        lambda x: np.expand_dims(x, (0, -1)),
        lambda t, x: x[None, ..., None],
        (2, 3),
    ),
    shaping(
        "squeeze",
        lambda ops, x: ops.squeeze(x),
        np.squeeze,
        lambda t, x: x.squeeze(),
        (1, 3, 1, 2),
        bad=(
            Bad(lambda ops: ops.squeeze(N((2, 1)), 0), ("axis 0", "2")),
            Bad(lambda ops: ops.squeeze(N((2, 1)), 2), ("axis", "2")),
        ),
    ),
    shaping(
        "squeeze/axis",
        lambda ops, x: ops.squeeze(x, -2),
        lambda x: np.squeeze(x, -2),
        lambda t, x: x.squeeze(-2),
        (1, 3, 1, 2),
    ),
    shaping(
        "split",
        lambda ops, x: ops.mul(ops.split(x, [2, 1, 2], axis=1)[0], ops.split(x, [2, 1, 2], axis=1)[2]),
        lambda x: x[:, :2] * x[:, 3:],
        lambda t, x: t.split(x, [2, 1, 2], 1)[0] * t.split(x, [2, 1, 2], 1)[2],
        (3, 5),
        bad=(
            Bad(lambda ops: ops.split(N((3, 5)), [2, 2], axis=1), ("5",)),
            Bad(lambda ops: ops.split(N((3, 5)), 2, axis=1), ("5", "2")),
            Bad(lambda ops: ops.split(N((3, 5)), [6, -1], axis=1), ("-1",)),
            Bad(lambda ops: ops.split(N((3, 5)), 1, axis=2), ("axis", "2")),
        ),
    ),
    shaping(
        "split/sections",
        lambda ops, x: ops.split(x, 3)[1],
        lambda x: np.split(x, 3)[1],
        lambda t, x: t.chunk(x, 3)[1],
        (6, 2),
    ),
    shaping(
        "slice",
        lambda ops, x: ops.slice(x, (1, 0), (4, 3)),
        lambda x: x[1:4, 0:3],
        lambda t, x: x[1:4, 0:3],
        (5, 6),
        bad=(
            Bad(lambda ops: ops.slice(N((5, 6)), (0,), (4, 3))),
            Bad(lambda ops: ops.slice(N((5, 6)), (0, 0), (4, 3), (0, 1)), ("step", "0")),
        ),
    ),
    shaping(
        "slice/step",
        lambda ops, x: ops.slice(x, (0, 1), (5, 6), (2, 3)),
        lambda x: x[0:5:2, 1:6:3],
        lambda t, x: x[0:5:2, 1:6:3],
        (5, 6),
    ),
    shaping(
        "slice/negative",
        lambda ops, x: ops.slice(x, (-3, 0), (-1, 6)),
        lambda x: x[-3:-1],
        lambda t, x: x[-3:-1],
        (5, 6),
    ),
    shaping(
        "index",
        lambda ops, x: ops.index(x, (slice(1, 4), -2)),
        lambda x: x[1:4, -2],
        lambda t, x: x[1:4, -2],
        (5, 6, 2),
        bad=(
            Bad(lambda ops: ops.index(N((5, 6)), (0, 6)), ("6",)),
            Bad(lambda ops: ops.index(N((5, 6)), (0, 0, 0)), ("3", "2")),
            Bad(lambda ops: ops.index(N((5, 6)), (slice(None, None, -1),)), ("step", "-1")),
            Bad(lambda ops: ops.index(N((5, 6)), 0.5), ("0.5",), TypeError),
        ),
        messages=("slice",),
    ),
    shaping(
        "index/dots_and_none",
        lambda ops, x: ops.index(x, (..., None, slice(None, None, 2))),
        lambda x: x[..., None, ::2],
        lambda t, x: x[..., None, ::2],
        (3, 2, 5),
    ),
    shaping(
        "flatten",
        lambda ops, x: ops.flatten(x),
        lambda x: x.reshape(len(x), -1),
        lambda t, x: x.flatten(1),
        (3, 2, 4),
        messages=("reshape",),
    ),
    shaping(
        "broadcast_to",
        lambda ops, x: ops.broadcast_to(x, (4, 2, 3)),
        lambda x: np.broadcast_to(x, (4, 2, 3)),
        lambda t, x: x.expand(4, 2, 3),
        (2, 1),
        bad=(Bad(lambda ops: ops.broadcast_to(N((2, 3)), (2, 4)), ("(2, 3)", "(2, 4)")),),
    ),
]

ROWS = [*REDUCTIONS, *STATISTICS, *SHAPING]
