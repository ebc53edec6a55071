"""What a training run is: every choice with its allowed values, checked here for the command line and for files.

The configuration of a run is stored in its checkpoints; threads and world are no part of the mathematics and may change
when it is resumed.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

MODELS = ("cnn", "mlp", "lenet5", "resnet20")
PRECISIONS = ("float32", "bf16")
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "adagrad")
LEARNING_RATES = {"sgd": 0.1, "adam": 0.003, "adamw": 0.003, "rmsprop": 0.003, "adagrad": 0.03}
WHOLE_NUMBERS = {  # allowed ranges
    "epochs": (1, 1_000_000),
    "batch_size": (1, 1 << 31),
    "seed": (0, (1 << 63) - 1),
    "threads": (0, 1024),
    "world": (1, 1024),
    "shards": (1, 1 << 20),
}
CHANGEABLE = ("threads", "world")  # when a run is resumed: the bits do not depend on them


class UsageError(ValueError):
    """Choices that the engine refuses."""

    exit_code = 2


class ConfigError(UsageError):
    """A choice outside its range."""

    def __init__(self, key: str, value: Any, expected: str) -> None:
        super().__init__(f"{key} is {value!r}, expected {expected}")
        self.key, self.value, self.expected = key, value, expected


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The choices of `thalweg train`. lr None: the optimizer's usual one; threads 0: all cores, shared by the ranks;
    max_norm None: the gradient is not clipped."""

    model: str = "cnn"
    optimizer: str = "sgd"
    lr: float | None = None
    epochs: int = 20
    batch_size: int = 64
    seed: int = 0
    threads: int = 0
    world: int = 1
    shards: int = 8
    max_norm: float | None = None
    precision: str = "float32"

    def __post_init__(self) -> None:
        _check_choice("model", self.model, MODELS)
        _check_choice("optimizer", self.optimizer, OPTIMIZERS)
        _check_choice("precision", self.precision, PRECISIONS)
        if self.lr is None:
            object.__setattr__(self, "lr", LEARNING_RATES[self.optimizer] * (0.2 if self.model == "lenet5" else 1))
        if isinstance(self.lr, bool) or not isinstance(self.lr, (int, float)) or not 0 < self.lr <= 1000:
            raise ConfigError("lr", self.lr, "a number above 0, at most 1000")
        object.__setattr__(self, "lr", float(self.lr))
        if self.max_norm is not None:
            wrong = isinstance(self.max_norm, bool) or not isinstance(self.max_norm, (int, float))
            if wrong or not 0 < self.max_norm < math.inf:
                raise ConfigError("max_norm", self.max_norm, "a finite number above 0")
            object.__setattr__(self, "max_norm", float(self.max_norm))
        for key, (lowest, highest) in WHOLE_NUMBERS.items():
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
                raise ConfigError(key, value, f"a whole number from {lowest} to {highest}")
        if self.shards & (self.shards - 1):
            near = 1 << round(math.log2(self.shards))
            raise ConfigError("shards", self.shards, f"a power of two, such as {near}")

    @classmethod
    def read(cls, values: Any) -> TrainConfig:
        """From decoded JSON. Raises: ConfigError for unknown keys, wrong types and values out of range."""
        if not isinstance(values, dict):
            raise ConfigError("the configuration", values, "an object of choices")
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                raise ConfigError(str(key), values[key], f"one of the keys {', '.join(known)}")
        return cls(**values)

    def resumed(self, changes: dict[str, Any]) -> TrainConfig:
        """The same run with other threads or ranks."""
        for key, value in changes.items():
            if key not in CHANGEABLE and value != getattr(self, key):
                raise ConfigError(key, value, f"{getattr(self, key)!r}, as the run that is resumed was started with")
        return dataclasses.replace(self, **changes)

    def asdict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def _check_choice(key: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(key, value, f"one of {', '.join(allowed)}")
