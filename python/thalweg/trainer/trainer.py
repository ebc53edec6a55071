"""Trainer: a network, a loss and an optimizer, and everything that happens to them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import _core, arrays, fork, optim, transforms, tree
from .. import metrics as metrics_module
from ..callbacks import Callback, Progress
from ..history import History
from ..nn.module import Module
from ..ops.axes import integer
from ..parallel import together
from ..world import ranks
from . import checks, state
from . import fit as fitting
from .batch import Door, data_spec
from .batch_loss import mean_loss
from .build import Built, check_optimizer
from .build import build as build_for
from .rates import StepRates, current_rates
from .record import DataSpec, Recorded
from .report import StepReport
from .run import EpochRunner, Position
from .summary import Summary, parameter_count, summarise


class Trainer:
    """Trains a network: one native call a step, on one rank or several, with the same bits on any number of threads.

    net: an nn.Module. loss: a function (prediction, target) of thalweg.ops, such as losses.CrossEntropy().
    optimizer: one of thalweg.optim. metrics: functions or names, such as ["accuracy"].
    seed keys initial values, the order of rows and dropout. dtype: "float32" or "float64", of parameters, optimizer,
    statistics, sums and losses. precision: of products and of what lies between layers, "bf16" beside dtype "float32",
    or None for that of dtype (curvature always has that).
    world: ranks as threads of this process (by default that of `with thalweg.world(n)`, or 1); in a script that was
    started as several processes (thalweg launch) these are the ranks, and all of them must make the same calls with the
    same data. shards: fixed slices of every batch, a power of two up to 1024, whose sums fold in a fixed tree: results
    are the same on 1, 2, 4, ... up to `shards` ranks. threads: of each rank, 0 for the cores shared evenly.
    max_norm: limit of the whole gradient's norm; max_layer_norm: then of each parameter's; clip_value: then of every
    element. on_nonfinite: "raise" (DivergedError) or "skip" the update. accumulate: pieces that a batch is computed in,
    to save memory. check_every: updates from one comparison of the ranks' parameters to the next (ReplicaError names
    the tensor and the ranks that differ), 0 for none but at checkpoints. The network is recorded when the first data
    come (or by build), which fixes the shapes of rows.
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
        precision: str | None = None,
        world: int | None = None,
        shards: int = 8,
        threads: int = 0,
        max_norm: float | None = None,
        max_layer_norm: float | None = None,
        clip_value: float | None = None,
        on_nonfinite: str = "raise",
        accumulate: int = 1,
        check_every: int = 100,
    ) -> None:
        fork.check()
        checks.parts(net, loss)
        self.net, self.loss = net, loss
        self._built: Built | None = None
        self.optimizer = optimizer
        self.metrics = metrics_module.named(metrics)
        self.seed = checks.seed(seed)
        self.dtype = arrays.check_dtype(dtype, "Trainer")
        self.precision = checks.precision(precision, self.dtype)
        self.world, self.peers = ranks(world)
        self.shards = checks.power_of_two(shards)
        self.threads = integer(threads, "Trainer", "threads", 0)
        self.max_norm = checks.limit(max_norm, "max_norm")
        self.max_layer_norm = checks.limit(max_layer_norm, "max_layer_norm")
        self.clip_value = checks.limit(clip_value, "clip_value")
        self.on_nonfinite = checks.policy(on_nonfinite)
        self.accumulate = integer(accumulate, "Trainer", "accumulate", 1)
        self.check_every = integer(check_every, "Trainer", "check_every", 0)
        self.history = History()
        self.stop_training = False
        self._position = Position(list(self.metrics))
        self._pace = 1e-3  # seconds a step of fit takes, measured as it goes
        self._step_rates = StepRates(optimizer)
        self._callback_states: list[dict[str, Any]] = []
        self._callbacks: Sequence[Callback] = ()
        self._unfinished = False  # a call of fit was interrupted

    # Building

    @property
    def optimizer(self) -> optim.Optimizer:
        """The optimizer. Another one may take its place; once data came, only if nothing but its rates differs.

        Raises: TypeError for what is no optimizer; ValueError for another rule or other groups.
        """
        return self._optimizer

    @optimizer.setter
    def optimizer(self, optimizer: optim.Optimizer) -> None:
        checks.optimizer(optimizer)
        if self._built is not None:
            check_optimizer(self._built, optimizer, self)
        self._optimizer = optimizer

    def build(self, x: Any, y: Any) -> Trainer:
        """Record the network for data like x and y and draw its parameters; later calls do nothing. Returns itself.

        Raises: TypeError and ValueError of layers, operators and the loss, or for x and y that are no batch.
        """
        if self._built is None:
            self._built = build_for(self, data_spec(x, y, "build"), self.seed, self.shards, self.optimizer)
        return self

    @contextmanager
    def _first_call(self, x: Any, y: Any, where: str) -> Iterator[None]:
        """Build for data like x and y if need be; what was built is dropped when the call then refuses them."""
        first = self._built is None
        self.build(x, y)
        try:
            with together.inside(self.peers, where):
                yield
        except (TypeError, ValueError):
            if first and self.t == 0:
                self._built = None
            raise

    @property
    def _shapes_known(self) -> Built:
        fork.check()
        if self._built is None:
            raise RuntimeError(
                "the trainer has seen no data yet, so the shapes are not known: call fit, step or build(x, y) first"
            )
        return self._built

    @property
    def _session(self) -> Any:
        return self._shapes_known.session

    @property
    def _door(self) -> Door:
        return self._shapes_known.door

    @property
    def _data_spec(self) -> DataSpec:
        return self._shapes_known.data

    @property
    def _recorded(self) -> Recorded:
        return self._shapes_known.evaluate

    # Training

    def step(self, x: Any, y: Any) -> StepReport:
        """Make one update from one global batch.

        Returns: a report with the attributes loss, grad_norm, lr, t, count, skipped, seconds, metrics and each metric.
        Raises: TypeError, ValueError for data that don't fit (nothing has changed then); DivergedError when the loss or
        the gradient is not finite (the parameters are those before the step); ReplicaError where ranks differ.
        """
        with self._first_call(x, y, "step") if self._built is None else together.inside(self.peers, "step"):
            return self._step(x, y)

    def _step(self, x: Any, y: Any) -> StepReport:
        built = self._shapes_known
        session, door = built.session, built.door
        data = door.step(x, y)
        rates = current_rates(self).row(session.t)
        try:
            raw = session.step(data, rates)
        except _core.DivergedError:
            door.x(x, "step")
            door.y(y, data[0].shape[0], "step")
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
        Raises: TypeError, ValueError for data or arguments that don't fit; DivergedError and ReplicaError as step;
        KeyboardInterrupt at a step's edge.
        """
        epochs, batch_size = integer(epochs, "fit", "epochs", 0), integer(batch_size, "fit", "batch_size", 1)
        used = [*checks.callbacks(callbacks, "fit"), *([Progress()] if verbose else [])]
        with self._first_call(x, y, "fit"):
            data = self._data(x, y, "fit")
            validation = None if validation_data is None else self._validation(validation_data)
            runner = EpochRunner(self, data, batch_size, bool(shuffle), used)
            runner.check_same(epochs, validation)
            fitting.fit(self, runner, epochs, validation, verbose)
        return self.history

    def _data(self, x: Any, y: Any, where: str) -> list[np.ndarray]:
        xs = self._door.x(x, where)
        return [*xs, *self._door.y(y, xs[0].shape[0], where)]

    def _validation(self, given: Any) -> list[np.ndarray]:
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise TypeError("[fit] validation_data must be a pair (x, y)")
        return self._data(given[0], given[1], "fit, validation_data")

    # Using

    def evaluate(
        self, x: Any, y: Any, *, batch_size: int = 256, callbacks: Sequence[Callback] = ()
    ) -> dict[str, float]:
        """Return the mean loss and metrics over the rows of x, in evaluation mode.

        Raises: TypeError, ValueError for data that don't fit.
        """
        batch_size, used = integer(batch_size, "evaluate", "batch_size", 1), self._hooked(callbacks, "evaluate")
        with self._first_call(x, y, "evaluate"):
            return fitting.evaluate(self, self._data(x, y, "evaluate"), batch_size, used)

    def predict(self, x: Any, *, batch_size: int = 256, callbacks: Sequence[Callback] = ()) -> Any:
        """Return the network's output for the rows of x, in evaluation mode.

        Raises: RuntimeError before the network was built; TypeError, ValueError for data that don't fit.
        """
        session, used = self._session, self._hooked(callbacks, "predict")
        data, batch_size = self._door.x(x, "predict"), integer(batch_size, "predict", "batch_size", 1)
        for callback in used:
            callback.on_predict_begin({})
        with together.inside(self.peers, "predict"):
            outputs = tree.unflatten(self._recorded.structure, session.predict(data, batch_size))
        for callback in used:
            callback.on_predict_end({})
        return outputs

    def _hooked(self, callbacks: Sequence[Callback], where: str) -> list[Callback]:
        used = checks.callbacks(callbacks, where)
        for callback in used:
            callback.set_trainer(self)
        return used

    def gradients(self, x: Any, y: Any) -> dict[str, np.ndarray]:
        """Return the gradient of the mean loss over one batch, by parameter, in training mode. Nothing changes.

        Raises: TypeError, ValueError for data that don't fit.
        """
        with self._first_call(x, y, "gradients"):
            return self._session.gradients(self._data(x, y, "gradients"))

    def hvp(self, v: dict[str, Any], x: Any, y: Any) -> dict[str, np.ndarray]:
        """Return the Hessian of the mean loss over one batch times v, exactly, in training mode.

        v: an array for each trained parameter, by name. Returns: the same.
        Raises: TypeError, ValueError for data or directions that don't fit.
        """
        with self._first_call(x, y, "hvp"):
            loss, parameters = self.batch_loss(x, y)
            return transforms.hvp(loss, (parameters,), (v,))[0]

    def batch_loss(self, x: Any, y: Any) -> tuple[Callable[[dict[str, Any]], Any], dict[str, np.ndarray]]:
        """Return (f, parameters): f(parameters) is the mean loss of one batch in training mode, for tw.grad and its
        kin.

        The parameters are copies of the trained ones, by name; dropout has the mask of the next step.
        Raises: TypeError, ValueError for data that don't fit.
        """
        with self._first_call(x, y, "batch_loss"):
            return mean_loss(self, self._data(x, y, "batch_loss"))

    # State

    @property
    def t(self) -> int:
        """Updates done; a step whose update was skipped (on_nonfinite="skip") counts too."""
        return 0 if self._built is None else int(self._built.session.t)

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
        """Return a hash of parameters, buffers and optimizer state. Raises: ReplicaError if ranks disagree."""
        with together.inside(self.peers, "digest"):
            return self._session.digest()

    def summary(self) -> Summary:
        """Return the network's table: layers, output shapes, parameters, mult-adds, memory; print it to see it."""
        session = self._session
        return summarise(self.net, self._recorded.recording, session.memory(), self.precision)

    def steps_per_epoch(self, rows: int, batch_size: int) -> int:
        """Return how many updates an epoch over so many rows takes."""
        batch_size = integer(batch_size, "steps_per_epoch", "batch_size", 1)
        return -(-integer(rows, "steps_per_epoch", "rows", 0) // batch_size)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a run needs to go on with the same bits: parameters, buffers, optimizer and meta."""
        return state.collect(self)

    def load_state_dict(self, given: dict[str, Any], *, precision: str | None = None) -> None:
        """Take over a state_dict of this network and optimizer, so that training goes on with the same bits.

        What the state fixes is taken over: seed, shards, and (as in torch) the optimizer's learning rate, other rates
        and groups. Clipping, accumulate, ranks and threads stay the trainer's own, and so do the rates where those of
        the state are functions or modules of one's own, which no state can hold. history.steps starts anew.
        Networks of built-in layers are compared layer by layer, others by the names and shapes of what they hold.
        precision: the trainer's own, to go on from a state of another precision with it: the bits are others then.
        Raises: ValueError for a state of another network, dtype, precision or optimizer; nothing has changed then.
        """
        state.restore(self, given, precision=precision)

    def save(self, path: str | os.PathLike[str]) -> Any:
        """Write a checkpoint into a folder, whole at every instant. Returns its path. Raises: OSError.

        Of ranks that are processes all call this, and rank 0 writes. Raises: ReplicaError if ranks disagree.
        """
        return state.save(self, path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        net: Module | None = None,
        loss: Any = None,
        optimizer: optim.Optimizer | None = None,
        metrics: Sequence[Any] | None = None,
        precision: str | None = None,
        world: int | None = None,
        threads: int = 0,
        resume: str = "latest",
    ) -> Trainer:
        """Return a trainer as a checkpoint left it. Parts of one's own (layers, loss, metrics, schedules) must be
        given; an optimizer that is given keeps its own rates. precision: another than that of the checkpoint.

        resume="auto" falls back to an older checkpoint if the newest is damaged, and says so.
        Raises: CheckpointError for a damaged checkpoint; ValueError for parts that are needed or don't fit.
        """
        from .. import checkpoint

        parts = {"net": net, "loss": loss, "optimizer": optimizer, "metrics": metrics, "precision": precision}
        return cls.from_state(checkpoint.load(path, resume=resume), world=world, threads=threads, **parts)

    @classmethod
    def from_state(cls, given: dict[str, Any], **parts: Any) -> Trainer:
        """Return a trainer as a state_dict left it. Arguments and Raises as load."""
        trainer = cls(**state.arguments(given, parts))
        state.restore(trainer, given, rates=parts.get("optimizer") is None, precision=parts.get("precision"))
        state.check_rebuilt(trainer, given, parts)
        return trainer

    def __repr__(self) -> str:
        size = "not built yet"
        if self._built is not None:
            size = f"{parameter_count(self._built.evaluate.recording):,} parameters"
        done = f"step {self.t}, epoch {self.epoch}"
        return f"Trainer({type(self.net).__name__}, {size}, {self.optimizer!r}, {done})"
