"""The table of a network: its columns add up to the totals, whatever holds the parameters."""

import numpy as np


def summary_of(tw, net):
    x, y = np.ones((8, 6), np.float32), np.arange(8) % 4
    return tw.Trainer(net, tw.losses.CrossEntropy(), tw.optim.SGD(0.1)).build(x, y).summary()


def adds_up(summary):
    return (
        sum(row.parameters for row in summary.rows) == summary.parameters
        and sum(row.mult_adds for row in summary.rows) == summary.mult_adds
    )


def test_layers_of_layers_have_rows_for_what_they_hold(tw):
    class Scaled(tw.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = tw.nn.Linear(6)
            self.scale = tw.nn.Parameter((6, 6))

        def forward(self, x):
            return tw.ops.matmul(self.inner(x), self.scale)

    summary = summary_of(tw, tw.nn.Sequential(Scaled(), tw.nn.Linear(4)))
    assert [(r.path, r.kind, r.parameters) for r in summary.rows] == [
        ("0", "Scaled", 36), ("0.inner", "Linear", 42), ("1", "Linear", 28),
    ]  # fmt: skip
    assert adds_up(summary) and "Scaled" in str(summary)


def test_shared_layers_and_parameters_count_once(tw):
    nn = tw.nn
    twice = nn.Linear(6)
    net = nn.Sequential(twice, nn.ReLU(), twice, nn.Linear(6), nn.Linear(4))
    net[3].weight = twice.weight
    summary = summary_of(tw, net)
    assert adds_up(summary) and summary.parameters == 42 + 6 + 28
    assert [(r.kind, r.parameters) for r in summary.rows] == [
        ("Linear", 42), ("ReLU", 0), ("Linear (shared)", 0), ("Linear (shared)", 6), ("Linear", 28),
    ]  # fmt: skip


def test_memory_is_bytes_of_arenas_only(tw):
    trainer = tw.Trainer(tw.nn.Linear(3), tw.losses.CrossEntropy(), tw.optim.SGD(lr=0.1))
    trainer.step(np.ones((4, 2), np.float32), np.zeros(4, np.int32))
    memory = trainer.summary().memory
    assert memory and all(name.startswith("bytes_") for name in memory)
