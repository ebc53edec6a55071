"""What a trainer takes from a state: all of it or nothing, with the key named that doesn't fit."""

import copy

import numpy as np
import pytest


def data(rows=32):
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, 6)).astype("float32"), rng.integers(0, 4, rows)


def make(tw, width=8, optimizer=None, **options):
    net = tw.nn.Sequential(tw.nn.Linear(width), tw.nn.ReLU(), tw.nn.Linear(4))
    return tw.Trainer(net, tw.losses.CrossEntropy(), optimizer or tw.optim.SGD(0.1, momentum=0.9), **options)


def trained(tw, steps=3, **options):
    trainer = make(tw, **options)
    for _ in range(steps):
        trainer.step(*data())
    return trainer


def standing(trainer):
    rates = trainer.optimizer.lr, dict(trainer.optimizer.rates)
    return trainer.digest(), trainer.t, trainer.epoch, trainer.seed, trainer.shards, rates, trainer.history.state_dict()


@pytest.mark.parametrize("other", [{"seed": 1}, {"shards": 4}, {"seed": 1, "shards": 2}, {}])
def test_a_state_that_does_not_fit_changes_nothing(other, tw):
    ours = trained(tw)
    before = standing(ours)
    state = trained(tw, width=16, **other).state_dict()
    message = r"another network: out_features of layer '0' \(Linear\) is 16 there, 8 here"
    with pytest.raises(ValueError, match=message):
        ours.load_state_dict(state)
    assert standing(ours) == before
    fresh = make(tw)
    with pytest.raises(ValueError, match=message):
        fresh.load_state_dict(state)
    fresh.build(data()[0][:, :3], data()[1])  # what the state described was not kept


def networks(nn):
    """Networks with weights of the same names and shapes, and what tells each from the first one."""
    shared = nn.ReLU()
    yield [nn.Linear(6), nn.ReLU(), nn.Dropout(0.2), nn.Linear(4)], ""
    yield [nn.Linear(6), nn.Tanh(), nn.Dropout(0.2), nn.Linear(4)], "layer '1' is a Tanh there, a ReLU here"
    yield [nn.Linear(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4)], r"p of layer '2' \(Dropout\) is 0.5 there, 0.2 here"
    yield [nn.Linear(6), nn.ReLU(), nn.Dropout(0.2), nn.Linear(4), nn.ReLU()], r"layer '4' \(ReLU\) is there alone"
    yield [nn.Linear(6), nn.ReLU(), nn.Dropout(0.2)], r"layer '3' \(Linear\) is here alone"
    yield [nn.Linear(6), nn.Residual(nn.Linear(6)), nn.Dropout(0.2), nn.Linear(4)], "layer '1' is a Residual there"
    yield [nn.Linear(6), shared, shared, nn.Linear(4)], "layer '2' is a layer that stands before too there, a Dropout"
    without = nn.Linear(6, bias=False)
    yield [without, nn.ReLU(), nn.Dropout(0.2), nn.Linear(4)], "bias of layer '0' .* is False there, True here"


def test_weights_of_another_architecture_are_refused_though_they_fit(tw, tmp_path):
    def trainer(layers):
        return tw.Trainer(tw.nn.Sequential(*layers), tw.losses.CrossEntropy(), tw.optim.SGD(0.1))

    ours = trainer(next(networks(tw.nn))[0])
    for layers, message in networks(tw.nn):
        theirs = trainer(layers)
        theirs.step(*data())
        theirs.save(tmp_path)
        if not message:
            ours.load_state_dict(theirs.state_dict())
            before = standing(ours)
            continue
        with pytest.raises(ValueError, match=rf"\[load_state_dict\] the state belongs to another network: {message}"):
            ours.load_state_dict(theirs.state_dict())
        with pytest.raises(ValueError, match=message):
            tw.Trainer.load(tmp_path, net=ours.net)
    assert standing(ours) == before


def test_networks_that_only_begin_otherwise_are_the_same(tw):
    """How weights are drawn, what is frozen, and layers of one's own, of which shapes alone can tell."""

    class Own(tw.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = tw.nn.Linear(4)

        def forward(self, x):
            return self.inner(tw.ops.tanh(x))

    def trainer(net):
        made = tw.Trainer(net, tw.losses.CrossEntropy(), tw.optim.SGD(0.1))
        made.step(*data())
        return made

    first, other = tw.nn.Linear(4), tw.nn.Linear(4, weight_init=tw.init.normal(0.5))
    trainer(first).load_state_dict(trainer(other).state_dict())
    own = trainer(Own())
    own.load_state_dict(trainer(Own()).state_dict())
    with pytest.raises(ValueError, match="weight"):
        own.load_state_dict(trainer(first).state_dict())


def test_a_state_of_another_seed_and_other_shards_is_taken_whole(tw):
    state = trained(tw, seed=1, shards=4).state_dict()
    ours = trained(tw, steps=1)
    ours.load_state_dict(state)
    assert (ours.seed, ours.shards, ours.t) == (1, 4, 3)
    ours.step(*data())
    assert ours.digest() == trained(tw, seed=1, shards=4, steps=4).digest()


def damaged(state):
    """States with one part missing or of another form, and what the message has to name."""
    for key in ("parameters", "buffers", "optimizer", "meta"):
        yield {k: v for k, v in state.items() if k != key}, key
    later = ("rows", "batch_size", "shuffle", "config", "version", "precision")  # which earlier versions didn't write
    for key in state["meta"]:
        if key not in later:
            yield (
                {**state, "meta": {k: v for k, v in state["meta"].items() if k != key}},
                rf"meta\['{key}'\] is missing",
            )
    for key, value in {
        "t": -1, "epoch": "x", "position": None, "sums": [], "seed": -1, "dtype": "float16", "shards": 3, "rule": {},
        "inputs": [{"shape": [-1], "integer": False}], "targets": [], "several_targets": 1, "history": {"epoch": [0]},
        "callbacks": [{"callback": 1}], "batch_size": "16", "precision": "half", "accumulate": 0, "max_norm": "1",
        "network": 3,
    }.items():  # fmt: skip
        yield {**state, "meta": {**state["meta"], key: value}}, rf"meta\['{key}'\] is "
    lost = [{"callback": "A", "state": {"weights": {"$array": "callbacks/0"}}}]
    yield {**state, "meta": {**state["meta"], "callbacks": lost}}, "lacks 'callbacks/0'"


def test_a_malformed_state_is_refused_by_the_name_of_its_key(tw):
    ours = trained(tw)
    before = standing(ours)
    for given in ({}, None, [], 3):
        with pytest.raises(ValueError, match=r"\[load_state_dict\]"):
            ours.load_state_dict(given)
    count = 0
    for given, message in damaged(trained(tw, steps=5).state_dict()):
        for take in (ours.load_state_dict, tw.Trainer.from_state):
            with pytest.raises(ValueError, match=message):
                take(copy.deepcopy(given))
        count += 1
    assert count > 40 and standing(ours) == before


def test_rates_come_with_the_state_and_those_of_a_given_optimizer_stay(tw):
    state = trained(tw, optimizer=tw.optim.SGD(0.25, momentum=0.5, weight_decay=0.125)).state_dict()
    ours = make(tw)
    held = ours.optimizer
    ours.load_state_dict(state)
    assert (held.lr, held.rates["momentum"], held.rates["weight_decay"]) == (0.25, 0.5, 0.125)
    assert ours.optimizer is held and ours.step(*data()).lr == 0.25
    given = tw.Trainer.from_state(state, optimizer=tw.optim.SGD(0.01, momentum=0.9))
    assert given.optimizer.lr == 0.01 and given.t == 3
    own = trained(tw, optimizer=tw.optim.SGD(lambda t: 0.5, momentum=0.9)).state_dict()
    ours.load_state_dict(own)
    assert ours.optimizer.lr == 0.25


def test_groups_come_with_the_state(tw):
    groups = [{"params": "*.bias", "lr": 0.0}]
    state = trained(tw, optimizer=tw.optim.SGD(0.25, 0.9, groups=groups)).state_dict()
    ours = trained(tw)
    ours.load_state_dict(state)
    before = ours.parameters()
    ours.step(*data())
    np.testing.assert_array_equal(ours.parameters()["2.bias"], before["2.bias"])
    assert not np.array_equal(ours.parameters()["2.weight"], before["2.weight"])


def test_an_optimizer_may_be_replaced_by_one_with_other_rates_only(tw):
    ours = trained(tw)
    digest = ours.digest()
    groups = [{"params": "*.bias", "lr": 0.01}]
    for other, message in (
        (tw.optim.Adam(0.1), "differs in momentum, name from the rule"),
        (tw.optim.SGD(0.1), "differs in momentum"),
        (tw.optim.SGD(0.1, 0.9, nesterov=True), "differs in nesterov"),
        (tw.optim.SGD(0.1, 0.9, groups=groups), "groups hold other parameters"),
    ):
        with pytest.raises(ValueError, match=message):
            ours.optimizer = other
    with pytest.raises(TypeError, match=r"\[Trainer\] optimizer is 'sgd'"):
        ours.optimizer = "sgd"
    assert isinstance(ours.optimizer, tw.optim.SGD) and ours.digest() == digest
    ours.optimizer = tw.optim.SGD(0.5, momentum=0.25)
    assert ours.step(*data()).lr == 0.5
    assert tw.Trainer.from_state(ours.state_dict()).digest() == ours.digest()
    unbuilt = make(tw)
    unbuilt.optimizer = tw.optim.Adam(0.1)
    unbuilt.step(*data())


def test_tied_parameters_are_described_and_stay_tied(tw, tmp_path):
    nn = tw.nn
    net = nn.Sequential(
        nn.Linear(6, bias=False), nn.BatchNorm(), nn.Linear(6, bias=False), nn.BatchNorm(), nn.Linear(4)
    )
    net[2].weight, net[3].running_mean = net[0].weight, net[1].running_mean
    net[0].freeze()
    trainer = tw.Trainer(net, tw.losses.CrossEntropy(), tw.optim.SGD(0.1))
    trainer.step(*data())
    trainer.save(tmp_path)
    again = tw.Trainer.load(tmp_path)
    assert again.net[2].weight is again.net[0].weight and again.net[3].running_mean is again.net[1].running_mean
    assert again.net[3].gamma is not again.net[1].gamma and not again.net[2].weight.trainable
    for t in (trainer, again):
        t.step(*data())
    assert again.digest() == trainer.digest()
    state = trainer.state_dict()
    untied = nn.Sequential(
        nn.Linear(6, bias=False), nn.BatchNorm(), nn.Linear(6, bias=False), nn.BatchNorm(), nn.Linear(4)
    )
    with pytest.raises(ValueError, match=r"another network: 2\.weight is 0\.weight there, its own here"):
        tw.Trainer.from_state(state, net=untied)
    for path, first in (("2.weight", "9.weight"), ("9.weight", "0.weight"), ("2.weight", "2"), ("", "0.weight")):
        state["meta"]["network"]["tied"] = {path: first}
        with pytest.raises(ValueError, match=r"\[nn.build\] .* is tied to"):
            tw.Trainer.from_state(state)


def test_a_description_that_is_not_of_the_saved_trainer_is_refused(tw):
    trainer = trained(tw)
    state = trainer.state_dict()
    state["meta"]["network"]["parts"]["1"]["layer"] = "Tanh"
    with pytest.raises(ValueError, match="its digest is another"):
        tw.Trainer.from_state(state)
    with pytest.raises(ValueError, match="another network: layer '1' is a Tanh there, a ReLU here"):
        tw.Trainer.from_state(state, net=trainer.net)
    undescribed = {**state, "meta": {**state["meta"], "network": None}}
    assert tw.Trainer.from_state(undescribed, net=trainer.net).digest() == trainer.digest()
    del state["meta"]["config"]
    tw.Trainer.from_state(state)


def test_a_trainer_shows_itself_in_one_line(tw):
    trainer = make(tw)
    assert repr(trainer).startswith("Trainer(Sequential, not built yet, SGD(lr=0.1, momentum=0.9")
    trainer.fit(*data(), epochs=2, batch_size=16, verbose=0)
    text = repr(trainer)
    assert "92 parameters" in text and text.endswith("step 4, epoch 2)") and "\n" not in text
