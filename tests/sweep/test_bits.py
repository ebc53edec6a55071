"""A run of a sweep has the bits of the Trainer that it stands for: parameters, buffers and history, on any threads."""

import contextlib

import numpy as np
import pytest

ROWS, EPOCHS = 45, 3


def data(rows=ROWS, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 6)).astype(np.float32)
    return x, (np.abs(x).sum(1) > 4.5).astype(int) + (x[:, 0] > 0)


def network(tw, width=8, dropout=0.3):
    nn = tw.nn
    return nn.Sequential(
        *[nn.Linear(width), nn.BatchNorm(), nn.ReLU(), nn.Dropout(dropout)],
        nn.Linear(3, bias_init=lambda shape, dtype, seed, path: np.full(shape, 0.1 + seed / 100, dtype)),
    )


def alone(tw, net, optimizer, fit, **options):
    """The same training by itself: (trainer, history)."""
    x, y = data()
    trainer = tw.Trainer(net, tw.losses.CrossEntropy(), optimizer, metrics=["accuracy"], shards=8, threads=1, **options)
    with contextlib.suppress(tw.DivergedError):
        trainer.fit(x, y, **{"epochs": EPOCHS, "batch_size": 7, "verbose": 0, "validation_data": data(20, 1), **fit})
    return trainer


def assert_same(run, trainer):
    for kept, values in ((run.parameters(), trainer.parameters()), (run.buffers(), trainer.buffers())):
        assert kept.keys() == values.keys()
        for name, value in values.items():
            assert kept[name].tobytes() == value.tobytes(), (run.settings, name)
    found = trainer.history.history
    assert {"loss", "accuracy", "grad_norm", "lr", "val_loss", "val_accuracy"} == run.history.keys()
    for name, values in run.history.items():
        np.testing.assert_array_equal(values, np.asarray(found.get(name, [])), err_msg=f"{run.settings} {name}")
    assert run.updates == trainer.t


RATES = {
    "number": 0.1,
    "schedule": lambda step: 0.1 / (1 + step),
    "divergent": 3e38,
}


def test_the_precision_is_of_every_run_its_own(tw):
    x, y = data()
    fit = {"epochs": 2, "batch_size": 16}
    result = tw.sweep(
        *(network(tw), tw.losses.CrossEntropy(), lambda: tw.optim.SGD(0.1), x, y),
        over={"precision": ["bf16", "float32"], "seed": [0, 1]},
        **{**fit, "validation_data": data(20, 1), "metrics": ["accuracy"], "keep": "all", "verbose": 0},
    )
    for run in result:
        assert_same(run, alone(tw, network(tw), tw.optim.SGD(0.1), fit, **run.settings))
    assert not np.array_equal(result[0].history["loss"], result[2].history["loss"])
    assert result[1].trainer().precision == "bf16"
    with pytest.raises(ValueError, match="precision is 'bf16', expected 'float64'"):
        tw.sweep(
            *(network(tw), tw.losses.CrossEntropy(), tw.optim.SGD(0.1), x, y),
            **{**fit, "over": {"seed": [0]}, "dtype": "float64", "precision": "bf16", "verbose": 0},
        )


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("rate", RATES)
def test_every_run_has_the_bits_of_its_trainer(tw, rate, threads):
    lr = tw.schedules.Cosine(0.1, 15) if rate == "schedule" else RATES[rate]
    x, y = data()
    result = tw.sweep(
        lambda width: network(tw, width),
        tw.losses.CrossEntropy(),
        lambda momentum: tw.optim.SGD(lr, momentum=momentum, groups=[{"params": "*.bias", "lr": 0.05}]),
        *(x, y),
        over={"width": [8, 5], "momentum": [0.0, 0.9], "seed": [0, 3], "batch_size": [7, 16]},
        **{"epochs": EPOCHS, "validation_data": data(20, 1), "metrics": ["accuracy"]},
        **{"keep": "all", "threads": threads, "verbose": 0},
    )
    assert [run.index for run in result] == list(range(16))
    for run in result:
        width, momentum, seed, batch_size = run.settings.values()
        optimizer = tw.optim.SGD(lr, momentum=momentum, groups=[{"params": "*.bias", "lr": 0.05}])
        trainer = alone(tw, network(tw, width), optimizer, {"batch_size": batch_size}, seed=seed)
        assert_same(run, trainer)
        assert run.status == ("diverged" if rate == "divergent" else "finished")


def test_options_of_the_training_may_be_swept(tw):
    x, y = data()
    runs = [
        {"epochs": 2, "max_norm": 0.01},
        {"shuffle": False, "clip_value": 0.001},
        {"accumulate": 3, "max_layer_norm": 0.01},
        {"on_nonfinite": "skip", "lr": 3e38},
    ]
    result = tw.sweep(
        *(network(tw), tw.losses.CrossEntropy(), lambda lr=0.1: tw.optim.Adam(lr), x, y),
        over=runs,
        **{"epochs": EPOCHS, "batch_size": 9, "validation_data": data(20, 1), "metrics": ["accuracy"]},
        **{"keep": "all", "threads": 2, "verbose": 0},
    )
    for run in result:
        rest = dict(run.settings)
        fit = {"batch_size": 9, **{k: rest.pop(k) for k in ("epochs", "shuffle") if k in rest}}
        assert_same(run, alone(tw, network(tw), tw.optim.Adam(rest.pop("lr", 0.1)), fit, **rest))
