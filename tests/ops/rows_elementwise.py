"""Rows of the table: element by element operators, with broadcasting."""

import numpy as np

from . import domains as d
from . import reference as r
from .row import Arg, Bad, Row

SHAPES = ((3, 7), (1,), (), (0, 4), (1037,))
PAIRS = (
    ((3, 4), (3, 4)),
    ((3, 4), (4,)),
    ((3, 1), (1, 4)),
    ((2, 3, 4), (3, 1)),
    ((2, 1, 5, 1), (3, 1, 4)),
    ((), (5,)),
    ((33, 17), (33, 1)),
    ((1,), (1,)),
    ((0, 3), (3,)),
    ((0, 3), (0, 3)),
)
X = np.ones((2, 3), np.float32)
WRONG_KINDS = (np.array(["a"]), np.array([None]), np.array([1 + 2j]))


def refused(call):
    """Strings, objects and complex numbers: a TypeError that names the dtype."""
    return tuple(Bad(lambda ops, x=x: call(ops, x), (str(x.dtype),), TypeError) for x in WRONG_KINDS)


def unary(name, ref, torch, draw=d.normal, curved=True, bad=(), **attrs):
    word = name.split("/")[0]

    def call(ops, x):
        return getattr(ops, word)(x, **attrs)

    samples = tuple((Arg(shape, draw),) for shape in SHAPES)
    return Row(name, call, ref, torch, samples, curved=curved, bad=(*refused(call), *bad))


def binary(name, ref, torch, draw_a=d.normal, draw_b=d.normal, smooth=True, curved=True):
    def call(ops, a, b):
        return getattr(ops, name)(a, b)

    samples = tuple((Arg(a, draw_a), Arg(b, draw_b)) for a, b in PAIRS)
    bad = (
        Bad(lambda ops: call(ops, X, np.ones((2, 4), np.float32)), ("(2, 3)", "(2, 4)")),
        Bad(lambda ops: call(ops, np.ones((2, 3, 1)), np.ones((3, 3, 1))), ("(2, 3, 1)", "(3, 3, 1)")),
        *refused(lambda ops, x: call(ops, X, x)),
    )
    return Row(name, call, ref, torch, samples, smooth=smooth, curved=curved, bad=bad)


def compare(name, ref):
    return binary(
        name,
        lambda a, b: ref(a, b).astype(np.float64),
        lambda t, a, b: getattr(t, {"equal": "eq"}.get(name, name))(a, b).to(a.dtype),
        d.few_values,
        d.few_values,
        smooth=False,
    )


UNARY = [
    unary("neg", np.negative, lambda t, x: -x, curved=False),
    unary("exp", np.exp, lambda t, x: t.exp(x)),
    unary("expm1", np.expm1, lambda t, x: t.expm1(x), d.small),
    unary("log", np.log, lambda t, x: t.log(x), d.positive),
    unary("log1p", np.log1p, lambda t, x: t.log1p(x), d.above_minus_one),
    unary("sqrt", np.sqrt, lambda t, x: t.sqrt(x), d.positive),
    unary("square", np.square, lambda t, x: t.square(x)),
    unary("abs", np.abs, lambda t, x: t.abs(x), d.nonzero, curved=False),
    unary("sin", np.sin, lambda t, x: t.sin(x)),
    unary("cos", np.cos, lambda t, x: t.cos(x)),
    unary("erf", r.ref_erf, lambda t, x: t.erf(x)),
    unary("relu", lambda x: np.maximum(x, 0), lambda t, x: t.relu(x), d.nonzero, curved=False),
    unary(
        "leaky_relu",
        lambda x: r.ref_leaky_relu(x, 0.01),
        lambda t, x: t.nn.functional.leaky_relu(x),
        d.nonzero,
        curved=False,
        bad=(
            Bad(lambda ops: ops.leaky_relu(X, "a"), ("negative_slope", "'a'"), TypeError),
            Bad(lambda ops: ops.leaky_relu(X, float("nan")), ("negative_slope", "nan")),
        ),
    ),
    unary(
        "leaky_relu/slope",
        lambda x: r.ref_leaky_relu(x, 0.25),
        lambda t, x: t.nn.functional.leaky_relu(x, 0.25),
        d.nonzero,
        curved=False,
        negative_slope=0.25,
    ),
    unary("tanh", np.tanh, lambda t, x: t.tanh(x)),
    unary("sigmoid", r.ref_sigmoid, lambda t, x: t.sigmoid(x)),
    unary("softplus", r.ref_softplus, lambda t, x: t.nn.functional.softplus(x, threshold=1000)),
    unary(
        "gelu",
        r.ref_gelu,
        lambda t, x: t.nn.functional.gelu(x),
        bad=(Bad(lambda ops: ops.gelu(X, approximate="fast"), ("fast", "none", "tanh")),),
    ),
    unary(
        "gelu/tanh",
        r.ref_gelu_tanh,
        lambda t, x: t.nn.functional.gelu(x, approximate="tanh"),
        approximate="tanh",
    ),
]

BINARY = [
    binary("add", np.add, lambda t, a, b: a + b, curved=False),
    binary("sub", np.subtract, lambda t, a, b: a - b, curved=False),
    binary("mul", np.multiply, lambda t, a, b: a * b),
    binary("div", np.divide, lambda t, a, b: a / b, draw_b=d.positive),
    binary("pow", np.power, lambda t, a, b: a**b, d.positive, d.normal),
    binary("maximum", np.maximum, lambda t, a, b: t.maximum(a, b), d.distinct, d.odd_sixtyfourths, curved=False),
    binary("minimum", np.minimum, lambda t, a, b: t.minimum(a, b), d.distinct, d.odd_sixtyfourths, curved=False),
    compare("greater", np.greater),
    compare("greater_equal", np.greater_equal),
    compare("less", np.less),
    compare("less_equal", np.less_equal),
    compare("equal", np.equal),
    compare("not_equal", np.not_equal),
]

WHERE = Row(
    "where",
    lambda ops, c, a, b: ops.where(c, a, b),
    lambda c, a, b: np.where(c != 0, a, b),
    lambda t, c, a, b: t.where(c != 0, a, b),
    (
        (Arg((3, 4), d.bits, fixed=True), Arg((3, 4), d.normal), Arg((3, 4), d.normal)),
        (Arg((3, 4), d.bits, fixed=True), Arg((4,), d.normal), Arg((3, 1), d.normal)),
        (Arg((4,), d.bits, fixed=True), Arg((2, 3, 4), d.normal), Arg((), d.normal)),
        (Arg((0, 4), d.bits, fixed=True), Arg((0, 4), d.normal), Arg((4,), d.normal)),
    ),
    curved=False,
    bad=(
        Bad(lambda ops: ops.where(np.ones((2, 3)), np.ones((2, 4)), np.ones((2, 4))), ("(2, 3)", "(2, 4)")),
        *refused(lambda ops, x: ops.where(X, X, x)),
    ),
)

CLIP = [
    Row(
        "clip",
        lambda ops, x: ops.clip(x, -0.5, 0.75),
        lambda x: np.clip(x, -0.5, 0.75),
        lambda t, x: t.clamp(x, -0.5, 0.75),
        tuple((Arg(s, d.odd_sixtyfourths),) for s in ((3, 37), (1,), (0, 4))),
        curved=False,
        bad=(Bad(lambda ops: ops.clip(X), ("min", "max")), *refused(lambda ops, x: ops.clip(x, 0.0))),
        messages=("less", "where"),
    ),
    Row(
        "clip/arrays",
        lambda ops, x, low: ops.clip(x, min=low),
        np.maximum,
        lambda t, x, low: t.clamp(x, min=low),
        ((Arg((3, 4), d.distinct), Arg((4,), d.odd_sixtyfourths)),),
        curved=False,
    ),
]

ROWS = [*UNARY, *BINARY, WHERE, *CLIP]
