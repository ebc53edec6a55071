"""`thalweg sweep`: the trainings of `thalweg train` for many choices at once, from the lists to the table."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import thalweg as tw

from ..console import Screen
from ..run import new_folder
from . import networks
from .config import ConfigError, TrainConfig
from .interrupt import EXIT_CODES, Stopped
from .job import check_batch_size, digits, folder_errors

_KINDS: dict[str, type] = {
    "model": str,
    "optimizer": str,
    "lr": float,
    "max_norm": float,
    "batch_size": int,
    "precision": str,
}


def configurations(lists: dict[str, str], seeds: int, epochs: int) -> tuple[list[str], list[TrainConfig]]:
    """Return the names that are swept, and the configuration of every run. Raises: ConfigError."""
    if seeds < 1:
        raise ConfigError("seeds", seeds, "a whole number from 1 on")
    values = {name: _parsed(name, text) for name, text in lists.items()}
    names = [*values, "seed"]
    runs = itertools.product(*values.values(), range(seeds))
    return names, [TrainConfig(epochs=epochs, **dict(zip(names, run, strict=True))) for run in runs]


class SweepJob:
    """One sweep, with the folder of its tables."""

    def __init__(self, names: list[str], configs: list[TrainConfig], threads: int | None, out: Path | None) -> None:
        self.configs, self.threads, self.screen = configs, threads, Screen()
        self.names = list(dict.fromkeys([*names[:-1], "lr", "seed"]))  # lr may be the optimizer's usual one
        self.data, self.validation, _ = digits()
        for config in configs:
            check_batch_size(config, self.data)
        with folder_errors(out or Path("runs") / "sweep"):
            self.folder = new_folder(Path("runs") / "sweep") if out is None else _made(out)

    def run(self) -> None:
        """Train, write, print. Raises: Stopped, after that, when a signal came."""
        with _signals() as came:
            result = self._train()
        result.to_csv(self.folder / "runs.csv")
        result.to_jsonl(self.folder / "runs.jsonl")
        say = self.screen.line
        say(f"\n{result}\n")
        others = [name for name in self.names if name != "seed"]
        if len(result) > len(result.by(*others)) > 1:
            say(f"{result.by(*others)}\n")
        say(f"in {self.folder}: runs.csv, runs.jsonl")
        if result.interrupted:
            raise Stopped(came[0])

    def _train(self) -> tw.SweepResult:
        images, usual = len(self.data[1]), self.configs[0]
        fixed = {
            name: getattr(usual, name) for name in ("batch_size", "max_norm", "precision") if name not in self.names
        }

        def optimizer(lr: float, epochs: int, batch_size: int, optimizer: str = usual.optimizer) -> Any:
            return networks.optimizer(TrainConfig(optimizer=optimizer, lr=lr), epochs * -(-images // batch_size))

        return tw.sweep(
            lambda model=usual.model: networks.network(model),
            tw.losses.CrossEntropy(label_smoothing=0.1),
            optimizer,
            *self.data,
            over=[{name: getattr(config, name) for name in self.names} for config in self.configs],
            epochs=usual.epochs,
            validation_data=self.validation,
            metrics=["accuracy"],
            threads=self.threads,
            keep="none",
            **fixed,
        )


def _parsed(name: str, text: str) -> list[Any]:
    kind = _KINDS[name]
    try:
        return [kind(part.strip()) for part in text.split(",")]
    except ValueError:
        words = "whole numbers" if kind is int else "numbers"
        raise ConfigError(name, text, f"{words} with commas between them, such as 1,2") from None


def _made(out: Path) -> Path:
    if (out / "runs.csv").exists():
        raise ConfigError("out", str(out), "a folder that holds no sweep yet")
    out.mkdir(parents=True, exist_ok=True)
    return out


@contextmanager
def _signals() -> Iterator[list[signal.Signals]]:
    """Let SIGTERM end the sweep as Ctrl-C does; the signals that came are in the list. Raises: Stopped."""
    came: list[signal.Signals] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(signal.Signals(number))
        raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in EXIT_CODES}
    try:
        yield came
    except KeyboardInterrupt:  # before the first run began: nothing is lost
        raise Stopped(came[0] if came else signal.SIGINT) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
