"""Modules: names, sharing, freezing, layers of one's own, descriptions, and the errors of wrong use."""

import numpy as np
import pytest


class Scale(pytest.importorskip("thalweg").nn.Module):
    """A layer of one's own: y = scale x."""

    def __init__(self, tw):
        super().__init__()
        self.scale = tw.nn.Parameter((4,), tw.init.constant(2.0))

    def forward(self, x):
        return x * self.scale


def trainer(tw, net, **options):
    return tw.Trainer(net, tw.losses.MSE(), tw.optim.SGD(0.1), dtype="float64", threads=1, **options)


def rows(n=6, features=4, outputs=4):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, features)), rng.standard_normal((n, outputs))


def test_names_are_paths(tw):
    nn = tw.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Linear(5), nn.BatchNorm())
            self.head = nn.Linear(4)

        def forward(self, x):
            return self.head(self.features(x))

    t = trainer(tw, Net()).build(*rows())
    expected = [
        "features.0.weight",
        "features.0.bias",
        "features.1.gamma",
        "features.1.beta",
        "head.weight",
        "head.bias",
    ]
    assert list(t.parameters()) == expected
    assert sorted(t.buffers()) == ["features.1.running_mean", "features.1.running_var"]
    assert t.parameters()["features.0.weight"].shape == (5, 4)


def test_a_shared_module_has_one_set_of_parameters(tw):
    nn = tw.nn
    layer = nn.Linear(4)
    t = trainer(tw, nn.Sequential(layer, nn.Tanh(), layer)).build(*rows())
    assert list(t.parameters()) == ["0.weight", "0.bias"]
    tw.gradcheck(nn.Sequential(layer, nn.Tanh(), layer), (rows()[0],))


def test_frozen_parameters_do_not_move(tw):
    nn = tw.nn
    net = nn.Sequential(nn.Linear(8).freeze(), nn.Tanh(), nn.Linear(4))
    t = trainer(tw, net)
    t.step(*rows())
    before = t.parameters()
    t.step(*rows())
    after = t.parameters()
    assert np.array_equal(before["0.weight"], after["0.weight"])
    assert not np.array_equal(before["2.weight"], after["2.weight"])
    assert sorted(t.gradients(*rows())) == ["2.bias", "2.weight"]
    assert "frozen" in str(t.summary())


def test_a_layer_of_ones_own(tw):
    t = trainer(tw, tw.nn.Sequential(Scale(tw)))
    x, y = rows()
    t.build(x, y)
    np.testing.assert_array_equal(t.predict(x), 2 * x)
    report = t.step(x, y)
    assert np.isclose(report.loss, ((2 * x - y) ** 2).mean())
    gradient = (2 * (2 * x - y) * x).sum(0) / x.size
    np.testing.assert_allclose(t.parameters()["0.scale"], 2 - 0.1 * gradient, rtol=1e-13)


def test_residual_and_branches(tw):
    nn = tw.nn
    net = nn.Sequential(nn.Residual(nn.Linear(4)), nn.Concat(nn.Identity(), nn.Linear(3)), nn.Linear(4))
    x, y = rows()
    t = trainer(tw, net).build(x, y)
    p = t.parameters()
    h = x + x @ p["0.body.weight"].T + p["0.body.bias"]
    h = np.concatenate([h, h @ p["1.1.weight"].T + p["1.1.bias"]], 1)
    np.testing.assert_allclose(t.predict(x), h @ p["2.weight"].T + p["2.bias"], rtol=1e-12)
    tw.gradcheck(net, (x,))


def test_functional_call_equals_predict(tw):
    nn = tw.nn
    net = nn.Sequential(nn.Conv2d(3, 3, padding=1), nn.BatchNorm(), nn.GELU(), nn.Flatten(), nn.Linear(4))
    x = np.random.default_rng(0).standard_normal((5, 4, 4, 2))
    t = trainer(tw, net).build(x, np.zeros((5, 4)))
    values = {**t.parameters(), **t.buffers()}
    np.testing.assert_array_equal(nn.functional_call(net, values, x, train=False), t.predict(x))
    with pytest.raises(ValueError, match="running_mean"):
        nn.functional_call(net, t.parameters(), x, train=False)
    with pytest.raises(ValueError, match="no parameter 'weights'"):
        nn.functional_call(net, {"weights": x}, x)


@pytest.mark.parametrize("make", ["mlp", "lenet5", "resnet20"])
def test_models_and_their_descriptions(make, tw):
    net = getattr(tw.models, make)()
    x, y = np.random.default_rng(0).standard_normal((2, 28, 28, 1)).astype("float32"), np.array([1, 3])
    ours = tw.Trainer(net, tw.losses.CrossEntropy(), tw.optim.SGD(0.1)).build(x, y)
    again = tw.nn.build(tw.nn.describe(net))
    theirs = tw.Trainer(again, tw.losses.CrossEntropy(), tw.optim.SGD(0.1)).build(x, y)
    assert tw.nn.describe(again) == tw.nn.describe(net)
    assert ours.digest() == theirs.digest() and ours.predict(x).shape == (2, 10)
    summary = ours.summary()
    assert summary.parameters == sum(p.size for p in ours.parameters().values())
    assert f"{summary.parameters:,} parameters" in str(summary)


def test_the_sizes_of_known_networks(tw):
    x, y = np.zeros((2, 32, 32, 3), "float32"), np.array([1, 3])
    t = tw.Trainer(tw.models.resnet20(), tw.losses.CrossEntropy(), tw.optim.SGD(0.1)).build(x, y)
    assert 270_000 < t.summary().parameters < 274_000 and 40e6 < t.summary().mult_adds < 42e6
    x = np.zeros((2, 28, 28, 1), "float32")
    t = tw.Trainer(tw.models.lenet5(padding=(2, 0)), tw.losses.CrossEntropy(), tw.optim.SGD(0.1)).build(x, y)
    assert t.summary().parameters == 61_706


def test_descriptions_are_a_closed_list(tw):
    nn = tw.nn
    assert nn.describe(nn.Sequential(Scale(tw))) is None
    for bad in ({"layer": "os.system"}, {"layer": "Linear", "options": {"out": 3}}, {"layer": "Linear"}, {"shared": 4}):
        with pytest.raises(ValueError, match=r"\[nn.build\]"):
            nn.build(bad)
    layer = nn.Linear(4)
    net = nn.Sequential(layer, nn.Sequential(layer.freeze(), nn.Dropout(0.3)))
    again = nn.build(nn.describe(net))
    assert again[0] is again[1][0] and not again[0].weight.trainable


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda nn: nn.Linear(784, 10), "input sizes are inferred.*Linear\\(10\\)"),
        (lambda nn: nn.Conv2d(3, 16, 3), "inferred.*Conv2d\\(16, 3\\)"),
        (lambda nn: nn.BatchNorm(64), "inferred"),
        (lambda nn: nn.Linear(3.5), "out_features"),
        (lambda nn: nn.Linear(True), "out_features"),
        (lambda nn: nn.Sequential(nn.ReLU), "add parentheses"),
        (lambda nn: nn.Dropout("0.5"), "p is '0.5'"),
        (lambda nn: nn.MaxPool2d(2, 2), r"MaxPool2d\(2, 2\): .*named: MaxPool2d\(2, stride=2\)"),
        (lambda nn: nn.AvgPool2d(2, 2), r"AvgPool2d\(2, stride=2\)"),
        (lambda nn: nn.BatchNorm(eps="a"), r"\[BatchNorm\] eps is 'a'"),
        (lambda nn: nn.ModuleList([nn.ReLU]), "add parentheses"),
    ],
)
def test_wrong_types_are_refused(make, message, tw):
    with pytest.raises(TypeError, match=message):
        make(tw.nn)


@pytest.mark.parametrize(
    "make",
    [
        lambda nn: nn.Linear(0),
        lambda nn: nn.Conv2d(8, 0),
        lambda nn: nn.Conv2d(8, 3, stride=0),
        lambda nn: nn.Conv2d(8, 3, padding=-1),
        lambda nn: nn.Conv2d(8, 3, padding="valid?"),
        lambda nn: nn.Conv2d(9, 3, groups=2),
        lambda nn: nn.Conv2d(16, 3, algorithm="fft"),
        lambda nn: nn.Dropout(1.5),
        lambda nn: nn.Dropout(float("nan")),
        lambda nn: nn.BatchNorm(eps=-1e-5),
        lambda nn: nn.LayerNorm(eps=float("inf")),
        lambda nn: nn.LeakyReLU(float("nan")),
        lambda nn: nn.ModuleDict({"items": nn.ReLU()}),
        lambda nn: nn.Sequential({"forward": nn.ReLU()}),
        lambda nn: nn.BatchNorm(running_var="sample"),
        lambda nn: nn.GELU("fast"),
    ],
)
def test_values_out_of_range_are_refused(make, tw):
    with pytest.raises(ValueError, match=r"\[\w+\] "):
        make(tw.nn)


def test_errors_name_the_layer(tw):
    nn = tw.nn
    x, y = rows()
    with pytest.raises(ValueError, match=r"Conv2d 'features.0'\] x has shape \(batch, 4\)"):
        trainer(tw, nn.Sequential({"features": nn.Sequential(nn.Conv2d(3, 3))})).build(x, y)
    with pytest.raises(TypeError, match="holds no values"):
        nn.Linear(3)(x)
    with pytest.raises(TypeError, match=r"super\(\).__init__"):
        type("Bad", (nn.Module,), {"__init__": lambda self: setattr(self, "layer", nn.ReLU())})()


def test_python_cannot_look_into_symbolic_tensors(tw):
    class Branching(tw.nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(TypeError, match=r"ops\.where"):
        trainer(tw, Branching()).build(*rows())


def test_a_shared_batch_norm_moves_its_statistics_at_every_call(tw, torch):
    nn = tw.nn
    shared = nn.BatchNorm(affine=False)
    theirs = torch.nn.BatchNorm1d(4, affine=False, dtype=torch.float64)
    t = trainer(tw, nn.Sequential(nn.Linear(4, bias=False), shared, nn.Tanh(), shared, nn.Tanh(), shared), world=2)
    x, y = rows(16)
    t.build(x, y)
    h = torch.tensor(x @ t.parameters()["0.weight"].T)
    theirs(torch.tanh(theirs(torch.tanh(theirs(h)))))
    t.step(x, y)
    assert sorted(t.buffers()) == ["1.running_mean", "1.running_var"]
    np.testing.assert_allclose(t.buffers()["1.running_mean"], theirs.running_mean.numpy(), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(t.buffers()["1.running_var"], theirs.running_var.numpy(), rtol=1e-12)


def counting(tw, read_first):
    class Counting(tw.nn.Module):
        """Adds how often it was called in training, this call included."""

        def __init__(self):
            super().__init__()
            self.calls = tw.nn.Buffer((1,), 0.0)
            self.sum = tw.nn.Buffer(None, 5.0)

        def forward(self, x):
            if read_first:
                self.sum.infer(4)
            self.sum.update(tw.ops.mean(x, 0))
            self.calls.update(self.calls + 1)
            return x + self.calls

    return Counting()


@pytest.mark.parametrize("read_first", [True, False])
def test_a_buffer_is_read_as_it_was_updated(read_first, tw):
    """Also one that nobody has read before; the transforms see the same values."""
    layer = counting(tw, read_first)
    t = trainer(tw, tw.nn.Sequential(layer, layer))
    x, y = rows()
    t.build(x, y)
    for k in (0, 2, 4):
        assert np.isclose(t.step(x, y).loss, ((x + 2 * k + 3 - y) ** 2).mean())
    np.testing.assert_array_equal(t.buffers()["0.calls"], [6.0])
    np.testing.assert_allclose(t.buffers()["0.sum"], x.mean(0) + 5, rtol=1e-12)
    np.testing.assert_allclose(t.predict(x), x + 12, rtol=1e-12)
    np.testing.assert_allclose(tw.nn.functional_call(tw.nn.Sequential(layer, layer), {}, x), x + 3)


def test_an_update_of_another_shape_is_refused(tw):
    class Wrong(tw.nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value, self.kept = value, tw.nn.Buffer((6,), 0.0)

        def forward(self, x):
            self.kept.update(self.value(x))
            return x

    for value, message in (
        (lambda x: tw.ops.mean(x, 0), r"buffer '0.kept' has shape \(6,\), its update \(4,\)"),
        (lambda x: tw.ops.mean(x, 1), r"update of buffer '0.kept' has .* the batch as axis 0"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer(tw, tw.nn.Sequential(Wrong(value))).build(*rows())
