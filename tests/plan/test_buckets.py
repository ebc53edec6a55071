"""Which gradients ranks exchange together, and when: told by the instructions of a step."""

import numpy as np
import pytest
import thalweg as tw
from thalweg import nn

pytestmark = pytest.mark.timeout(60)
BUCKET, END = "all_reduce of gradients", "end of the all_reduces"


def rows_of(world, *widths):
    net = nn.Sequential(*[layer for w in widths[1:-1] for layer in (nn.Linear(w), nn.ReLU())], nn.Linear(widths[-1]))
    trainer = tw.Trainer(net, tw.losses.CrossEntropy(), tw.optim.SGD(lr=0.1), seed=0, world=world, threads=1)
    x, y = np.zeros((16, widths[0]), "f4"), np.zeros(16, int)
    trainer.build(x, y)
    return tw.profile(trainer, x, y, repeats=1).rows


def test_a_large_gradient_is_exchanged_before_backward_goes_on():
    ops = [(row.op, row.path) for row in rows_of(2, 8, 1100, 1100, 5)]
    at = ops.index(("linear_backward_weight", "2"))
    assert ops[at + 1][0] == BUCKET
    assert at < ops.index(("linear_backward_input + relu_backward", "2"))
    assert ops.index(("reduce_sum", "2")) < at  # the small one goes along
    assert ops[-1][0] == END and [op for op, _ in ops].count(BUCKET) == 2


def test_small_networks_have_one_bucket_of_neighbours():
    rows = rows_of(2, 30, 40, 5)
    (bucket,) = [row for row in rows if row.op == BUCKET]
    assert rows.index(bucket) == len(rows) - 2
    padded = [-(-n // 16) * 16 for n in (40 * 30, 40, 5 * 40)]  # each tensor fills its cache lines
    assert bucket.shape == (sum(padded) + 5,)


def test_one_rank_exchanges_nothing():
    assert not {BUCKET, END} & {row.op for row in rows_of(1, 30, 40, 5)}
