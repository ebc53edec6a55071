"""`thalweg train`, from the header to the test result: one run with its folder, started or resumed."""

from __future__ import annotations

import contextlib
import errno
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import thalweg as tw

from .. import checkpoint
from ..callbacks import Callback
from ..console import Screen, bytes_text, quantity
from ..run import COLUMNS, RunExistsError, RunFolder, new_folder
from . import networks
from .config import CHANGEABLE, ConfigError, TrainConfig, UsageError
from .interrupt import StopFlag, Stopped

# Of the errors of making a folder, those that another --out avoids; the others (a full disk) are of the machine.
_WRONG_FOLDER = {
    errno.EACCES, errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT,
    errno.ENOTDIR, errno.EPERM, errno.EROFS,
}  # fmt: skip


Rows = tuple[np.ndarray, np.ndarray]


def digits() -> tuple[Rows, Rows, Rows]:
    """The digits to train on, to validate with, and to test with."""
    (x, y), test = tw.data.digits()
    held_out = np.arange(len(y)) % 10 == 9  # for the figures named val_: never trained on
    return (x[~held_out], y[~held_out]), (x[held_out], y[held_out]), test


def check_batch_size(config: TrainConfig, data: Rows) -> None:
    """Raises: ConfigError for a batch of more images than there are."""
    images = len(data[1])
    if config.batch_size > images:
        raise ConfigError("batch_size", config.batch_size, f"a whole number from 1 to {images}, the images")


@contextlib.contextmanager
def folder_errors(path: Path) -> Iterator[None]:
    """Turns what another --out avoids into a ConfigError."""
    try:
        yield
    except OSError as error:
        if error.errno not in _WRONG_FOLDER:
            raise
        raise ConfigError("out", str(path), f"a folder that can be made and written: {error.strerror}") from error


class Job(Callback):
    """One run. As a callback of its trainer it draws, writes metrics, saves, and obeys signals between steps."""

    folder: RunFolder

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.screen, self.stop = config, Screen(), StopFlag()
        self.screen.rows = "images"
        self.data, self.validation, self.test = digits()
        check_batch_size(config, self.data)
        self.batches = -(-len(self.data[1]) // config.batch_size)
        self.trainer = self._make_trainer()
        self._saved = -1  # the step of the newest checkpoint

    @classmethod
    def start(cls, config: TrainConfig, out: Path | None) -> Job:
        """A new run, in `out` or in a new folder under runs/."""
        job = cls(config)
        path = out if out is not None else Path("runs") / f"digits-{config.model}"
        with folder_errors(path):
            try:
                job.folder = RunFolder(path if out is not None else new_folder(path))
                job.folder.create(config.asdict())
            except RunExistsError as error:
                hint = f"go on with it by --resume {shlex.quote(str(path))}, or name another folder with --out"
                raise UsageError(f"{error}: {hint}") from None
        return job

    @classmethod
    def resume(cls, path: Path, changes: dict[str, Any], fallback: bool) -> Job:
        """The run in `path`, from its newest checkpoint on, or from the beginning where it has none yet."""
        folder = RunFolder(path)
        if (path / "config.json").exists() and not checkpoint.has_checkpoint(path):
            return cls._restart(folder, changes)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", checkpoint.CheckpointWarning)
            try:
                state, stored, rows = folder.load(resume="auto" if fallback else "latest")
            except checkpoint.CheckpointError as error:
                raise checkpoint.CheckpointError(str(error).replace(checkpoint.FALLBACK, "--fallback")) from error
        _check_config_file(folder, stored)
        job = cls(TrainConfig.read(stored).resumed(changes))
        for warning in caught:
            job.screen.line(str(warning.message))
        job.trainer.load_state_dict(state)
        job.folder = folder
        folder.resume(job.config.asdict(), rows)
        return job

    @classmethod
    def _restart(cls, folder: RunFolder, changes: dict[str, Any]) -> Job:
        """The run of a folder that was left before its first checkpoint."""
        job = cls(_read_config(folder).resumed(changes))
        job.folder = folder
        folder.resume(job.config.asdict(), [])
        job.screen.line(f"{folder.path} has no checkpoint yet: the run starts anew from its config.json")
        return job

    def run(self) -> None:
        """Trains to the end, then tests. Raises: Stopped, after saving, when a signal came; DivergedError."""
        self._show_header()
        try:
            with self.stop:
                self._train()
                self.screen.end_epoch()
                self._show_result()
        except Stopped as stop:
            self._save()
            self.screen.line(f"{stop}: saved after step {self.trainer.t}. To go on:")
            self.screen.line(f"  thalweg train --resume {shlex.quote(str(self.folder.path))}")
            raise
        except tw.DivergedError as error:
            raise tw.DivergedError(f"{error}\n{self._advice()}") from error
        finally:
            self.screen.end_epoch()

    # The callback

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.screen.start_epoch(epoch + 1, self.config.epochs, self.batches)

    def on_progress(self, batch: int, batches: int, logs: dict[str, Any]) -> None:
        self.screen.advance(batch, logs)
        self.stop.check()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        row = {"epoch": epoch + 1, "step": self.trainer.t, **(logs or {})}
        self.folder.add({key: row[key] for key in COLUMNS if key in row})
        self._save()
        self.screen.end_epoch()
        self.screen.line(f"epoch {epoch + 1:>3}/{self.config.epochs}  {self.screen.progress(row)}")
        self.stop.check()

    # Parts of run

    def _make_trainer(self) -> tw.Trainer:
        config = self.config
        try:
            trainer = tw.Trainer(
                networks.network(config.model),
                loss=tw.losses.CrossEntropy(label_smoothing=0.1),
                optimizer=networks.optimizer(config, config.epochs * self.batches),
                metrics=["accuracy"],
                seed=config.seed,
                threads=config.threads,
                world=config.world,
                shards=config.shards,
                max_norm=config.max_norm,
                precision=config.precision,
            )
            return trainer.build(*self.data)
        except (TypeError, ValueError) as error:
            raise UsageError(str(error)) from error

    def _train(self) -> None:
        if self.trainer.t == 0:
            self._save()  # so that a run can be resumed from its first step on
        self.trainer.fit(
            *self.data,
            epochs=self.config.epochs,
            batch_size=self.config.batch_size,
            validation_data=self.validation,
            verbose=0,  # the screen of this job shows more
            callbacks=[self],
        )

    def _save(self, *, again: bool = False) -> None:
        if self.trainer.t == self._saved and not again:
            return
        if self.config.world > 1:
            self.trainer.digest()  # which finds replicas that differ
        self.folder.save(self.trainer.state_dict(), self.config.asdict())
        self._saved = self.trainer.t

    def _show_header(self) -> None:
        config, say = self.config, self.screen.line
        threads = config.threads or max(1, tw._core.cpu_threads() // config.world)
        say(
            f"thalweg {tw.__version__}   {tw._core.isa()}   threads {threads}   ranks {config.world}   "
            f"shards {config.shards}   seed {config.seed}"
        )
        images = [len(labels) for _, labels in (self.data, self.validation, self.test)]
        say("digits 8x8: {:,} images to train, {:,} to validate, {:,} to test".format(*images))
        mode = f", {config.precision}" if config.precision != "float32" else ""
        clip = f", max_norm {config.max_norm:g}" if config.max_norm is not None else ""
        say(f"{config.optimizer}, lr {config.lr:g}{clip}, batch {config.batch_size}, {config.epochs} epochs{mode}")
        say(f"run folder {self.folder.path}")
        say()
        x, y = self.data
        self.trainer.gradients(x[: config.batch_size], y[: config.batch_size])  # lays out the memory of a step
        summary = self.trainer.summary()
        rows = [
            (row.path, row.kind, "x".join(map(str, row.shape[1:])), f"{row.parameters:,}", f"{row.mult_adds:,}")
            for row in summary.rows
        ]
        self.screen.table(("layer", "kind", "output", "parameters", "mult-adds"), rows)
        mult_adds = quantity(sum(row.mult_adds for row in summary.rows))
        memory = ", ".join(f"{name.removeprefix('bytes_')} {bytes_text(n)}" for name, n in summary.memory.items())
        say(f"{summary.parameters:,} parameters, {mult_adds} mult-adds an image")
        say(f"memory: {memory}")
        say()

    def _show_result(self) -> None:
        x, y = self.test
        result = self.trainer.evaluate(x, y)
        if not any("test_accuracy" in row for row in self.folder.rows):
            self.folder.add({"epoch": self.trainer.epoch, "step": self.trainer.t, "test_accuracy": result["accuracy"]})
            self._save(again=True)
        folder = shlex.quote(str(self.folder.path))
        right = round(result["accuracy"] * len(y))
        self.screen.line()
        self.screen.line(
            f"test accuracy {result['accuracy']:.2%}  ({right} of {len(y)} images), loss {result['loss']:.4f}"
        )
        self.screen.line(f"in {folder}: config.json, metrics.csv, metrics.jsonl, checkpoints")
        self.screen.line()
        self.screen.line("What to try next:")
        self.screen.line("  thalweg train --world 2       two ranks: the same bits")
        self.screen.line("  thalweg train --model resnet20 --optimizer adamw")
        self.screen.line(
            f"  python -c \"import thalweg as tw; print(tw.Trainer.load('{self.folder.path}').summary())\""
        )

    def _advice(self) -> str:
        clip = self.config.max_norm
        limit = ", or --max-norm 1" if clip is None else f", or a lower --max-norm than {clip:g}"
        advice = f"start again with a lower --lr than {self.config.lr:g}{limit}"
        return f"The last good checkpoint stays in {self.folder.path}; {advice}."


def _read_config(folder: RunFolder) -> TrainConfig:
    try:
        return TrainConfig.read(folder.config())
    except ValueError as error:
        raise UsageError(f"{folder.path / 'config.json'}: {error}") from None


def _check_config_file(folder: RunFolder, stored: dict[str, Any]) -> None:
    """A configuration edited by hand is refused, not silently ignored: the checkpoint's is the one that counts."""
    try:
        found = _read_config(folder).asdict()
    except OSError:
        return  # it is written again
    for key, value in stored.items():
        if key not in CHANGEABLE and found.get(key) != value:
            expected = f"{value!r}, as the checkpoint beside it was made with: a resumed run keeps its choices"
            raise ConfigError(f"{folder.path / 'config.json'}: {key}", found.get(key), expected)
