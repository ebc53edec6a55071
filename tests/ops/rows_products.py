"""Rows of the table: matrix products, convolutions, pooling."""

import numpy as np

from . import domains as d
from . import reference as r
from .row import Arg, Bad, Row

N = np.ones


def reals(*shapes):
    return tuple(Arg(shape, d.normal) for shape in shapes)


def images(t):
    """(N, H, W, C) <-> (N, C, H, W) for torch."""
    return lambda x: x.permute(0, 3, 1, 2), lambda y: y.permute(0, 2, 3, 1)


MATMUL = Row(
    "matmul",
    lambda ops, a, b: ops.matmul(a, b),
    np.matmul,
    lambda t, a, b: t.matmul(a, b),
    (
        reals((3, 4), (4, 5)),
        reals((1, 1), (1, 1)),
        reals((37, 19), (19, 45)),
        reals((16, 32), (32, 64)),
        reals((5, 300), (300, 17)),
        reals((2, 3, 4), (2, 4, 5)),
        reals((2, 3, 4), (4, 5)),
        reals((2, 2, 3, 4), (2, 2, 4, 1)),
        reals((1, 7), (7, 1)),
        reals((0, 4), (4, 5)),
        reals((3, 4), (4, 0)),
        reals((3, 0), (0, 5)),
    ),
    bad=(
        Bad(lambda ops: ops.matmul(N((2, 3)), N((4, 5))), ("(2, 3)", "(4, 5)")),
        Bad(lambda ops: ops.matmul(N((2, 2, 3)), N((3, 3, 5)))),
        Bad(lambda ops: ops.matmul(N(()), N((3, 3)))),
    ),
)

LINEAR = [
    Row(
        "linear",
        lambda ops, x, w, b: ops.linear(x, w, b),
        r.ref_linear,
        lambda t, x, w, b: t.nn.functional.linear(x, w, b),
        (
            reals((4, 3), (5, 3), (5,)),
            reals((1, 1), (1, 1), (1,)),
            reals((2, 3, 7), (10, 7), (10,)),
            reals((33, 65), (31, 65), (31,)),
            reals((0, 3), (5, 3), (5,)),
        ),
        bad=(
            Bad(lambda ops: ops.linear(N((2, 3)), N((5, 4))), ("3", "4")),
            Bad(lambda ops: ops.linear(N((2, 3)), N((5, 3)), N(4)), ("bias", "4", "5")),
            Bad(lambda ops: ops.linear(N((2, 3)), N((5, 3, 1)))),
        ),
    ),
    Row(
        "linear/no_bias",
        lambda ops, x, w: ops.linear(x, w),
        r.ref_linear,
        lambda t, x, w: t.nn.functional.linear(x, w),
        (reals((4, 3), (5, 3)), reals((130, 17), (10, 17))),
    ),
]


def conv(variant, samples, stride=1, padding=0, dilation=1, groups=1, bias=True, algorithm="auto"):
    def pair(v):
        return (v, v) if isinstance(v, int) else tuple(v)

    sides = (padding,) * 4 if isinstance(padding, int) else tuple(padding)
    if len(sides) == 2:
        sides = (sides[0], sides[0], sides[1], sides[1])

    def call(ops, x, w, b=None):
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return ops.conv2d(x, w, b, **options, algorithm=algorithm)

    def ref(x, w, b=0.0):
        return r.ref_conv2d(x, w, b, pair(stride), sides, pair(dilation), groups)

    def torch(t, x, w, b=None):
        to, back = images(t)
        x = t.nn.functional.pad(to(x), (sides[2], sides[3], sides[0], sides[1]))
        return back(t.nn.functional.conv2d(x, to(w), b, pair(stride), 0, pair(dilation), groups))

    args = tuple(reals(x, w, (w[0],)) if bias else reals(x, w) for x, w in samples)
    return Row(f"conv2d{'/' if variant else ''}{variant}", call, ref, torch, args, bad=() if variant else CONV_BAD)


X8, W3 = N((2, 8, 8, 4)), N((6, 3, 3, 4))
CONV_BAD = (
    Bad(lambda ops: ops.conv2d(X8, N((6, 3, 3, 5))), ("5", "4", "(2, 8, 8, 4)")),
    Bad(lambda ops: ops.conv2d(N((8, 8, 4)), W3), ("(8, 8, 4)",)),
    Bad(lambda ops: ops.conv2d(X8, W3, N(5)), ("bias", "5", "6")),
    Bad(lambda ops: ops.conv2d(X8, W3, stride=0), ("stride", "0")),
    Bad(lambda ops: ops.conv2d(X8, W3, padding=-1), ("padding", "-1")),
    Bad(lambda ops: ops.conv2d(X8, W3, dilation=0), ("dilation", "0")),
    Bad(lambda ops: ops.conv2d(X8, W3, groups=3), ("groups", "3")),
    Bad(lambda ops: ops.conv2d(X8, N((6, 9, 9, 4))), ("9", "8")),
    Bad(lambda ops: ops.conv2d(X8, N((3, 3, 4)))),
    Bad(lambda ops: ops.conv2d(X8, W3, padding="valid-ish"), ("valid-ish", "same")),
    Bad(lambda ops: ops.conv2d(X8, W3, padding=(1, 2, 3)), ("padding",)),
    Bad(lambda ops: ops.conv2d(X8, W3, algorithm="fft"), ("fft", "auto", "direct")),
)

CONV = [
    conv("", [((2, 5, 6, 3), (4, 3, 3, 3)), ((1, 3, 3, 1), (1, 3, 3, 1)), ((0, 5, 5, 2), (3, 3, 3, 2))]),
    conv(
        "pad", [((2, 7, 5, 3), (17, 3, 3, 3)), ((3, 1, 1, 2), (2, 3, 3, 2)), ((1, 9, 9, 16), (32, 3, 3, 16))], padding=1
    ),
    conv("squares", [((2, 9, 8, 16), (17, 3, 3, 16)), ((3, 6, 5, 33), (16, 3, 3, 33))], padding=(0, 1)),
    conv("squares_groups", [((2, 6, 7, 32), (34, 3, 3, 16))], padding=1, groups=2),
    conv("direct", [((2, 6, 6, 16), (17, 3, 3, 16))], padding=1, algorithm="direct"),
    conv("1x1", [((2, 5, 5, 7), (9, 1, 1, 7))]),
    conv("1x1_stride2", [((2, 5, 6, 4), (8, 1, 1, 4))], stride=2, bias=False),
    conv("5x5", [((2, 9, 8, 3), (6, 5, 5, 3))], padding=2),
    conv("1x3", [((2, 4, 7, 2), (5, 1, 3, 2))], padding=(0, 1)),
    conv("4x2_even", [((2, 6, 5, 2), (3, 4, 2, 2))], padding=(1, 2, 0, 1)),
    conv("stride2", [((2, 7, 8, 3), (5, 3, 3, 3)), ((2, 8, 8, 16), (32, 3, 3, 16))], stride=2, padding=1),
    conv("stride3x2", [((1, 11, 9, 2), (3, 3, 3, 2))], stride=(3, 2), padding=(1, 0)),
    conv("stride_over_kernel", [((2, 9, 9, 2), (3, 2, 2, 2))], stride=4),
    conv("dilation2", [((2, 8, 9, 3), (4, 3, 3, 3))], dilation=2, padding=2),
    conv("dilation3x1_stride2", [((1, 10, 7, 2), (3, 3, 2, 2))], dilation=(3, 1), stride=2),
    conv("groups2", [((2, 5, 5, 4), (6, 3, 3, 2))], groups=2, padding=1),
    conv("groups3_stride2", [((1, 6, 7, 9), (3, 3, 3, 3))], groups=3, stride=2, padding=1),
    conv("depthwise", [((2, 6, 5, 5), (5, 3, 3, 1))], groups=5, padding=1),
    conv("depthwise_multiplier", [((1, 5, 5, 3), (6, 3, 3, 1))], groups=3, bias=False),
    conv("many_channels", [((1, 4, 4, 70), (35, 3, 3, 70))], padding=1),
]


def pool(kind, variant, samples, kernel, stride=None, padding=0, **attrs):
    def pair(v):
        return (v, v) if isinstance(v, int) else tuple(v)

    step = pair(kernel if stride is None else stride)
    sides = (padding,) * 4 if isinstance(padding, int) else tuple(padding)
    ref_of = {"max_pool2d": r.ref_max_pool2d, "avg_pool2d": r.ref_avg_pool2d}[kind]

    def call(ops, x):
        return getattr(ops, kind)(x, kernel, stride=stride, padding=padding, **attrs)

    def torch(t, x):
        to, back = images(t)
        return back(getattr(t.nn.functional, kind)(to(x), pair(kernel), step, padding, **attrs))

    draw = d.distinct if kind == "max_pool2d" else d.normal
    return Row(
        f"{kind}{'/' if variant else ''}{variant}",
        call,
        lambda x: ref_of(x, pair(kernel), step, sides, **attrs),
        torch if isinstance(padding, int) else None,
        tuple((Arg(s, draw),) for s in samples),
        curved=False,
        bad=() if variant else pool_bad(kind),
    )


def pool_bad(kind):
    x = N((2, 8, 8, 4))
    return (
        Bad(lambda ops: getattr(ops, kind)(x, 9), ("9", "8")),
        Bad(lambda ops: getattr(ops, kind)(x, 0), ("0",)),
        Bad(lambda ops: getattr(ops, kind)(x, 2, stride=0), ("stride", "0")),
        Bad(lambda ops: getattr(ops, kind)(x, 2, padding=-1), ("padding", "-1")),
        Bad(lambda ops: getattr(ops, kind)(x, 2, padding=2), ("padding", "2")),
        Bad(lambda ops: getattr(ops, kind)(N((8, 4)), 2), ("(8, 4)",)),
    )


POOL = [
    pool("max_pool2d", "", [(2, 6, 8, 3), (1, 2, 2, 17), (2, 7, 5, 2), (0, 4, 4, 3)], 2),
    pool("max_pool2d", "3x3_stride2_pad", [(2, 7, 8, 3)], 3, stride=2, padding=1),
    pool("max_pool2d", "overlapping", [(1, 6, 6, 2)], 3, stride=1),
    pool("max_pool2d", "2x3_sides", [(2, 5, 7, 3)], (2, 3), stride=(2, 1), padding=(1, 0, 0, 1)),
    pool("avg_pool2d", "", [(2, 6, 8, 3), (1, 2, 2, 17), (2, 7, 5, 2), (0, 4, 4, 3)], 2),
    pool("avg_pool2d", "3x3_stride2_pad", [(2, 7, 8, 3)], 3, stride=2, padding=1),
    pool("avg_pool2d", "exclude_pad", [(2, 7, 8, 3)], 3, stride=2, padding=1, count_include_pad=False),
    pool("avg_pool2d", "overlapping", [(1, 6, 6, 2)], (3, 2), stride=1),
    pool("avg_pool2d", "2x3_sides", [(2, 5, 7, 3)], (2, 3), stride=(2, 1), padding=(1, 0, 0, 1)),
    Row(
        "global_avg_pool2d",
        lambda ops, x: ops.global_avg_pool2d(x),
        lambda x: x.mean((1, 2)),
        lambda t, x: x.mean((1, 2)),
        (reals((2, 3, 5, 4)), reals((1, 1, 1, 1))),
        curved=False,
        bad=(Bad(lambda ops: ops.global_avg_pool2d(N((2, 3))), ("(2, 3)",)),),
    ),
    Row(
        "global_max_pool2d",
        lambda ops, x: ops.global_max_pool2d(x),
        lambda x: x.max((1, 2)),
        lambda t, x: x.amax((1, 2)),
        ((Arg((2, 3, 5, 4), d.distinct),),),
        curved=False,
        bad=(Bad(lambda ops: ops.global_max_pool2d(N((2, 3))), ("(2, 3)",)),),
    ),
]

ROWS = [MATMUL, *LINEAR, *CONV, *POOL]
