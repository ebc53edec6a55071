"""Turns the runs of a sweep into what the engine takes: networks recorded once, rates, starting values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import _core, schedules
from ..init import Initializer
from ..optim import Optimizer
from ..trainer.batch import Door, as_arrays, data_spec
from ..trainer.build import native_config, native_model, record_both, trained_names
from ..trainer.record import DataSpec, Recorded, initial_buffers, initial_parameters
from ..trainer.trainer import Trainer
from .over import Settings
from .setup import Fit, Setup

_MOST_BYTES, _MOST_NETWORKS = 256 << 20, 256  # of one native call: a longer sweep makes several
_LR = _core.RATE_FIELDS.index("lr")


@dataclass
class Wave:
    """The runs of one native call, by their numbers."""

    networks: list[dict[str, Any]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    bytes: int = 0


class Data:
    """The rows of a sweep, converted once for all networks that take them as the same kinds."""

    def __init__(self, x: Any, y: Any, validation: Any) -> None:
        if validation is not None and (not isinstance(validation, (tuple, list)) or len(validation) != 2):
            raise TypeError("[sweep] validation_data must be a pair (x, y)")
        self.given, self.held_out = (x, y), validation
        self.spec = data_spec(x, y, "sweep")
        self.count = int(as_arrays(x, "sweep", "x")[0].shape[0])
        self._converted: dict[tuple[str, ...], list[np.ndarray]] = {}

    def rows(self, door: Door) -> list[np.ndarray]:
        """Return the arrays as a network takes them. Raises: TypeError, ValueError where they don't fit it."""
        return self._convert(door, "sweep", self.given)

    def validation(self, door: Door) -> list[np.ndarray] | None:
        """Return the same of the validation's rows, None where there are none."""
        return None if self.held_out is None else self._convert(door, "sweep, validation_data", self.held_out)

    def _convert(self, door: Door, where: str, given: Any) -> list[np.ndarray]:
        key, n = (where, *door.kinds), len(self.spec.inputs)
        ready = self._converted.get(key)
        x, y = given if ready is None else (tuple(ready[:n]), tuple(ready[n:]))
        xs = door.x(x, where)
        self._converted[key] = [*xs, *door.y(y, len(xs[0]), where)]
        return self._converted[key]


class Network:
    """One network with its loss, recorded; the engine's model of it for each choice of groups of parameters."""

    def __init__(self, trainer: Trainer, data: Data) -> None:
        self.train, self.evaluate = record_both(trainer.net, trainer.loss, trainer.metrics, data.spec)
        self.trained = trained_names(self.train)
        door = Door(data.spec, self.train, trainer.dtype, trainer.accumulate)
        self.doors = {trainer.accumulate: door}
        self.arrays, self.validation = data.rows(door), data.validation(door)
        self.starts, self.own = _starts(self.train, trainer.dtype)
        self.buffers = initial_buffers(self.train.recording, trainer.dtype)
        self.models: dict[tuple[int, ...], int] = {}

    def check(self, trainer: Trainer, fit: Fit, data: DataSpec) -> None:
        """Raise ValueError for batches that this network can't train on."""
        pieces = trainer.accumulate
        if pieces not in self.doors:
            self.doors[pieces] = Door(data, self.train, trainer.dtype, pieces)
        self.doors[pieces].check_epoch(len(self.arrays[0]), fit.batch_size)


class Preparation:
    """Makes the waves of a sweep. Runs of one network follow each other, so that the engine keeps its plans."""

    def __init__(self, setup: Setup, data: Data, runs: Sequence[Settings]) -> None:
        self.setup, self.data, self.runs = setup, data, runs
        self._networks: dict[Any, Network] = {}
        self._rates: dict[Any, tuple[np.ndarray, np.ndarray | None]] = {}

    def updates(self) -> int:
        """Return how many updates all runs make. Raises: TypeError, ValueError for epochs and batch sizes."""
        fits = (self.setup.fit(self.setup.values(settings)) for settings in self.runs)
        return sum(fit.steps(self.data.count) for fit in fits)

    def waves(self) -> Iterator[Wave]:
        """Yield the native calls. Raises: TypeError, ValueError of parts, options and data."""
        wave = Wave()
        for number in self._order():
            if wave.bytes > _MOST_BYTES or len(wave.networks) >= _MOST_NETWORKS:
                yield wave
                wave = Wave()
                self._networks, self._rates = {}, {}
            self._add(wave, number)
        yield wave

    def _order(self) -> list[int]:
        first: dict[Any, int] = {}
        keys = [self.setup.network_key(self.setup.values(settings)) for settings in self.runs]
        for i, key in enumerate(keys):
            first.setdefault(key, i)
        return sorted(range(len(keys)), key=lambda i: first[keys[i]])

    def _add(self, wave: Wave, number: int) -> None:
        values = self.setup.values(self.runs[number])
        fit, trainer = self.setup.fit(values), self.setup.trainer(values)
        key = self.setup.network_key(values)
        if key not in self._networks:
            self._networks[key] = Network(trainer, self.data)
        network = self._networks[key]
        network.check(trainer, fit, self.data.spec)
        config = native_config(trainer, trainer.seed, trainer.shards, trainer.optimizer, self.data.spec)
        rates, lrs = self._rates_of(values, trainer.optimizer, fit.steps(self.data.count), wave)
        run: dict[str, Any] = {
            "network": self._model(wave, network, trainer),
            "config": config,
            "epochs": fit.epochs,
            "batch_size": fit.batch_size,
            "shuffle": fit.shuffle,
            "rates": rates,
            "lrs": lrs,
        }
        if network.own:
            drawn = initial_parameters(network.train.recording, trainer.dtype, trainer.seed)
            run["parameters"] = {name: drawn[name] for name in network.own}
            wave.bytes += sum(array.nbytes for array in run["parameters"].values())
        wave.numbers.append(number)
        wave.runs.append(run)

    def _model(self, wave: Wave, network: Network, trainer: Trainer) -> int:
        groups = trainer.optimizer.assign(trainer.net, network.trained)
        key = tuple(groups.values())
        if key not in network.models:
            network.models[key] = len(wave.networks)
            wave.networks.append(
                {
                    "model": native_model(network.train, network.evaluate, groups, trainer.precision),
                    "parameters": network.starts,
                    "buffers": network.buffers,
                    "data": network.arrays,
                    "validation": network.validation,
                }
            )
        return network.models[key]

    def _rates_of(
        self, values: Settings, optimizer: Optimizer, steps: int, wave: Wave
    ) -> tuple[np.ndarray, np.ndarray | None]:
        key = (self.setup.optimizer.key(values), steps)
        if key not in self._rates:
            constant = all(type(s) is schedules.Constant for s in optimizer.lr_schedules())
            lrs = None if constant else np.ascontiguousarray(optimizer.table(0, steps)[:, :, _LR])
            self._rates[key] = optimizer.table(0, 1)[0], lrs
            wave.bytes += 0 if lrs is None else lrs.nbytes
        return self._rates[key]


def _starts(train: Recorded, dtype: str) -> tuple[dict[str, Any], list[str]]:
    """Return how each parameter is drawn by the engine, and the names of those with an initialiser of one's own."""
    starts: dict[str, Any] = {}
    own = []
    for name, (parameter, tensor) in train.recording.parameters.items():
        if isinstance(parameter.init, Initializer):
            starts[name] = parameter.init.drawn(tensor.graph_shape)
        else:
            starts[name] = ("constant", 0.0, 0.0)
            own.append(name)
    return starts, own
