"""Trainer: a network, a loss and an optimizer, and everything that happens to them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _core, arrays, fork, ops, optim, transforms, tree
from .. import metrics as metrics_module
from ..callbacks import Callback, Progress
from ..history import History
from ..nn.functional import functional_call
from ..nn.module import Module
from ..ops.axes import integer
from ..world import checked_size, default_size
from . import checks, state
from .batch import Door, as_arrays
from .rates import StepRates
from .record import Recorded, Spec, complete, initial_buffers, initial_parameters, record
from .report import StepReport
from .run import EpochRunner, Position, survives
from .summary import Summary, summarise


class Trainer:
    """Trains a network: one native call a step, on one rank or several, with the same bits on any number of threads.

    net: an nn.Module. loss: a function (prediction, target) of thalweg.ops, such as losses.CrossEntropy().
    optimizer: one of thalweg.optim. metrics: functions or names, such as ["accuracy"].
    seed keys initial values, the order of rows and dropout. dtype: "float32" or "float64". world: ranks as threads of
    this process (by default that of `with thalweg.world(n)`, or 1); shards: fixed slices of every batch, a power of
    two up to 1024, whose sums fold in a fixed tree: results are the same on 1, 2, 4, ... up to `shards` ranks. threads:
    of each rank, 0 for the cores shared evenly. max_norm: limit of the whole gradient's norm; max_layer_norm: then of
    each parameter's; clip_value: then of every element.
    on_nonfinite: "raise" (DivergedError) or "skip" the update. accumulate: pieces that a batch is computed in, to
    save memory. The network is recorded when the first data come (or by build), which fixes the shapes of rows.
    Raises: TypeError and ValueError for arguments of other types or outside their ranges.
    """

    def __init__(
        self,
        net: Module,
        loss: Callable[..., Any],
        optimizer: optim.Optimizer,
        *,
        metrics: Sequence[Any] = (),
        seed: int = 0,
        dtype: Any = "float32",
        world: int | None = None,
        shards: int = 8,
        threads: int = 0,
        max_norm: float | None = None,
        max_layer_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: str = "raise",
        accumulate: int = 1,
    ) -> None:
        fork.check()
        checks.parts(net, loss, optimizer)
        self.net, self.loss, self.optimizer = net, loss, optimizer
        self.metrics = metrics_module.named(metrics)
        self.seed = checks.seed(seed)
        self.dtype = arrays.check_dtype(dtype, "Trainer")
        self.world = default_size() if world is None else checked_size(world)
        self.shards = checks.power_of_two(shards)
        self.threads = integer(threads, "Trainer", "threads", 0)
        self.max_norm = checks.limit(max_norm, "max_norm")
        self.max_layer_norm = checks.limit(max_layer_norm, "max_layer_norm")
        self.clip_value = checks.limit(clip_value, "clip_value")
        if on_nonfinite not in ("raise", "skip"):
            raise ValueError(f"[Trainer] on_nonfinite is {on_nonfinite!r}, expected 'raise' or 'skip'")
        self.on_nonfinite = on_nonfinite
        self.accumulate = integer(accumulate, "Trainer", "accumulate", 1)
        self.history = History()
        self.stop_training = False
        self._native: Any = None
        self._position = Position(list(self.metrics))
        self._step_rates = StepRates(optimizer)
        self._callback_states: list[dict[str, Any]] = []
        self._callbacks: Sequence[Callback] = ()

    # Building

    def build(self, x: Any, y: Any) -> Trainer:
        """Record the network for data like x and y and draw its parameters; later calls do nothing. Returns itself.

        Raises: TypeError and ValueError of layers, operators and the loss.
        """
        if self._native is None:
            inputs = [Spec.of(a) for a in as_arrays(x, "build", "x")]
            targets = [Spec.of(a) for a in as_arrays(y, "build", "y")]
            self._build(inputs, targets, isinstance(y, tuple))
        return self

    def _build(self, inputs: list[Spec], targets: list[Spec], several: bool) -> None:
        fork.check()
        train, evaluate = (
            record(self.net, self.loss, self.metrics, inputs, targets, several, mode) for mode in (True, False)
        )
        complete(train, evaluate)
        trained = [name for name, (p, _) in train.recording.parameters.items() if p.trainable]
        groups = self.optimizer.assign(self.net, trained)
        native = _core.Session(
            train.recording.graph, evaluate.recording.graph, train.io, evaluate.io, self._config(groups, len(targets))
        )
        native.set_parameters(initial_parameters(train.recording, self.dtype, self.seed))
        native.set_buffers(initial_buffers(train.recording, self.dtype))
        self._inputs, self._targets, self._several, self._trained = inputs, targets, several, trained
        self._recorded: Recorded = evaluate
        self._door = Door(inputs, train, targets, self.dtype)
        self._native = native

    def _config(self, groups: dict[str, int], labels: int) -> dict[str, Any]:
        return {
            "dtype": self.dtype,
            "world": self.world,
            "shards": self.shards,
            "threads": self.threads,
            "seed": self.seed,
            "labels": labels,
            "rule": self.optimizer.rule,
            "groups": groups,
            "max_norm": self.max_norm or 0.0,
            "max_layer_norm": self.max_layer_norm or 0.0,
            "clip_value": self.clip_value or 0.0,
            "on_nonfinite": self.on_nonfinite,
            "accumulate": self.accumulate,
        }

    @property
    def _session(self) -> Any:
        fork.check()
        if self._native is None:
            raise RuntimeError(
                "the trainer has seen no data yet, so the shapes are not known: call fit, step or build(x, y) first"
            )
        return self._native

    # Training

    def step(self, x: Any, y: Any) -> StepReport:
        """Make one update from one global batch.

        Returns: a report with the attributes loss, grad_norm, lr, t, count, skipped, seconds, metrics and each metric.
        Raises: TypeError, ValueError for data that don't fit (nothing has changed then); DivergedError when the loss or
        the gradient is not finite (the parameters are those before the step).
        """
        self.build(x, y)
        session = self._session
        data = self._door.step(x, y)
        if not self._step_rates.of(self.optimizer):
            self._step_rates = StepRates(self.optimizer)
        rates = self._step_rates.row(session.t)
        try:
            raw = session.step(data, rates)
        except _core.DivergedError:
            self._door.x(x, "step")
            self._door.y(y, data[0].shape[0], "step")
            raise
        return StepReport(raw, self.metrics, rates.item(0))

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        epochs: int,
        batch_size: int,
        validation_data: tuple[Any, Any] | None = None,
        shuffle: bool = True,
        callbacks: Sequence[Callback] = (),
        verbose: int = 1,
    ) -> History:
        """Train until `epochs` epochs are done in all, counted from the beginning of the training.

        A call after an interruption (Ctrl-C, an exception in a callback, a checkpoint that was loaded) goes on at the
        very row where the training stood, with the same bits as if nothing had happened; for five more epochs say
        fit(epochs=trainer.epoch + 5). The order of rows depends on the seed and the epoch only; the last batch may be
        short. verbose: 1 shows progress, a bar on a terminal and a line for each epoch elsewhere; 0 shows nothing.
        Returns: the history (one for the trainer's life).
        Raises: TypeError, ValueError for data or arguments that don't fit; DivergedError as step; KeyboardInterrupt
        at a step's edge.
        """
        epochs, batch_size = integer(epochs, "fit", "epochs", 0), integer(batch_size, "fit", "batch_size", 1)
        self.build(x, y)
        data = self._data(x, y, "fit")
        validation = None if validation_data is None else self._validation(validation_data)
        used = [*checks.callbacks(callbacks), *([Progress()] if verbose else [])]
        runner = EpochRunner(self, data, batch_size, bool(shuffle), used)
        self._begin(used, epochs, runner.steps, verbose)
        try:
            with runner.interrupt.watching():
                self._run(runner, epochs, validation, batch_size)
        except BaseException as error:
            if not survives(error, used):
                for callback in used:
                    callback.on_train_interrupted(error)
                raise
        for callback in used:
            callback.on_train_end({})
        return self.history

    def _begin(self, callbacks: list[Callback], epochs: int, steps: int, verbose: int) -> None:
        self.stop_training = False
        self._callbacks = callbacks
        for callback in callbacks:
            callback.set_trainer(self)
            callback.set_params({"epochs": epochs, "steps": steps, "verbose": verbose})
        state.give_callbacks(callbacks, self._callback_states)
        self._callback_states = []
        for callback in callbacks:
            callback.on_train_begin({})

    def _run(self, runner: EpochRunner, epochs: int, validation: list[np.ndarray] | None, batch_size: int) -> None:
        position = self._position
        while position.epoch < epochs and not self.stop_training:
            epoch = position.epoch
            for callback in runner.callbacks:
                callback.on_epoch_begin(epoch, {})
            logs = runner.epoch()
            if position.row < runner.rows:
                return  # stopped inside the epoch
            if validation is not None:
                with runner.interrupt.at_once():
                    measured = self._evaluate(validation, batch_size)
                logs |= {f"val_{k}": v for k, v in measured.items()}
            position.next_epoch()
            self.history.add(epoch, logs)
            for callback in runner.callbacks:
                callback.on_epoch_end(epoch, dict(logs))

    def _data(self, x: Any, y: Any, where: str) -> list[np.ndarray]:
        xs = self._door.x(x, where)
        return [*xs, *self._door.y(y, xs[0].shape[0], where)]

    def _validation(self, given: Any) -> list[np.ndarray]:
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise TypeError("[fit] validation_data must be a pair (x, y)")
        return self._data(given[0], given[1], "fit, validation_data")

    # Using

    def evaluate(self, x: Any, y: Any, *, batch_size: int = 256) -> dict[str, float]:
        """Return the mean loss and metrics over the rows of x, in evaluation mode.

        Raises: TypeError, ValueError for data that don't fit.
        """
        self.build(x, y)
        return self._evaluate(self._data(x, y, "evaluate"), integer(batch_size, "evaluate", "batch_size", 1))

    def _evaluate(self, data: list[np.ndarray], batch_size: int) -> dict[str, float]:
        result = self._session.evaluate(data, batch_size)
        return {"loss": result["loss"], **dict(zip(self.metrics, result["metrics"], strict=True))}

    def predict(self, x: Any, *, batch_size: int = 256) -> Any:
        """Return the network's output for the rows of x, in evaluation mode.

        Raises: RuntimeError before the network was built; TypeError, ValueError for data that don't fit.
        """
        session = self._session
        outputs = session.predict(self._door.x(x, "predict"), integer(batch_size, "predict", "batch_size", 1))
        return tree.unflatten(self._recorded.structure, outputs)

    def gradients(self, x: Any, y: Any) -> dict[str, np.ndarray]:
        """Return the gradient of the mean loss over one batch, by parameter, in training mode. Nothing changes.

        Raises: TypeError, ValueError for data that don't fit.
        """
        self.build(x, y)
        return self._session.gradients(self._data(x, y, "gradients"))

    def hvp(self, v: dict[str, Any], x: Any, y: Any) -> dict[str, np.ndarray]:
        """Return the Hessian of the mean loss over one batch times v, exactly, in training mode.

        v: an array for each trained parameter, by name. Returns: the same.
        Raises: TypeError, ValueError for data or directions that don't fit.
        """
        self.build(x, y)
        loss, parameters = self.batch_loss(x, y)
        return transforms.hvp(loss, (parameters,), (v,))[0]

    def batch_loss(self, x: Any, y: Any) -> tuple[Callable[[dict[str, Any]], Any], dict[str, np.ndarray]]:
        """Return (f, parameters): f(parameters) is the mean loss of one batch in training mode, for tw.grad and its
        kin.

        The parameters are copies of the trained ones, by name; dropout has the mask of the next step.
        Raises: TypeError, ValueError for data that don't fit.
        """
        self.build(x, y)
        data = self._data(x, y, "batch_loss")
        values = self.parameters()
        trained = {name: values[name] for name in self._trained}
        fixed = {name: value for name, value in values.items() if name not in trained}
        xs, ys = tuple(data[: len(self._inputs)]), tuple(data[len(self._inputs) :])

        def mean_loss(parameters: dict[str, Any]) -> Any:
            prediction = functional_call(self.net, {**fixed, **parameters}, xs, seed=self.seed, step=self.t)
            return ops.mean(self.loss(prediction, ys if self._several else ys[0]))

        return mean_loss, trained

    # State

    @property
    def t(self) -> int:
        """Updates done; a step whose update was skipped (on_nonfinite="skip") counts too."""
        return 0 if self._native is None else int(self._native.t)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self._position.epoch

    def parameters(self) -> dict[str, np.ndarray]:
        """Return a copy of every parameter, by name, in the order of the network."""
        values = self._session.parameters()
        return {name: values[name] for name in self._recorded.recording.parameters}

    def set_parameters(self, values: dict[str, Any]) -> None:
        """Replace every parameter. Raises: ValueError for a missing or unknown name or a wrong shape."""
        self._session.set_parameters(state.ready(values, self.dtype, "parameter"))

    def buffers(self) -> dict[str, np.ndarray]:
        """Return a copy of every buffer (running statistics), by name."""
        return self._session.buffers()

    def set_buffers(self, values: dict[str, Any]) -> None:
        """Replace every buffer. Raises: ValueError for a missing or unknown name or a wrong shape."""
        self._session.set_buffers(state.ready(values, self.dtype, "buffer"))

    def digest(self) -> str:
        """Return a hash of parameters, buffers and optimizer state. Raises: RuntimeError if ranks disagree."""
        return self._session.digest()

    def summary(self) -> Summary:
        """Return the network's table: layers, output shapes, parameters, mult-adds, memory; print it to see it."""
        session = self._session
        return summarise(self._recorded.recording, session.memory())

    def steps_per_epoch(self, rows: int, batch_size: int) -> int:
        """Return how many updates an epoch over so many rows takes."""
        batch_size = integer(batch_size, "steps_per_epoch", "batch_size", 1)
        return -(-integer(rows, "steps_per_epoch", "rows", 0) // batch_size)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a run needs to go on with the same bits: parameters, buffers, optimizer and meta."""
        return state.collect(self)

    def load_state_dict(self, given: dict[str, Any]) -> None:
        """Take over a state_dict, of this network and optimizer; the number of ranks and threads may differ.

        Raises: ValueError for a state of another network, dtype or optimizer; nothing has changed then.
        """
        state.restore(self, given)

    def save(self, path: str | os.PathLike[str]) -> Any:
        """Write a checkpoint into a folder, whole at every instant. Returns its path. Raises: OSError."""
        from .. import checkpoint

        return checkpoint.save(path, self.state_dict())

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        net: Module | None = None,
        loss: Any = None,
        optimizer: optim.Optimizer | None = None,
        metrics: Sequence[Any] | None = None,
        world: int | None = None,
        threads: int = 0,
        resume: str = "latest",
    ) -> Trainer:
        """Return a trainer as a checkpoint left it. Parts of one's own (layers, loss, metrics, schedules) must be
        given.

        resume="auto" falls back to an older checkpoint if the newest is damaged, and says so.
        Raises: CheckpointError for a damaged checkpoint; ValueError for parts that are needed or don't fit.
        """
        from .. import checkpoint

        parts = {"net": net, "loss": loss, "optimizer": optimizer, "metrics": metrics, "world": world}
        return cls.from_state(checkpoint.load(path, resume=resume), threads=threads, **parts)

    @classmethod
    def from_state(cls, given: dict[str, Any], **parts: Any) -> Trainer:
        """Return a trainer as a state_dict left it. Arguments and Raises as load."""
        trainer = cls(**state.arguments(given["meta"], parts))
        trainer.load_state_dict(given)
        return trainer
