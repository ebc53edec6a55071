"""The choices of a run: allowed ranges, files with mistakes, what may change when a run is resumed."""

import dataclasses
import math

import pytest
from thalweg.cli.config import MODELS, OPTIMIZERS, ConfigError, TrainConfig


def test_every_combination_of_names_is_a_run_with_a_learning_rate():
    for model in MODELS:
        for optimizer in OPTIMIZERS:
            lr = TrainConfig(model=model, optimizer=optimizer).lr
            assert lr is not None and 0 < lr < 1


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("model", "vgg", "one of cnn, mlp, lenet5, resnet20"),
        ("optimizer", "SGD", "one of sgd, adam"),
        ("precision", "fp16", "one of float32, bf16"),
        ("precision", None, "one of float32, bf16"),
        ("lr", 0, "above 0"),
        ("lr", -1.0, "above 0"),
        ("lr", math.nan, "above 0"),
        ("lr", math.inf, "at most 1000"),
        ("lr", True, "above 0"),
        ("lr", "0.1", "above 0"),
        ("max_norm", 0, "above 0"),
        ("max_norm", math.inf, "a finite number"),
        ("max_norm", "1", "a finite number"),
        ("max_norm", True, "a finite number"),
        ("epochs", 0, "from 1 to 1000000"),
        ("epochs", 1.5, "a whole number"),
        ("batch_size", -64, "from 1"),
        ("batch_size", 1 << 70, "from 1"),
        ("seed", -1, "from 0"),
        ("threads", -2, "from 0 to 1024"),
        ("world", 0, "from 1 to 1024"),
        ("shards", 12, "a power of two, such as"),
        ("shards", 0, "from 1"),
    ],
)
def test_values_out_of_range_name_the_key_the_value_and_the_range(key, value, expected):
    with pytest.raises(ConfigError, match=expected) as caught:
        TrainConfig(**{key: value})
    assert caught.value.key == key and caught.value.exit_code == 2


@pytest.mark.parametrize("content", [[], None, "cnn", {"modell": "cnn"}, {"lr": math.nan}, {"epochs": "3"}])
def test_files_with_mistakes_are_refused(content):
    with pytest.raises(ConfigError):
        TrainConfig.read(content)


def test_a_configuration_reads_back():
    config = TrainConfig(optimizer="adam", seed=7)
    assert TrainConfig.read(config.asdict()) == config


def test_threads_and_ranks_may_change_on_resuming_and_nothing_else():
    config = TrainConfig()
    assert config.resumed({"threads": 2, "world": 4}) == dataclasses.replace(config, threads=2, world=4)
    assert config.resumed({"seed": 0}) == config
    with pytest.raises(ConfigError, match="epochs is 30, expected 20, as the run that is resumed"):
        config.resumed({"epochs": 30})
