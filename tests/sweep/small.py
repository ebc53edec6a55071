"""A small sweep, for tests of what happens around the trainings."""

import numpy as np


def data(rows=40, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 5)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(int)


def sweep(tw, over, **options):
    x, y = options.pop("data", data())
    arguments = {"epochs": 2, "batch_size": 8, "metrics": ["accuracy"], "verbose": 0, "threads": 2, **options}
    net = arguments.pop("net", tw.models.mlp((8,), 2))
    loss = arguments.pop("loss", tw.losses.CrossEntropy())
    optimizer = arguments.pop("optimizer", lambda lr=0.1: tw.optim.SGD(lr, momentum=0.9))
    return tw.sweep(net, loss, optimizer, x, y, over=over, **arguments)
