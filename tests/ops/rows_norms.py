"""Rows of the table: normalisation, softmax, losses."""

import numpy as np

from . import domains as d
from . import reference as r
from .row import Arg, Bad, Row

N = np.ones


def reals(*shapes):
    return tuple(Arg(shape, d.normal) for shape in shapes)


def channels_second(t, x):
    return x.movedim(-1, 1)


def torch_batch_norm(t, x, gamma=None, beta=None, eps=1e-5):
    y = t.nn.functional.batch_norm(x.movedim(-1, 1), None, None, gamma, beta, training=True, eps=eps)
    return y.movedim(1, -1)


def torch_batch_norm_inference(t, x, mean, var, gamma=None, beta=None):
    return t.nn.functional.batch_norm(x.movedim(-1, 1), mean, var, gamma, beta, training=False).movedim(1, -1)


def with_affine(*shapes):
    return tuple(reals(s, (s[-1],), (s[-1],)) for s in shapes)


BATCH_NORM = [
    Row(
        "batch_norm",
        lambda ops, x, g, b: ops.batch_norm(x, g, b),
        r.ref_batch_norm,
        torch_batch_norm,
        with_affine((16, 5), (4, 3, 3, 5), (3, 1), (67, 33), (3, 7, 2, 16)),
        loose=5,
        bad=(
            Bad(lambda ops: ops.batch_norm(N((1, 5))), ("1",)),
            Bad(lambda ops: ops.batch_norm(N((1, 1, 1, 3))), ("1",)),
            Bad(lambda ops: ops.batch_norm(N((4, 5)), N(4), N(5)), ("gamma", "4", "5")),
            Bad(lambda ops: ops.batch_norm(N((4, 5)), N(5), N(6)), ("beta", "6", "5")),
            Bad(lambda ops: ops.batch_norm(N((4, 5)), eps=-1.0), ("eps", "-1")),
            Bad(lambda ops: ops.batch_norm(N((0, 5)))),
            Bad(lambda ops: ops.batch_norm(N((4, 5)), eps="a"), ("eps", "'a'"), TypeError),
        ),
    ),
    Row(
        "batch_norm/plain",
        lambda ops, x: ops.batch_norm(x),
        r.ref_batch_norm,
        torch_batch_norm,
        (reals((16, 5)), reals((2, 4, 3, 3))),
        loose=5,
    ),
    Row(
        "batch_norm/eps",
        lambda ops, x, g, b: ops.batch_norm(x, g, b, eps=0.1),
        lambda x, g, b: r.ref_batch_norm(x, g, b, 0.1),
        lambda t, x, g, b: torch_batch_norm(t, x, g, b, 0.1),
        with_affine((16, 5)),
        loose=5,
    ),
    Row(
        "batch_norm_inference",
        lambda ops, x, m, v, g, b: ops.batch_norm_inference(x, m, v, g, b),
        r.ref_batch_norm_inference,
        torch_batch_norm_inference,
        tuple(
            (Arg(s, d.normal), Arg(s[-1:], d.normal, True), Arg(s[-1:], d.positive, True), *reals(s[-1:], s[-1:]))
            for s in ((16, 5), (4, 3, 3, 5), (1, 5), (0, 5))
        ),
        bad=(
            Bad(lambda ops: ops.batch_norm_inference(N((4, 5)), N(4), N(5)), ("4", "5")),
            Bad(lambda ops: ops.batch_norm_inference(N((4, 5)), N(5), N(5), N(3), N(5)), ("gamma", "3", "5")),
        ),
    ),
]


def layer_norm(variant, samples, dims, affine):
    def call(ops, x, *scale):
        return ops.layer_norm(x, *scale, dims=dims)

    def torch(t, x, *scale):
        return t.nn.functional.layer_norm(x, x.shape[-dims:], *scale)

    args = tuple(reals(s, s[-dims:], s[-dims:]) if affine else reals(s) for s in samples)
    bad = (
        Bad(lambda ops: ops.layer_norm(N((4, 5)), N(4), N(5)), ("gamma", "4", "5")),
        Bad(lambda ops: ops.layer_norm(N((4, 5)), dims=3), ("dims", "3")),
        Bad(lambda ops: ops.layer_norm(N((4, 5)), dims=0), ("dims", "0")),
        Bad(lambda ops: ops.layer_norm(N((4, 0)))),
        Bad(lambda ops: ops.layer_norm(N((4, 5)), eps="a"), ("eps", "'a'"), TypeError),
    )
    name = f"layer_norm/{variant}" if variant else "layer_norm"
    return Row(
        name, call, lambda x, *s: r.ref_layer_norm(x, *s, dims=dims), torch, args, loose=5, bad=() if variant else bad
    )


LAYER_NORM = [
    layer_norm("", [(4, 5), (2, 3, 33), (3, 300), (1, 1025), (0, 5)], 1, True),
    layer_norm("plain", [(4, 7)], 1, False),
    layer_norm("dims2", [(3, 4, 5)], 2, True),
    layer_norm("all_dims", [(4, 5)], 2, False),
]


def softmax(name, ref, axis, samples):
    word = name.split("/")[0]
    bad = (
        Bad(lambda ops: getattr(ops, word)(N((2, 3)), axis=2), ("axis", "2")),
        Bad(lambda ops: getattr(ops, word)(N(()))),
    )
    return Row(
        name,
        lambda ops, x: getattr(ops, word)(x, axis=axis),
        lambda x: ref(x, axis),
        lambda t, x: getattr(t, word)(x, dim=axis),
        tuple(reals(s) for s in samples),
        bad=bad if axis == -1 else (),
    )


SOFTMAX = [
    softmax("softmax", r.ref_softmax, -1, [(4, 10), (2, 3, 37), (5, 1), (7,), (0, 3)]),
    softmax("softmax/axis1", r.ref_softmax, 1, [(2, 5, 3)]),
    softmax("log_softmax", r.ref_log_softmax, -1, [(4, 10), (2, 3, 37), (5, 1), (7,), (0, 3)]),
    softmax("log_softmax/axis0", r.ref_log_softmax, 0, [(6, 4)]),
]


def cross_entropy(variant, reduction, smoothing=0.0, soft=False):
    def call(ops, x, y):
        return ops.cross_entropy(x, y, label_smoothing=smoothing, reduction=reduction)

    def torch(t, x, y):
        classes = x.shape[-1]
        y = y.reshape(-1, classes) if soft else y.reshape(-1)
        loss = t.nn.functional.cross_entropy(x.reshape(-1, classes), y, label_smoothing=smoothing, reduction=reduction)
        return loss.reshape(x.shape[:-1]) if reduction == "none" else loss

    shapes = ((8, 10), (33, 3)) if reduction == "mean" else ((8, 10), (2, 3, 5), (1, 1))
    draw = d.probabilities if soft else None
    args = tuple((Arg(s, d.normal), Arg(s if soft else s[:-1], draw or d.labels(s[-1]))) for s in shapes)
    return Row(
        f"cross_entropy/{variant}" if variant else "cross_entropy",
        call,
        lambda x, y: r.ref_cross_entropy(x, y, smoothing, reduction),
        torch,
        args,
        bad=() if variant else CROSS_ENTROPY_BAD,
    )


LOGITS, LABELS = N((3, 4), np.float32), np.array([0, 3, 1])
CROSS_ENTROPY_BAD = (
    Bad(lambda ops: ops.cross_entropy(LOGITS, np.array([0, 4, 1])), ("[1]", "4")),
    Bad(lambda ops: ops.cross_entropy(LOGITS, np.array([0, 1, -1])), ("[2]", "-1", "4")),
    Bad(lambda ops: ops.cross_entropy(LOGITS, np.array([0, 1])), ("(2,)",)),
    Bad(lambda ops: ops.cross_entropy(LOGITS, N((3, 5), np.float32)), ("(3, 5)", "(3, 4)")),
    Bad(lambda ops: ops.cross_entropy(LOGITS, np.array([0.0, 1.0, 2.0])), (), (TypeError, ValueError)),
    Bad(lambda ops: ops.cross_entropy(LOGITS, LABELS, label_smoothing=1.5), ("label_smoothing", "1.5")),
    Bad(lambda ops: ops.cross_entropy(LOGITS, LABELS, label_smoothing=-0.1), ("label_smoothing", "-0.1")),
    Bad(lambda ops: ops.cross_entropy(LOGITS, LABELS, reduction="average"), ("average", "mean", "sum", "none")),
    Bad(lambda ops: ops.cross_entropy(N(()), np.array(0))),
    Bad(lambda ops: ops.cross_entropy(N((0, 4)), np.zeros(0, int)), ("no elements",)),
    Bad(lambda ops: ops.cross_entropy(LOGITS, LABELS, label_smoothing="a"), ("label_smoothing", "'a'"), TypeError),
)


def nll(reduction):
    def torch(t, x, y):
        loss = t.nn.functional.nll_loss(x.reshape(-1, x.shape[-1]), y.reshape(-1), reduction=reduction)
        return loss.reshape(x.shape[:-1]) if reduction == "none" else loss

    bad = (
        Bad(lambda ops: ops.nll(LOGITS, np.array([0, 4, 1])), ("[1]", "4")),
        Bad(lambda ops: ops.nll(LOGITS, np.array([0.0, 1.0, 2.0])), ("float64",), TypeError),
        Bad(lambda ops: ops.nll(LOGITS, np.array([0, 1])), ("(2,)", "(3,)")),
        Bad(lambda ops: ops.nll(LOGITS, N((3, 4))), ("float64", "(3, 4)"), TypeError),
        Bad(lambda ops: ops.nll(N((0, 4)), np.zeros(0, int)), ("no elements",)),
    )
    return Row(
        f"nll/{reduction}" if reduction != "mean" else "nll",
        lambda ops, x, y: ops.nll(x, y, reduction=reduction),
        lambda x, y: r.ref_reduced(-np.take_along_axis(x, y[..., None], -1)[..., 0], reduction),
        torch,
        tuple((Arg(s, d.distinct), Arg(s[:-1], d.labels(s[-1]))) for s in ((8, 10), (2, 3, 5), (1, 1))),
        curved=False,
        bad=bad if reduction == "mean" else (),
    )


def of_pairs(name, row_loss, torch_name, draw=d.distinct, draw_target=d.odd_sixtyfourths, curved=True, **options):
    """A loss that compares a prediction with a target of its shape, element by element."""
    word, reduction = [*name.split("/"), "mean"][:2]

    def torch(t, x, y):
        loss = getattr(t.nn.functional, torch_name)(x, y, reduction="none", **options)
        rows = loss.reshape(x.shape[0], -1).mean(1)
        return {"mean": t.mean, "sum": t.sum, "none": lambda v: v}[reduction](rows)

    def call(ops, *pair):
        return getattr(ops, word)(*pair, reduction=reduction, **options)

    bad = (
        Bad(lambda ops: getattr(ops, word)(N((3, 4)), N((3, 5))), ("(3, 4)", "(3, 5)")),
        Bad(lambda ops: getattr(ops, word)(N((3, 1)), N((3,))), ("(3, 1)", "(3,)")),
        Bad(lambda ops: getattr(ops, word)(N((3, 4)), N((3, 4)), reduction="x"), ("x", "mean", "sum", "none")),
        Bad(lambda ops: getattr(ops, word)(N((0, 4)), N((0, 4))), ("no elements",)),
    )
    return Row(
        name,
        call,
        lambda x, y: r.ref_reduced(row_loss(x, y).reshape(len(x), -1).mean(1), reduction),
        torch,
        tuple((Arg(s, draw), Arg(s, draw_target)) for s in ((4, 3), (6,), (2, 3, 4, 5))),
        curved=curved,
        bad=bad if reduction == "mean" else (),
    )


def ref_huber(x, y, delta=1.0):
    distance = np.abs(x - y)
    return np.where(distance <= delta, distance**2 / 2, delta * (distance - delta / 2))


def ref_bce(x, t):
    return t * np.log1p(np.exp(-x)) + (1 - t) * np.log1p(np.exp(x))


PAIRS = [
    of_pairs("l1", lambda x, y: np.abs(x - y), "l1_loss", curved=False),
    of_pairs("l1/none", lambda x, y: np.abs(x - y), "l1_loss", curved=False),
    of_pairs("huber", ref_huber, "huber_loss", curved=False),
    of_pairs("huber/none", lambda x, y: ref_huber(x, y, 0.125), "huber_loss", curved=False, delta=0.125),
    of_pairs("bce_with_logits", ref_bce, "binary_cross_entropy_with_logits", d.normal, d.bits),
    of_pairs("bce_with_logits/sum", ref_bce, "binary_cross_entropy_with_logits", d.normal, d.positive),
]


def mse(reduction):
    def torch(t, x, y):
        rows = t.square(x - y).reshape(x.shape[0], -1).mean(1)
        return {"mean": t.mean, "sum": t.sum, "none": lambda v: v}[reduction](rows)

    bad = (
        Bad(lambda ops: ops.mse(N((3, 4)), N((3, 5))), ("(3, 4)", "(3, 5)")),
        Bad(lambda ops: ops.mse(N((3, 1)), N((3,))), ("(3, 1)", "(3,)")),
        Bad(lambda ops: ops.mse(N((0, 4)), N((0, 4))), ("no elements",)),
        Bad(lambda ops: ops.mse(N((3, 4)), N((3, 4)), reduction="x"), ("x", "mean", "sum", "none")),
    )
    return Row(
        f"mse/{reduction}" if reduction != "mean" else "mse",
        lambda ops, x, y: ops.mse(x, y, reduction=reduction),
        lambda x, y: r.ref_mse(x, y, reduction),
        torch,
        (reals((4, 3), (4, 3)), reals((6,), (6,)), reals((2, 3, 4, 5), (2, 3, 4, 5))),
        bad=bad if reduction == "mean" else (),
    )


CORRECT_ONE_HOT = Row(
    "correct/one_hot",
    lambda ops, x, y: ops.correct(x, y),
    lambda x, y: (x.argmax(-1) == y.argmax(-1)).astype(np.float64),
    lambda t, x, y: (x.argmax(-1) == y.argmax(-1)).to(x.dtype),
    tuple((Arg(s, d.few_values), Arg(s, d.probabilities)) for s in ((33, 3), (2, 3, 17), (5, 1), (0, 4))),
    smooth=False,
    bad=(Bad(lambda ops: ops.correct(LOGITS, N((3, 5))), ("(3, 5)", "(3, 4)")),),
)

CORRECT = Row(
    "correct",
    lambda ops, x, y: ops.correct(x, y),
    lambda x, y: (x.argmax(-1) == y).astype(np.float64),
    lambda t, x, y: (x.argmax(-1) == y).to(x.dtype),
    tuple((Arg(s, d.distinct), Arg(s[:-1], d.labels(s[-1]))) for s in ((33, 3), (2, 3, 17), (5, 1), (0, 4))),
    smooth=False,
    bad=(
        Bad(lambda ops: ops.correct(LOGITS, np.array([0, 4, 1])), ("[1]", "4")),
        Bad(lambda ops: ops.correct(LOGITS, np.array([0.0, 1.0, 2.0])), ("float64",), TypeError),
        Bad(lambda ops: ops.correct(LOGITS, np.array([0, 1])), ("(2,)",)),
    ),
)

LOSSES = [
    CORRECT,
    CORRECT_ONE_HOT,
    cross_entropy("", "mean"),
    cross_entropy("sum", "sum"),
    cross_entropy("none", "none"),
    cross_entropy("smoothing", "mean", 0.1),
    cross_entropy("soft", "mean", soft=True),
    cross_entropy("soft_smoothing", "none", 0.2, soft=True),
    nll("mean"),
    nll("none"),
    *PAIRS,
    mse("mean"),
    mse("sum"),
    mse("none"),
]

ROWS = [*BATCH_NORM, *LAYER_NORM, *SOFTMAX, *LOSSES]
