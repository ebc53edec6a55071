"""Optimizers through a trainer of one weight: golden values, torch's rules, groups, schedules, errors."""

import json

import numpy as np
import pytest

GRADIENTS = (0.5, -0.2, 0.7)


def one_weight(tw, optimizer, gradients=GRADIENTS, **options):
    """The weight after steps with given gradients: the loss is weight times x, so x is the gradient."""
    net = tw.nn.Linear(1, bias=False, weight_init=tw.init.ones())
    t = tw.Trainer(net, lambda p, y: p.reshape(-1) + 0 * y, optimizer, dtype="float64", threads=1, **options)
    for g in gradients:
        t.step(np.full((4, 1), g), np.zeros(4))
    return float(t.parameters()["weight"][0, 0])


GOLDEN = [
    ("Adagrad", {"semantics": "lecture", "eps": 0.1}, 0.8728899546),
    ("Adagrad", {"eps": 0.1}, 0.8767914464),
    ("RMSprop", {"decay": 0.9, "eps": 0.1, "semantics": "lecture"}, 0.6931574191),
    ("RMSprop", {"decay": 0.9, "eps": 0.1, "eps_inside": True}, 0.7464413282),
    ("Adam", {"semantics": "lecture", "eps": 0.1}, 0.9471763431),
    ("Adam", {"eps": 0.1}, 0.8333381551),
    ("Adam", {"eps": 0.1, "bias_correction": False}, 0.8631513679),
    ("Adam", {"eps": 0.1, "eps_inside": True}, 0.8320170198),
    ("SGD", {"momentum": 0.9, "form": "duda"}, 0.98325),
    ("SGD", {"momentum": 0.9, "dampening": 0.9}, 0.8613),
    ("SGD", {"momentum": 0.9}, 0.8325),
    ("SGD", {"momentum": 0.9, "form": "heavy_ball"}, 0.8325),
]


@pytest.mark.parametrize(("name", "options", "expected"), GOLDEN)
def test_golden_values(name, options, expected, tw):
    assert abs(one_weight(tw, getattr(tw.optim, name)(lr=0.1, **options)) - expected) < 1e-9


def test_the_forms_of_momentum_differ_when_the_rate_changes(tw):
    def rate(step):
        return 0.1 if step == 0 else 0.01

    assert abs(one_weight(tw, tw.optim.SGD(rate, 0.9, form="heavy_ball")) - 0.8613) < 1e-12
    assert abs(one_weight(tw, tw.optim.SGD(rate, 0.9)) - 0.93825) < 1e-12


TORCH = [
    ("SGD", {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01}, {}),
    ("SGD", {"momentum": 0.8, "dampening": 0.3}, {}),
    ("Adagrad", {"weight_decay": 0.01}, {}),
    ("RMSprop", {"decay": 0.95, "weight_decay": 0.1}, {"alpha": 0.95, "weight_decay": 0.1}),
    ("Adam", {"betas": (0.8, 0.9), "weight_decay": 0.02}, {}),
    ("AdamW", {"weight_decay": 0.3}, {}),
    ("AdamW", {}, {}),
]


@pytest.mark.parametrize(("name", "options", "theirs"), TORCH)
def test_rules_equal_torchs(name, options, theirs, tw, torch):
    gradients = np.random.default_rng(0).standard_normal(20)
    w = torch.ones(1, dtype=torch.float64, requires_grad=True)
    rule = getattr(torch.optim, name)([w], lr=0.05, **(theirs or options))
    for g in gradients:
        w.grad = torch.tensor([g])
        rule.step()
    ours = one_weight(tw, getattr(tw.optim, name)(lr=0.05, **options), gradients)
    assert abs(ours - w.item()) < 1e-13


def test_groups_take_their_own_rates(tw):
    nn = tw.nn
    head = nn.Linear(2)
    net = nn.Sequential(nn.Linear(3), head)
    groups = [{"params": "*.bias", "lr": 0.0}, {"params": head, "lr": tw.schedules.Constant(1.0), "weight_decay": 0.5}]
    x, y = np.random.default_rng(0).standard_normal((2, 8, 2))
    t = tw.Trainer(net, tw.losses.MSE(), tw.optim.SGD(0.1, groups=groups), dtype="float64", threads=1).build(x, y)
    before, gradients = t.parameters(), t.gradients(x, y)
    t.step(x, y)
    after = t.parameters()
    assert np.array_equal(before["0.bias"], after["0.bias"]) and np.array_equal(before["1.bias"], after["1.bias"])
    np.testing.assert_allclose(after["0.weight"], before["0.weight"] - 0.1 * gradients["0.weight"], rtol=1e-12)
    decayed = gradients["1.weight"] + 0.5 * before["1.weight"]
    np.testing.assert_allclose(after["1.weight"], before["1.weight"] - decayed, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda o: o.SGD("fast"), TypeError),
        (lambda o: o.SGD(True), TypeError),
        (lambda o: o.SGD(__import__("thalweg").nn.Linear(3)), TypeError),
        (lambda o: o.SGD(__import__("thalweg").schedules.Cosine), TypeError),
        (lambda o: o.SGD(0.1, weight_decay=float("inf")), ValueError),
        (lambda o: o.Adam(eps=float("inf")), ValueError),
        (lambda o: o.SGD(-0.1), ValueError),
        (lambda o: o.SGD(float("nan")), ValueError),
        (lambda o: o.SGD(0.1, momentum=-1), ValueError),
        (lambda o: o.SGD(0.1, nesterov=True), ValueError),
        (lambda o: o.SGD(0.1, 0.9, form="polyak"), ValueError),
        (lambda o: o.SGD(0.1, 0.9, form="duda", dampening=0.5), ValueError),
        (lambda o: o.Adam(betas=(0.9, 1.0)), ValueError),
        (lambda o: o.Adam(betas=0.9), TypeError),
        (lambda o: o.Adam(semantics="paper"), ValueError),
        (lambda o: o.SGD(0.1, groups=[{"lr": 1}]), TypeError),
        (lambda o: o.SGD(0.1, groups=[{"params": "*", "decay": 1}]), ValueError),
        (lambda o: o.SGD(0.1, groups=[{"params": "*", "momentum": 0.9}]), ValueError),
    ],
)
def test_wrong_rates_are_refused(make, error, tw):
    with pytest.raises(error, match=r"\[\w+( groups)?\] "):
        make(tw.optim)


def test_a_group_without_members_is_an_error(tw):
    x, y = np.zeros((4, 2)), np.zeros((4, 3))
    optimizer = tw.optim.SGD(0.1, groups=[{"params": "*.wieght", "lr": 1.0}])
    with pytest.raises(ValueError, match=r"'\*.wieght' fits no trained parameter; there are weight, bias"):
        tw.Trainer(tw.nn.Linear(3), tw.losses.MSE(), optimizer).build(x, y)


def test_descriptions_build_the_same_optimizer(tw):
    o, s = tw.optim, tw.schedules
    lr = s.WarmUp(s.Cosine(0.3, 50, 0.01), 5)
    for optimizer in (
        o.SGD(lr, 0.9, nesterov=True, groups=[{"params": ["*.bias", "a*"], "lr": 0.2, "weight_decay": 0.1}]),
        o.SGD(0.1, 0.9, form="duda"),
        o.Adam(lr, betas=(0.8, 0.99), semantics="lecture"),
        o.AdamW(0.1),
        o.RMSprop(0.1, eps_inside=True),
        o.Adagrad(0.1, semantics="lecture"),
    ):
        again = o.build(optimizer.describe())
        assert again.describe() == optimizer.describe() and again.rule == optimizer.rule
        np.testing.assert_array_equal(again.table(0, 60), optimizer.table(0, 60))
    assert o.SGD(lambda step: 0.1).describe() is None
    with pytest.raises(ValueError, match="unknown optimizer"):
        o.build({"optimizer": "Lion", "lr": 0.1})


def test_numpys_numbers_are_numbers(tw):
    """They leave as Python's, so that a checkpoint can hold them."""
    o, f = tw.optim, np.float32
    for optimizer in (
        o.SGD(
            f(0.5), f(0.25), weight_decay=np.int64(1), groups=[{"params": "*", "lr": f(0.5), "weight_decay": f(0.5)}]
        ),
        o.Adam(
            np.float64(0.5), betas=np.array([0.5, 0.75]), eps=f(0.5), groups=[{"params": "*", "betas": (f(0.5), 0)}]
        ),
        o.RMSprop(tw.schedules.Step(f(0.5), np.array([3, 6]), f(0.5)), decay=f(0.5)),
    ):
        again = o.build(json.loads(json.dumps(optimizer.describe())))
        np.testing.assert_array_equal(again.table(0, 9), optimizer.table(0, 9))
