"""Bad input to a trainer: the message names operator, layer, value and range; nothing is lost."""

import os

import numpy as np
import pytest


def data(rows=20):
    rng = np.random.default_rng(1)
    return rng.standard_normal((rows, 5)).astype("float32"), rng.integers(0, 3, rows)


def make(tw, **options):
    net = tw.nn.Sequential({"body": tw.nn.Linear(8), "act": tw.nn.ReLU(), "fc": tw.nn.Linear(3)})
    return tw.Trainer(
        net, tw.losses.CrossEntropy(), tw.optim.SGD(0.1), metrics=["accuracy"], **{"threads": 1, **options}
    )


def with_label(value):
    x, y = data()
    y[17] = value
    return x, y


def with_nan():
    x, y = data()
    x[3, 2] = np.nan
    return x, y


def with_large(value):
    x, y = data()
    x = x.astype(float)
    x[3, 2] = value
    return x, y


BAD = [
    (
        lambda: with_label(12),
        ValueError,
        r"\[cross_entropy\] label y\[17\] = 12 is outside \[0, 3\): layer 'fc' has 3 outputs",
    ),
    (lambda: with_label(-1), ValueError, r"y\[17\] = -1 is outside"),
    (lambda: with_nan(), ValueError, r"x\[3, 2\] = nan: 1 of 100 values are not finite"),
    (lambda: with_large(1e300), ValueError, r"x\[3, 2\] = 1e\+300 is beyond float32: .*dtype='float64'"),
    (lambda: (data()[0][:, :4], data()[1]), ValueError, r"x has shape \(20, 4\), expected \(rows, 5\)"),
    (lambda: (data()[0], data()[1][:7]), ValueError, "y has 7 rows, x has 20"),
    (lambda: (data()[0][:0], data()[1][:0]), ValueError, "no rows"),
    (lambda: (data()[0], data()[1].astype(float)), TypeError, "y has dtype float64, expected integers"),
    (lambda: (data()[0], data()[1][:, None]), ValueError, r"y has shape \(20, 1\)"),
    (lambda: (data()[0].astype(complex), data()[1]), TypeError, "x has dtype complex128"),
    (lambda: (data()[0].astype(object), data()[1]), TypeError, "x has dtype object"),
    (lambda: (data()[0].astype(str), data()[1]), TypeError, "x has dtype <U"),
    (lambda: (None, data()[1]), TypeError, "x"),
    (lambda: (data()[0], None), TypeError, "y"),
    (lambda: (3.0, data()[1]), ValueError, "x is a scalar"),
]


@pytest.mark.parametrize("method", ["step", "fit", "evaluate", "gradients"])
@pytest.mark.parametrize(("make_data", "error", "message"), BAD)
def test_bad_data_are_named_and_nothing_is_lost(make_data, error, message, method, tw):
    trainer, untouched = make(tw), make(tw)
    for t in (trainer, untouched):
        t.step(*data())
    x, y = make_data()
    options = {"epochs": 1, "batch_size": 10} if method == "fit" else {}
    with pytest.raises(error, match=message):
        getattr(trainer, method)(x, y, **options)
    for t in (trainer, untouched):
        t.step(*data())
    assert trainer.digest() == untouched.digest()


def test_the_largest_numbers_are_taken(tw):
    """float32's largest, float64's in float64; infinities are refused as such, by whatever dtype they come."""
    largest = float(np.finfo(np.float32).max)
    assert np.isfinite(make(tw).build(*data()).predict(with_large(largest * 1e-6)[0])).all()
    assert np.isfinite(make(tw, dtype="float64").build(*data()).predict(with_large(1e300)[0])).all()
    with pytest.raises(ValueError, match=r"x\[3, 2\] = inf: 1 of 100 values are not finite"):
        make(tw).fit(*with_large(np.inf), epochs=1, batch_size=10)
    with pytest.raises(ValueError, match=r"parameter.* is beyond float32"):
        t = make(tw).build(*data())
        t.set_parameters({name: value.astype(float) + 1e39 for name, value in t.parameters().items()})


def test_any_memory_layout_is_read_rightly(tw):
    x, y = data()
    expected = make(tw)
    expected.step(x, y)
    wide = np.zeros((40, 10), "float32")
    wide[::2, ::2] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    forms = [
        np.asfortranarray(x),
        wide[::2, ::2],
        x[::-1].copy()[::-1],
        x.astype(">f4"),
        x.astype("float64"),
        read_only,
        x.tolist(),
    ]
    for form in forms:
        for labels in (y, y.astype(">i8"), y.astype("uint8"), y[::-1].copy()[::-1]):
            trainer = make(tw)
            trainer.step(form, labels)
            assert trainer.digest() == expected.digest()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"seed": -1}, ValueError),
        ({"seed": 1.5}, TypeError),
        ({"dtype": "float16"}, ValueError),
        ({"world": 0}, ValueError),
        ({"world": "2"}, TypeError),
        ({"shards": 6}, ValueError),
        ({"threads": -1}, ValueError),
        ({"max_norm": 0}, ValueError),
        ({"max_norm": float("nan")}, ValueError),
        ({"on_nonfinite": "ignore"}, ValueError),
        ({"accumulate": 0}, ValueError),
        ({"metric": ["accuracy"]}, TypeError),
    ],
)
def test_unknown_options_are_refused(options, error, tw):
    with pytest.raises(error):
        make(tw, **options)


def test_parts_of_the_wrong_kind(tw):
    net, loss, sgd = tw.nn.Linear(3), tw.losses.CrossEntropy(), tw.optim.SGD(0.1)
    for parts in ((net, loss, "sgd"), (net, tw.losses.CrossEntropy, sgd), (lambda x: x, loss, sgd)):
        with pytest.raises(TypeError, match=r"\[Trainer\]"):
            tw.Trainer(*parts)
    with pytest.raises(ValueError, match="unknown metric 'acc'"):
        tw.Trainer(net, loss, sgd, metrics=["acc"])
    with pytest.raises(ValueError, match=r"\[loss\] the function returned shape \(batch, 3\)"):
        tw.Trainer(net, lambda p, y: p, sgd).step(*data())
    with pytest.raises(RuntimeError, match="seen no data"):
        make(tw).predict(data()[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_calls_after_fork_raise(tw):
    def draw():
        return tw.init.normal()((100_000,), "float32", 0, "a")

    trainer = make(tw)
    trainer.step(*data())
    child = os.fork()
    if child == 0:
        code = 0
        try:
            for call in (lambda: trainer.step(*data()), trainer.parameters, draw, trainer._native.digest):
                try:
                    call()
                    code = 1
                except RuntimeError as error:
                    code |= 0 if "forked" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    trainer.step(*data())


def test_world_is_a_context(tw):
    with tw.world(4):
        four = make(tw)
    one = make(tw)
    assert (four.world, one.world) == (4, 1)
    for t in (four, one):
        t.fit(*data(), epochs=2, batch_size=8)
    assert four.digest() == one.digest()
    with pytest.raises(ValueError):
        tw.world(0)


@pytest.mark.parametrize("name", ["loss", "count", "grad_norm", "lr"])
def test_a_metric_may_not_take_the_name_of_what_steps_report(tw, name):
    def metric(prediction, target):
        return prediction[:, 0]

    metric.__name__ = name
    with pytest.raises(ValueError, match=f"a metric is named '{name}'"):
        tw.Trainer(tw.nn.Linear(2), tw.losses.CrossEntropy(), tw.optim.SGD(lr=0.1), metrics=[metric])
