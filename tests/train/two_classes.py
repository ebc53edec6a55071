"""A small training on two classes, for tests of what happens around the steps."""

import numpy as np


def data(rows=64):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((rows, 5))
    return x, (x[:, 0] > 0).astype(int)


def make(tw, lr=0.1, **options):
    return tw.Trainer(
        tw.models.mlp((8,), 2), tw.losses.CrossEntropy(), tw.optim.SGD(lr), metrics=["accuracy"], threads=1, **options
    )
