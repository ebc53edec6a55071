"""The native engine. Arrays passed in are C-contiguous, aligned, native-endian NumPy arrays of the plan's dtype
(int32 for indices): thalweg.arrays is the one door that makes them so. Errors: ValueError, TypeError, DivergedError."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Attr = bool | int | float | str | Sequence[int]

class DivergedError(RuntimeError): ...
class LostError(RuntimeError): ...
class ReplicaError(RuntimeError): ...  # ranks hold other values than others

def isa() -> str: ...  # "avx512", "avx2" or "generic": the kernels in use
def isas() -> list[str]: ...  # those that this processor can run
def cpu_threads() -> int: ...  # cores that this process may use
def operators() -> list[str]: ...
def formulas() -> list[tuple[str, int]]: ...  # every formula of cpp/formula with its number of arguments
def cuda_device() -> str: ...  # the GPU's name; RuntimeError says why there is none
def formula(name: str, *args: np.ndarray, device: str = "cpu") -> np.ndarray:
    """A formula of cpp/formula on arrays of one shape. device: "cpu" or "cuda"."""

def formula_jvp(
    name: str, args: Sequence[np.ndarray], tangents: Sequence[np.ndarray], device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]: ...
def first_non_finite(array: np.ndarray) -> int: ...  # the first element that is NaN or infinite, or -1
def class_numbers(array: np.ndarray, classes: int) -> np.ndarray | None:
    """Contiguous int32 class numbers, the array itself if it is that already. None: a value is outside [0, classes), or
    the array is not a contiguous one of int64, int32 or uint8."""

def fill_random(
    distribution: str, a: float, b: float, seed: int, stream: str, shape: Sequence[int], dtype: str
) -> np.ndarray:
    """distribution: "normal" (mean a, standard deviation b), "uniform" (a to b), "truncated_normal" (cut at 2 b)."""

def add_steps(totals: np.ndarray, columns: dict[str, np.ndarray]) -> None: ...  # of an epoch: trainer.run.Sums
def permutation(n: int, seed: int, stream: str) -> np.ndarray: ...  # int64

class Ticket:
    """A call that was started."""
    @property
    def done(self) -> bool: ...
    # Waits, and returns what the call that waits returns. Raises as that, also for what it follows: the collectives, or
    # the letters to or from the same rank, that were started before it.
    def finish(self) -> np.ndarray | None: ...

class Communicator:
    """How the ranks of a world talk; each is used from its own thread. Arrays are contiguous float32 or float64. Where
    the calls of the ranks differ, or their arrays' lengths or dtypes, every rank gets the same ValueError, where some
    are lost, or late, a LostError.

    Each call has a second form, `start_...`, which returns a Ticket at once. The call goes on beside other work:
    whenever this rank waits for others, at every poll(), or by a thread (`overlap`). Its arrays are not touched until
    finish() of the ticket. Started collectives run one after the other; those that wait overtake them; all ranks start
    the same ones, in the same order among all their calls. Letters from one rank to another come in the order of the
    calls, whichever form these have: a send or recv that waits is done after those of the same peer that were started
    before it."""
    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def seconds_waiting(self) -> float: ...
    @property
    def limit(self) -> float: ...  # seconds that a call may wait for ranks of other processes; then all get a LostError
    @limit.setter
    def limit(self, seconds: float) -> None: ...
    @property
    def bytes_sent(self) -> int: ...  # payload of this rank that went to others so far, letters to itself not
    @property
    def overlap(self) -> str: ...  # how training exchanges gradients: "off", between "nodes", by a "thread"
    @overlap.setter
    def overlap(self, name: str) -> None: ...
    @property
    def inside(self) -> str: ...  # the call of a trainer that collectives belong to; messages name it
    @inside.setter
    def inside(self, call: str) -> None: ...
    def flight(
        self,
    ) -> list[str]: ...  # the last collectives, the newest last: what, when, how long others were awaited
    def leave(self) -> None: ...  # no further call; who would wait for this rank in vain gets a LostError
    def abort(self, why: str) -> None: ...  # every rank's next or present call raises LostError
    # An array that the others see where the ranks have common memory: large collectives don't copy it.
    def zeros(self, shape: Sequence[int], dtype: str = "float32") -> np.ndarray: ...
    def poll(self) -> bool: ...  # goes on with what was started, without waiting; whether all of it is done
    def finish(self) -> None: ...  # waits for all of it; raises its first error
    def barrier(self) -> None: ...
    def all_reduce(self, array: np.ndarray) -> np.ndarray: ...  # sum, in place; the same bits on every rank
    def reduce_scatter(self, array: np.ndarray) -> np.ndarray: ...  # rank r keeps its even share, in place
    def all_gather(self, array: np.ndarray) -> np.ndarray: ...  # a new array [size, ...]
    def broadcast(self, array: np.ndarray, root: int = 0) -> np.ndarray: ...
    def send(self, array: np.ndarray, to: int) -> None: ...
    def recv(self, array: np.ndarray, from_: int) -> np.ndarray: ...
    def start_barrier(self) -> Ticket: ...
    def start_all_reduce(self, array: np.ndarray) -> Ticket: ...
    def start_reduce_scatter(self, array: np.ndarray) -> Ticket: ...
    def start_all_gather(self, array: np.ndarray) -> Ticket: ...
    def start_broadcast(self, array: np.ndarray, root: int = 0) -> Ticket: ...
    def start_send(self, array: np.ndarray, to: int) -> Ticket: ...
    def start_recv(self, array: np.ndarray, from_: int) -> Ticket: ...
    def split(self, color: int, key: int = 0) -> Communicator: ...
    def gather_texts(self, mine: str) -> list[str]: ...  # of each rank what fits into 1 MiB
    def check_same(self, where: str, values: dict[str, str]) -> None: ...  # ValueError on every rank if they differ

def make_threads(size: int) -> list[Communicator]: ...

class Deadline:
    """Ends this process should a call last too long that nothing can interrupt: `why` is written to stderr then."""
    def __init__(self, seconds: float, why: str, exit_code: int) -> None: ...
    def meet(self) -> None: ...  # it ends nothing from here on

class NodeMemory:
    """Memory that the ranks of one machine share. It has no name: a file descriptor is passed to their processes."""
    def __init__(self, size: int, first: int = 0) -> None: ...  # first: the name of its rank 0. ValueError, OSError
    @staticmethod
    def open(fd: int, size: int, first: int = 0) -> NodeMemory: ...  # ValueError for what is no such memory
    @property
    def fd(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def has_ended(self) -> bool: ...
    def end(self, why: str) -> None: ...  # every rank's next or present call raises LostError

def make_shm(memory: NodeMemory, rank: int, limit: float) -> Communicator:
    """The communicator of a rank that is this process; returns when all ranks have come, LostError after `limit` s."""

def make_mpi(handle: int, handle_bytes: int, threads: bool = False) -> Communicator:
    """The communicator on a communicator of the MPI library that this process has loaded, by its handle (the caller
    keeps it for this use alone). ValueError where no known MPI library is loaded."""

def make_messages(size: int) -> list[Communicator]:
    """Those of threads of this process that send messages, as ranks do that MPI connects; for tests."""

def make_nodes(messages: Communicator, memory: NodeMemory, place: int, limit: float) -> Communicator:
    """The same ranks, of several nodes: this one has this place in the memory of its node."""

def why_flat(node: Sequence[int]) -> str:
    """What keeps ranks, each of which is on this node, from adding node by node; empty where nothing does."""

class Graph:
    """A recorded computation on values 0, 1, 2, ... `rows` is the nominal number of rows of batched inputs; every plan
    built from the graph has its own. Shapes and arguments are checked as they are recorded."""
    def __init__(self, rows: int = 0) -> None: ...
    def input(self, name: str, shape: Sequence[int], kind: str = "real", batch: bool = False) -> int:
        """kind: "real" or "index" (int32). batch: axis 0 is the global batch (shape[0] must be `rows`)."""
    def parameter(self, name: str, shape: Sequence[int], trainable: bool = True) -> int: ...
    def buffer(self, name: str, shape: Sequence[int]) -> int: ...  # kept from step to step: running_mean
    def constant(self, value: float) -> int: ...  # a scalar
    def apply(self, op: str, inputs: Sequence[int], attrs: dict[str, Attr], path: str = "") -> list[int]: ...
    def shape(self, value: int) -> tuple[int, ...]: ...
    def kind(self, value: int) -> str: ...
    def batched(self, value: int) -> bool: ...
    def gradient(self, output: int, wrt: Sequence[int], seed: int = -1) -> list[int]:
        """Records the backward nodes of d output / d wrt. seed: the value that starts it (default 1; output is then a
        scalar). A value that output does not depend on gets zeros."""
    def update_buffer(
        self, buffer: int, value: int
    ) -> None: ...  # value replaces buffer when a training step is accepted
    def nodes(self) -> list[dict[str, Any]]: ...  # op, path, inputs, outputs, shapes, flops, bytes, mult_adds

class Function:
    """A graph compiled to run on arrays. inputs: any inputs, parameters or buffers of the graph. precision: as a
    Model's."""
    def __init__(
        self,
        graph: Graph,
        inputs: Sequence[int],
        outputs: Sequence[int],
        dtype: str = "float32",
        tangents: bool = False,
        threads: int = 0,
        precision: str = "full",
    ) -> None: ...
    def __call__(
        self,
        inputs: Sequence[np.ndarray],
        tangents: Sequence[np.ndarray | None] | None = None,
        seed: int = 0,
        step: int = 0,
    ) -> list[np.ndarray] | tuple[list[np.ndarray], list[np.ndarray]]:
        """With tangents=True: returns (outputs, tangents of the outputs), the exact directional derivative. A tangent
        that is None is zero, as all are where tangents is None."""

__version__: str
RATE_FIELDS: tuple[str, ...]
"""Columns of a table of rates: lr, momentum, dampening, beta1, beta2, decay, eps, weight_decay."""

def states(rule: dict) -> int:
    """How many numbers an update rule keeps for each parameter."""

def update(
    rule: dict,
    t: int,
    rates: np.ndarray,
    w: np.ndarray,
    g: np.ndarray,
    state: np.ndarray,
    grad_scale: float = 1.0,
    threads: int = 0,
    device: str = "cpu",
) -> None:
    """Update number t (from 1) of one contiguous, writable array w and its state (k, *w.shape) in place. rule: as in a
    Session's config; rates: one row of RATE_FIELDS; threads 0: all cores; device: "cpu" or "cuda"."""

class Model:
    """A network with its loss: what trainings of it share. train and evaluate record the same parameters and buffers by
    name. The values named in io:
      train:    {"inputs": [values], "loss": value, "metrics": [values]}
      evaluate: {"inputs": [values], "loss": value, "metrics": [values], "outputs": [values]}
    loss: either per row, shape (rows,): its sum and the row count are exact under any split; or a scalar mean over the
    batch. metrics: per row, shape (rows,). `inputs` of evaluate end with the labels. groups: {parameter name: group
    index}, of rates. precision: "full" or "bf16", which rounds the operands of products to bf16 and stores what lies
    between them so; parameters, statistics, sums and losses are float32 then."""
    def __init__(
        self,
        train: Graph,
        evaluate: Graph,
        train_io: dict,
        evaluate_io: dict,
        groups: dict[str, int] = {},
        precision: str = "full",
    ) -> None: ...

class Session:
    """A training run: parameters, optimizer state and compiled plans of every rank of this process.

    predict() binds all but the last `labels` inputs of the model's evaluation.
    config: {"dtype", "world", "shards", "threads" (per rank, 0: cores / world), "seed", "labels": 1,
      "rule": {"name": "sgd" | "heavy_ball" | "duda" | "adagrad" | "rmsprop" | "adam", "nesterov", "eps_inside",
               "bias_correction", "decoupled", "momentum": bool},
      "max_norm": float (0: off), "clip_value": float (0: off), "max_layer_norm": float (0: off),
      "on_nonfinite": "raise" | "skip", "accumulate": 1, "bucket_bytes": int,
      "check_every": updates between comparisons of the ranks' parameters (0: never),
      "delayed_rank", "seconds_delay": a rank that sleeps in each step before it goes back, for tests,
      "peers": Communicator of ranks in other processes, of which this session is one (instead of "world"),
      "same": {name: text} that must be equal on all of them}"""
    def __init__(self, model: Model, config: dict) -> None: ...
    def step(self, inputs: Sequence[np.ndarray], rates: np.ndarray) -> dict[str, Any]:
        """One update from one global batch (rows = inputs[0].shape[0]). rates: (groups, len(RATE_FIELDS)) float64.
        Returns loss, metrics (list of means), count, grad_norm, seconds, seconds_comm, seconds_wait, bytes_comm,
        waited_for, seconds_waited_for, skipped, t. Raises ReplicaError where ranks hold other parameters."""
    def run_epoch(
        self,
        inputs: Sequence[np.ndarray],
        order: np.ndarray | None,
        batch_size: int,
        rates: np.ndarray,
        progress: Callable[[int, dict], None] | None = None,
        interval: float = 0.1,
        unfinished: Callable[[dict[str, np.ndarray]], None] | None = None,
    ) -> dict[str, np.ndarray]:
        """Steps over order[0:batch_size], order[batch_size:2 batch_size], ... (int64 row numbers, None for all rows as
        they stand; the last batch may be short). rates: (steps, groups, fields). Calls progress(steps done, last
        report) about every `interval` seconds; an exception in it (KeyboardInterrupt too) ends the run at that
        step's edge with the state whole. Returns one row per finished step: loss, count, metrics (steps, m),
        grad_norm, seconds, seconds_comm, seconds_wait, waited_for, seconds_waited_for, skipped. Where an exception ends
        the run, unfinished(the same of the steps that were done) is called before it is raised."""
    def evaluate(self, inputs: Sequence[np.ndarray], batch_size: int) -> dict[str, Any]: ...  # loss, metrics, count
    def predict(self, inputs: Sequence[np.ndarray], batch_size: int) -> list[np.ndarray]: ...
    def gradients(
        self, inputs: Sequence[np.ndarray]
    ) -> dict[str, np.ndarray]: ...  # mean gradient of one batch; nothing changes
    def parameters(self) -> dict[str, np.ndarray]: ...  # copies
    def set_parameters(self, values: dict[str, np.ndarray]) -> None: ...
    def buffers(self) -> dict[str, np.ndarray]: ...
    def set_buffers(self, values: dict[str, np.ndarray]) -> None: ...
    def optimizer_state(self) -> list[dict[str, np.ndarray]]: ...  # one dict for each arena of state
    def set_optimizer_state(self, state: list[dict[str, np.ndarray]]) -> None: ...
    @property
    def t(self) -> int: ...  # batches that steps were made from; those whose update was skipped count too
    @t.setter
    def t(self, value: int) -> None: ...
    def digest(self) -> str: ...  # of parameters, buffers and optimizer state of every rank
    def profile(self, inputs: Sequence[np.ndarray], repeats: int) -> tuple[list[dict[str, Any]], list[list[float]]]: ...
    def memory(self) -> dict[str, int]: ...  # bytes_parameters, bytes_gradients, bytes_state, bytes_activations, plans

def sweep(
    networks: Sequence[dict[str, Any]],
    runs: Sequence[dict[str, Any]],
    dtype: str,
    threads: int,
    keep: str,
    column: int,
    sign: float,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[dict[str, Any]], bool]:
    """Trains every run on one thread, `threads` of them at a time, as Trainer.fit would alone: the same bits.

    networks: {"model": Model, "parameters" and "buffers": {name: (distribution of fill_random or "constant", a, b), or
    an array}, "data": arrays, "validation": arrays or None}.
    runs: {"network": index, "config": a Session's, "epochs", "batch_size", "shuffle", "rates": (groups, fields), "lrs":
    float64 (steps, groups) or None for the lr of `rates`, "parameters": {name: array} that start as the caller says}.
    keep: "none", "best" or "all" runs' parameters and buffers; best is the greatest sign x (last history[column]).
    progress(runs done, steps done) is called about 20 times a second.
    Returns (for each run {"status": "finished" | "diverged" | "failed" | "interrupted" | "waiting", "steps", "seconds",
    "error", "history": (epochs, columns), "parameters", "buffers"}, whether Ctrl-C ended it). Columns: loss, metrics,
    grad_norm, lr of the last step, then loss and metrics of the validation."""
