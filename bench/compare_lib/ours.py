"""Our side: the same networks in thalweg's layers, and single operators as compiled functions."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import thalweg as tw
from thalweg import _core, nn

from .networks import Network

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "sgd": lambda: tw.optim.SGD(lr=0.01, momentum=0.9),
    "adam": lambda: tw.optim.Adam(lr=1e-3),
    "rmsprop": lambda: tw.optim.RMSprop(lr=1e-3),
    "adagrad": lambda: tw.optim.Adagrad(lr=1e-2),
}


def build(network: Network) -> nn.Module:
    return _sequence(network.layers)


def _sequence(layers: Any) -> nn.Sequential:
    return nn.Sequential(*[_module(*layer) for layer in layers])


def _module(kind: str, *args: Any) -> nn.Module:
    if kind == "conv":
        out, kernel, stride, padding, bias = args
        return nn.Conv2d(out, kernel, stride=stride, padding=padding, bias=bias)
    if kind == "residual":
        return nn.Residual(_sequence(args[0]), _sequence(args[1]) if args[1] else None)
    plain = {"norm": nn.BatchNorm, "relu": nn.ReLU, "flatten": nn.Flatten, "global_pool": nn.GlobalAvgPool2d}
    return plain[kind]() if kind in plain else {"linear": nn.Linear, "pool": nn.MaxPool2d}[kind](*args)


def training(
    network: Network,
    optimizer: str,
    x: np.ndarray,
    y: np.ndarray,
    threads: int,
    shards: int = 8,
    precision: str = "float32",
) -> tuple[Callable[[], float], list[np.ndarray], Callable[[], Any]]:
    """(a training step that returns its loss, the initial parameters in order, EPOCH steps at once)."""
    trainer = tw.Trainer(
        *(build(network), tw.losses.CrossEntropy(), OPTIMIZERS[optimizer]()),
        **{"seed": 0, "threads": threads, "shards": shards, "precision": precision},
    )
    trainer.build(x, y)
    values = [np.array(v) for v in trainer.parameters().values()]
    return (lambda: trainer.step(x, y).loss), values, _epochs(trainer, x, y)


def _epochs(trainer: Any, x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """Steps as `fit` makes them: EPOCHS epochs of EPOCH batches, each epoch a native call."""
    many_x, many_y = np.concatenate([x] * EPOCH), np.concatenate([y] * EPOCH)

    def some() -> None:
        trainer.fit(many_x, many_y, epochs=trainer.epoch + EPOCHS, batch_size=len(x), shuffle=False, verbose=0)

    return some


EPOCH, EPOCHS = 100, 5


def update(optimizer: str, size: int, threads: int) -> Callable[[], Any]:
    """One update of an array with a gradient that is there, as the peer's optimizer makes it."""
    rule = OPTIMIZERS[optimizer]()
    rng = np.random.default_rng(0)
    w, g = (aligned(rng.standard_normal(size, dtype=np.float32)) for _ in range(2))
    states = aligned(rule.init(w).arrays[0])
    rates = rule.table(0, 1)[0, 0]
    return lambda: _core.update(rule.rule, 2, rates, w, g, states, 1.0, threads)


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy that begins with a cache line, as a plan's arrays and torch's do, and NumPy's do not."""
    room = np.empty(array.nbytes + 64, np.uint8)
    begin = -room.ctypes.data % 64
    copy = room[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[:] = array
    return copy


def function(
    arrays: Sequence[np.ndarray], record: Callable[[_core.Graph, list[int]], list[int]], threads: int
) -> Callable[[], list[np.ndarray]]:
    """A compiled graph on arrays; int32 arrays are class numbers."""
    graph = _core.Graph()
    values = [graph.input(f"in{i}", a.shape, "index" if a.dtype == np.int32 else "real") for i, a in enumerate(arrays)]
    compiled = _core.Function(graph, values, record(graph, values), "float32", False, threads)
    given = list(arrays)
    return lambda: compiled(given)


def product(a: np.ndarray, b: np.ndarray, threads: int) -> Callable[[], Any]:
    return function([a, b], lambda g, v: g.apply("matmul", v, {}), threads)


def elementwise(op: str, x: np.ndarray, threads: int) -> Callable[[], list[np.ndarray]]:
    attrs = {"approximate": "none"} if op == "gelu" else {}
    return function([x], lambda g, v: g.apply(op, v, attrs), threads)


def batch_norm_relu(x: np.ndarray, d_y: np.ndarray, parameters: list[np.ndarray], threads: int) -> Callable[[], Any]:
    def record(g: _core.Graph, v: list[int]) -> list[int]:
        [statistics] = g.apply("moments", [v[0]], {})
        [y] = g.apply("batch_norm", [v[0], statistics, v[2], v[3]], {"eps": 1e-5})
        [y] = g.apply("relu", [y], {})
        return [y, *g.gradient(y, [v[0], v[2], v[3]], v[1])]

    return function([x, d_y, *parameters], record, threads)


def layer_norm(x: np.ndarray, d_y: np.ndarray, parameters: list[np.ndarray], threads: int) -> Callable[[], Any]:
    def record(g: _core.Graph, v: list[int]) -> list[int]:
        y = g.apply("layer_norm", [v[0], v[2], v[3]], {"dims": 1, "eps": 1e-5})[0]
        return [y, *g.gradient(y, [v[0], v[2], v[3]], v[1])]

    return function([x, d_y, *parameters], record, threads)


def softmax_cross_entropy(logits: np.ndarray, labels: np.ndarray, threads: int) -> Callable[[], Any]:
    def record(g: _core.Graph, v: list[int]) -> list[int]:
        losses = g.apply("cross_entropy", v, {"label_smoothing": 0.0})[0]
        [loss] = g.apply("reduce_mean", [losses], {"axes": [0], "keepdims": False})
        return [loss, *g.gradient(loss, [v[0]])]

    return function([logits, labels.astype(np.int32)], record, threads)
