"""The workloads, their targets (torch's time over ours, by number of threads) and floors."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import networks as n
from .machine import Watch
from .timing import Peaks, Repeated, gauge, interleave

SMALL_FLOPS = 1e8  # below this a whole epoch is one call, which is how such networks are trained

Built = tuple[Callable[[], Any], dict[str, Callable[[], Any]], Callable[[Peaks], float]]  # ours, peers, floor seconds


@dataclass(frozen=True)
class Workload:
    name: str
    build: Callable[[int], Built]  # (threads)
    targets: dict[int, float] = field(default_factory=dict)
    peer: str = ""  # who the peers are; default: torch and its version


class Absent(RuntimeError):
    """There is no such peer here."""


class Disagreement(RuntimeError):
    """The two sides don't compute the same thing: there is nothing to time."""


def agree(ours: Any, theirs: Any, what: str, tolerance: float = 2e-3) -> None:
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    error = np.linalg.norm(a - b) / (np.linalg.norm(b) + 1e-12) if a.shape == b.shape else np.inf
    if not error <= tolerance:
        raise Disagreement(f"{what} differs from torch's by {error:.2g} of its norm: {a.flat[:3]} and {b.flat[:3]}")


def training(network: n.Network, optimizer: str, rows: int) -> Callable[[int], Built]:
    def build(threads: int) -> Built:
        from . import ours, peer

        x, y = n.batch(network, rows)
        step, values, epoch = ours.training(network, optimizer, x, y, threads)
        peers = peer.trainings(network, optimizer, x, y, values)
        losses = [step() for _ in range(3)]
        for name, other in peers.items():
            agree(losses, [other().item() for _ in range(3)], f"the loss of three steps ({name})")
        small = n.flops(network, rows) < SMALL_FLOPS
        run: Any = Repeated(epoch, ours.EPOCH * ours.EPOCHS) if small else step
        return run, peers, lambda peaks: n.flops(network, rows) / peaks.flops

    return build


def beside_jax(network: n.Network, optimizer: str, rows: int) -> Callable[[int], Built]:
    """As training(), beside JAX."""

    def build(threads: int) -> Built:
        from . import jax_peer, ours

        if not jax_peer.present():
            raise Absent("jax is not installed")
        x, y = n.batch(network, rows)
        step, values, epoch = ours.training(network, optimizer, x, y, threads)
        peers = jax_peer.trainings(network, optimizer, x, y, values, threads)
        losses = [step() for _ in range(3)]
        for name, other in peers.items():
            agree(losses, other.losses(3), f"the loss of three steps ({name})")
        small = n.flops(network, rows) < SMALL_FLOPS
        run: Any = Repeated(epoch, ours.EPOCH * ours.EPOCHS) if small else step
        return run, dict(peers), lambda peaks: n.flops(network, rows) / peaks.flops

    return build


def training_bf16(network: n.Network, optimizer: str, rows: int) -> Callable[[int], Built]:
    """In bf16 with float32 parameters, both sides; one rounding is 2^-9, the losses agree to a few of them."""

    def build(threads: int) -> Built:
        from . import ours, peer

        x, y = n.batch(network, rows)
        step, values, _ = ours.training(network, optimizer, x, y, threads, precision="bf16")
        peers = peer.trainings_bf16(network, optimizer, x, y, values)
        losses = [step() for _ in range(3)]
        for name, other in peers.items():
            agree(losses, [other().item() for _ in range(3)], f"the loss of three steps ({name})", 2e-2)
        return step, peers, lambda peaks: n.flops(network, rows) / peaks.flops

    return build


def shards(network: n.Network, rows: int) -> Callable[[int], Built]:
    """The price of the default 8 shards, which is what the same bits on several ranks cost: beside one shard."""

    def build(threads: int) -> Built:
        from . import ours

        x, y = n.batch(network, rows)
        eight, _, _ = ours.training(network, "sgd", x, y, threads)
        one, _, _ = ours.training(network, "sgd", x, y, threads, shards=1)
        agree([eight() for _ in range(3)], [one() for _ in range(3)], "the loss of three steps (one shard)")
        return eight, {"one shard": one}, lambda peaks: n.flops(network, rows) / peaks.flops

    return build


def sweep(network: n.Network) -> Callable[[int], Built]:
    """Whole trainings, many at a time; torch has as many processes as we have threads."""

    def build(threads: int) -> Built:
        from . import sweeps

        ours = sweeps.ours(network, threads)
        peers = {name: sweeps.Processes(network, name, threads) for name in ("fused", "foreach")}
        start = sweeps.start(network)
        for name, other in peers.items():
            agree(ours()[0]["loss"], other.loss(start), f"the loss of the last epoch ({name})")
        steps = sweeps.EPOCHS * -(-len(sweeps.digits()[1]) // sweeps.ROWS)
        word = "process" if threads == 1 else "processes"
        timed: dict[str, Any] = {f"{k}, {threads} {word}": Repeated(p, threads) for k, p in peers.items()}
        flops = n.flops(network, sweeps.ROWS) * steps
        return Repeated(ours, sweeps.RUNS * threads), timed, lambda peaks: flops / peaks.flops

    return build


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    from . import ours

    return ours.aligned(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


def update(optimizer: str, traversals: int, size: int = 10_000_000) -> Callable[[int], Built]:
    """traversals: of the parameters' bytes by a fused update."""

    def build(threads: int) -> Built:
        from . import ours, peer

        return (
            ours.update(optimizer, size, threads),
            peer.updates(optimizer, size),
            lambda peaks: traversals * 4.0 * size / peaks.stream,
        )

    return build


def operator(name: str, shape: tuple[int, ...], traversals: int) -> Callable[[int], Built]:
    """Batch norm with ReLU, or layer norm: forward and backward."""

    def build(threads: int) -> Built:
        import torch

        from . import ours, peer

        x, d_y = normal(*shape), normal(*shape, seed=1)
        parameters = [np.full(shape[-1], 1.5, np.float32), np.full(shape[-1], 0.25, np.float32)]
        functional = torch.nn.functional

        def batch_norm_relu(x: Any, gamma: Any, beta: Any) -> Any:
            return torch.relu(functional.batch_norm(x, None, None, gamma, beta, training=True))

        def layer_norm(x: Any, gamma: Any, beta: Any) -> Any:
            return functional.layer_norm(x, x.shape[-1:], gamma, beta)

        step = getattr(ours, name)(x, d_y, parameters, threads)
        images = name == "batch_norm_relu"
        peers = peer.forward_backward(
            {"batch_norm_relu": batch_norm_relu}.get(name, layer_norm), x, d_y, parameters, images
        )
        for kind, other in peers.items():
            for mine, theirs in zip(step(), other(), strict=True):
                t = theirs.permute(0, 2, 3, 1) if theirs.ndim == 4 else theirs
                agree(mine, t.numpy(), f"{name} ({kind})")
        return step, peers, lambda peaks: traversals * x.nbytes / peaks.copy

    return build


def cross_entropy(rows: int, classes: int) -> Callable[[int], Built]:
    def build(threads: int) -> Built:
        import torch

        from . import ours

        logits, labels = normal(rows, classes), np.random.default_rng(1).integers(0, classes, rows)
        x, y = torch.from_numpy(logits).requires_grad_(), torch.from_numpy(labels)

        def peer() -> Any:
            loss = torch.nn.functional.cross_entropy(x, y)
            return [loss.detach(), torch.autograd.grad(loss, x)[0]]

        step = ours.softmax_cross_entropy(logits, labels, threads)
        for mine, theirs in zip(step(), peer(), strict=True):
            agree(mine, theirs.numpy(), "softmax with cross-entropy")
        return step, {"eager": peer}, lambda peaks: 3 * logits.nbytes / peaks.stream

    return build


def activation(name: str, size: int = 1_000_000) -> Callable[[int], Built]:
    def build(threads: int) -> Built:
        import torch

        from . import ours

        x = normal(size)
        t = torch.from_numpy(x)
        f = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "gelu": torch.nn.functional.gelu}[name]
        step = ours.elementwise(name, x, threads)
        agree(step()[0], f(t).numpy(), name, 1e-5)
        return step, {"eager": lambda: f(t)}, lambda peaks: 2 * x.nbytes / peaks.copy

    return build


MLP = n.dense(784, 512, 512, 10, norm=True)
WORKLOADS = [
    Workload("mlp 64-128-10 b32 sgd", training(n.dense(64, 128, 10), "sgd", 32), {1: 15}),
    Workload("mlp 64-128-10 b32 adam", training(n.dense(64, 128, 10), "adam", 32), {1: 15}),
    Workload("sweep: mlp 64-128-10 b32, 10 epochs", sweep(n.dense(64, 128, 10)), {1: 12, 2: 12}),
    Workload("mlp 784-512-512-10 bn b128", training(MLP, "sgd", 128), {1: 1.4, 2: 1.85}),
    Workload("jax: mlp 64-128-10 b32 sgd", beside_jax(n.dense(64, 128, 10), "sgd", 32), {1: 1.3}, "jax"),
    Workload("jax: mlp 64-128-10 b32 adam", beside_jax(n.dense(64, 128, 10), "adam", 32), {1: 1.3}, "jax"),
    Workload("jax: mlp 784-512-512-10 bn b128", beside_jax(MLP, "sgd", 128), {1: 1.05, 2: 1.05}, "jax"),
    Workload("mlp 784-2048-2048-10 b512", training(n.dense(784, 2048, 2048, 10), "sgd", 512), {1: 1.05, 2: 1.15}),
    Workload("conv 32-64-128 bn b64", training(n.conv_net(32, 64, 128), "sgd", 64), {1: 1.3, 2: 1.3}),
    Workload(
        "mlp 784-2048-2048-10 b512 bf16",
        training_bf16(n.dense(784, 2048, 2048, 10), "sgd", 512),
        {1: 1.05, 2: 1.05},
    ),
    Workload("conv 32-64-128 bn b64 bf16", training_bf16(n.conv_net(32, 64, 128), "sgd", 64), {1: 1.3, 2: 1.3}),
    Workload("lenet5 b128", training(n.lenet5(), "sgd", 128), {1: 1.5, 2: 1.5}),
    Workload("resnet20 b128", training(n.resnet20(), "sgd", 128), {1: 1.1, 2: 1.1}),
    Workload("8 shards: mlp 784-512-512-10 bn b128", shards(MLP, 128), {1: 0.91, 2: 0.91}, "thalweg"),
    Workload("8 shards: conv 32-64-128 bn b64", shards(n.conv_net(32, 64, 128), 64), {1: 0.91, 2: 0.91}, "thalweg"),
    Workload("batch norm + relu [128,32,32,64]", operator("batch_norm_relu", (128, 32, 32, 64), 8), {1: 1.6, 2: 1.6}),
    Workload("layer norm [8192,1024]", operator("layer_norm", (8192, 1024), 5), {1: 2, 2: 2}),
    Workload("softmax cross-entropy [128,10]", cross_entropy(128, 10), {1: 12}),
    Workload("tanh 1M", activation("tanh"), {1: 4, 2: 4}),
    Workload("sigmoid 1M", activation("sigmoid"), {1: 2, 2: 2}),
    Workload("gelu 1M", activation("gelu"), {1: 2, 2: 2}),
    Workload("update 10M sgd", update("sgd", 5), {1: 1, 2: 1}),
    Workload("update 10M adam", update("adam", 7), {2: 1.1}),
    Workload("update 10M rmsprop", update("rmsprop", 5), {1: 3, 2: 3}),
    Workload("update 10M adagrad", update("adagrad", 5), {1: 1.4, 2: 1.4}),
]


TRIES, SLOW = 3, 0.75  # of a row while the machine gives less than this part of its peak


def run(workload: Workload, threads: int, peaks: Peaks, rounds: int, limit_seconds: float) -> dict[str, Any]:
    """Build, check, time; one row of results."""
    import torch

    torch.set_num_threads(threads)
    row: dict[str, Any] = {"workload": workload.name, "threads": threads, "target": workload.targets.get(threads)}
    try:
        ours, peers, floor = workload.build(threads)
    except (Absent, Disagreement) as error:
        return {**row, "error": str(error)}
    watch = Watch()
    for _ in range(TRIES):  # the host may give two cores the time of one, to both sides
        measured = interleave({"ours": ours, **peers, "gauge": gauge(threads)}, rounds, limit_seconds)
        speed = peaks.gauge / measured.median("gauge")
        if speed > SLOW:
            break
    others = watch.others()
    best = min(peers, key=measured.median)
    return {
        **row,
        "peer": f"{workload.peer or 'torch ' + torch.__version__.split('+')[0]} {best}",
        "ratio": measured.ratio(best, "ours"),
        "spread": measured.spread(best, "ours"),
        "others": others,
        "speed": speed,
        "floor_ratio": measured.median("ours") / floor(peaks),
        "seconds_ours": measured.median("ours"),
        "seconds_peer": measured.median(best),
        "rounds": len(measured.rounds["ours"]),
    }
