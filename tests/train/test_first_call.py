"""The first data fix the shapes; data that don't fit fix nothing, and a last batch that can't be trained is found
first."""

import numpy as np
import pytest


def data(rows=20):
    rng = np.random.default_rng(1)
    return rng.standard_normal((rows, 5)).astype("float32"), rng.integers(0, 3, rows)


def make(tw, *layers, **options):
    layers = layers or (tw.nn.Linear(8), tw.nn.ReLU())
    return tw.Trainer(
        tw.nn.Sequential(*layers, tw.nn.Linear(3)), tw.losses.CrossEntropy(), tw.optim.SGD(0.1), **options
    )


WRONG = {
    "rows that differ": lambda x, y: (x[:, :2], y[:5]),
    "no rows": lambda x, y: (x[:0, :2], y[:0]),
    "labels out of range": lambda x, y: (x[:, :2], y + 9),
    "labels that are no numbers": lambda x, y: (x[:, :2], y.astype(str)),
    "no targets": lambda x, y: (x[:, :2], None),
    "no inputs": lambda x, y: ((), y),
    "NaN": lambda x, y: (x[:, :2] * np.nan, y),
}


@pytest.mark.parametrize("method", ["step", "fit", "evaluate", "gradients", "batch_loss"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_first_call_that_fails_fixes_nothing(wrong, method, tw):
    trainer, untouched = make(tw), make(tw)
    options = {"epochs": 1, "batch_size": 10, "verbose": 0} if method == "fit" else {}
    with pytest.raises((TypeError, ValueError)):
        getattr(trainer, method)(*WRONG[wrong](*data()), **options)
    for t in (trainer, untouched):
        t.step(*data())
    assert trainer.digest() == untouched.digest()


def test_build_refuses_what_is_no_batch(tw):
    x, y = data()
    for given, message in (((x, y[:7]), "y has 7 rows, x has 20"), ((x[:0], y[:0]), "x has no rows"),
                           (((x, x[:3]), y), r"x\[1\] has 3 rows")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            make(tw).build(*given)


def test_a_failure_after_training_began_keeps_the_trainer(tw):
    def refuse(epoch, logs):
        raise ValueError("no")

    trainer = make(tw)
    with pytest.raises(ValueError, match="no"):
        trainer.fit(*data(), epochs=2, batch_size=10, callbacks=tw.callbacks.LambdaCallback(on_epoch_end=refuse))
    assert trainer.t == 2 and trainer.epoch == 1


@pytest.mark.parametrize(
    ("rows", "batch_size", "accumulate", "message"),
    [
        (17, 8, 1, "the last batch has 1 row: the batch norm of layer '1'"),
        (16, 1, 1, "a batch has 1 row: the batch norm of layer '1'"),
        (19, 8, 2, r"the last batch has 3 rows in 2 pieces \(accumulate\): the batch norm of layer '1'"),
    ],
)
def test_a_last_batch_that_batch_norm_cannot_train_is_found_before_the_first(rows, batch_size, accumulate, message, tw):
    x, y = data(rows)
    trainer = make(tw, tw.nn.Linear(8), tw.nn.BatchNorm(), tw.nn.ReLU(), accumulate=accumulate)
    for _ in range(2):
        with pytest.raises(ValueError, match=rf"\[fit\] {message} .*; {rows} rows by batch_size {batch_size}"):
            trainer.fit(x, y, epochs=1, batch_size=batch_size)
    assert trainer.t == 0
    trainer.fit(x, y, epochs=1, batch_size=rows, verbose=0)
    assert trainer.epoch == 1


def test_images_have_enough_values_in_one_row(tw):
    nn = tw.nn
    trainer = make(tw, nn.Conv2d(4, 3), nn.BatchNorm(), nn.ReLU(), nn.Flatten())
    x = np.random.default_rng(0).standard_normal((5, 6, 6, 2))
    trainer.fit(x, np.arange(5) % 3, epochs=1, batch_size=4, verbose=0)
    assert trainer.t == 2
