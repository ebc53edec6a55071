"""Containers: lists, dicts, slices; what a module holds; layers as text."""

import numpy as np
import pytest


def trainer(tw, net):
    return tw.Trainer(net, tw.losses.MSE(), tw.optim.SGD(0.1), dtype="float64", threads=1)


def rows():
    return tuple(np.random.default_rng(0).standard_normal((2, 6, 4)))


def test_lists_and_dicts_inside_a_layer_of_ones_own(tw):
    nn = tw.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(3), nn.Linear(5)]).append(nn.Linear(4))
            self.heads = nn.ModuleDict({"a": nn.Linear(4, bias=False)})
            self.heads["b"] = nn.Linear(4, bias=False)

        def forward(self, x):
            for layer in self.layers:
                x = tw.ops.tanh(layer(x))
            return self.heads["a"](x) + self.heads["b"](x)

    net = Net()
    names = [*(f"layers.{i}.{p}" for i in range(3) for p in ("weight", "bias")), "heads.a.weight", "heads.b.weight"]
    assert list(trainer(tw, net).build(*rows()).parameters()) == names
    assert [name for name, _ in net.named_parameters()] == names and len(list(net.parameters())) == len(names)
    assert len(net.layers) == 3 and net.layers[-1] is list(net.layers)[2] and list(net.heads) == ["a", "b"]
    assert "a" in net.heads and "c" not in net.heads and dict(net.heads.items())["b"] is net.heads["b"]
    assert [name for name, _ in net.named_children()] == ["layers", "heads"] and len(list(net.modules())) == 8
    tw.gradcheck(net, (rows()[0],))
    with pytest.raises(NotImplementedError, match="ModuleList defines no forward"):
        trainer(tw, nn.Sequential(net.layers)).build(*rows())


def test_slices_of_a_sequential_share_its_layers(tw):
    nn = tw.nn
    net = nn.Sequential(nn.Linear(3), nn.Tanh(), nn.Linear(4))
    assert net.append(nn.Tanh()) is net and len(net) == 4 and isinstance(net[3], nn.Tanh)
    tail = net[1:3]
    assert type(tail) is nn.Sequential and list(tail) == [net[1], net[2]]
    tail.append(nn.Linear(4))  # beside the names that the slice kept
    t = trainer(tw, tail).build(*rows())
    assert list(t.parameters()) == ["2.weight", "2.bias", "3.weight", "3.bias"]
    assert tw.nn.describe(tw.nn.build(tw.nn.describe(tail))) == tw.nn.describe(tail)
    assert type(nn.ModuleList(net)[::2]) is nn.ModuleList and len(net) == 4
    with pytest.raises(IndexError):
        net[9]


def test_shared_parts_are_listed_once(tw):
    nn = tw.nn
    layer = nn.Linear(4)
    net = nn.Sequential(layer, nn.Tanh(), layer)
    assert len(list(net.parameters())) == 2 and len(list(net.modules())) == 3 and len(net) == 3


def test_unfrozen_parameters_move_again(tw):
    nn = tw.nn
    net = nn.Sequential(nn.Linear(8).freeze(), nn.Tanh(), nn.Linear(4))
    assert net.unfreeze() is net and all(p.trainable for p in net.parameters())
    t = trainer(tw, net).build(*rows())
    before = t.parameters()
    t.step(*rows())
    assert all((before[name] != value).any() for name, value in t.parameters().items())


def test_text_shows_what_is_not_usual(tw):
    nn, init = tw.nn, tw.init
    for layer, text in {
        nn.Linear(3): "Linear(out_features=3)",
        nn.Linear(3, bias=False): "Linear(out_features=3, bias=False)",
        nn.Linear(
            3, weight_init=init.lecun_normal()
        ): "Linear(out_features=3, weight_init=normal(variance=1.0/fan_in))",
        nn.Conv2d(8, 3, padding=1): "Conv2d(out_channels=8, kernel_size=[3, 3], padding=1)",
        nn.Conv2d(8, (3, 1), stride=2): "Conv2d(out_channels=8, kernel_size=[3, 1], stride=[2, 2])",
        nn.MaxPool2d(2): "MaxPool2d(kernel_size=[2, 2])",
        nn.MaxPool2d(2, stride=1): "MaxPool2d(kernel_size=[2, 2], stride=[1, 1])",
        nn.BatchNorm(): "BatchNorm()",
        nn.BatchNorm(eps=0): "BatchNorm(eps=0.0)",
        nn.LogSoftmax(1): "LogSoftmax(dim=1)",
    }.items():
        assert repr(layer) == text
    assert repr(init.truncated_normal(0.02)) == "truncated_normal(mean=0.0, std=0.02)"
    assert (repr(init.zeros()), repr(init.uniform())) == ("constant(0.0)", "uniform(low=-0.05, high=0.05)")
