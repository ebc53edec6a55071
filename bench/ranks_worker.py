"""A process of bench/ranks.py: makes its jobs, then does them as often as it is told."""

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
SIZES = (1 << 10, 64 << 10, 1 << 20, 16 << 20, 100 << 20)  # as in ranks.py
EACH = 5  # calls are timed together; the median of these leaves out what other processes disturb
Jobs = tuple[int, list[Callable[[], object]]]  # this rank, and what it can do


class Collective:
    """A call on an array that every rank has just written, as a step writes its gradients; `meet` is a barrier."""

    def __init__(self, array: np.ndarray, call: Callable[[], object], meet: Callable[[], object]) -> None:
        self.array, self.call, self.meet = array, call, meet

    def prepare(self) -> None:
        self.array.fill(1)
        self.meet()

    def __call__(self) -> object:
        return self.call()


def jobs_of(arrays: list[np.ndarray], calls: list[Callable[[np.ndarray], object]], meet: Callable[[], object]) -> list:
    """Return each call on each array, in the order of ranks.py."""
    return [Collective(a, lambda call=call, a=a: call(a), meet) for call in calls for a in arrays]


def network(name: str):
    from compare_lib import networks

    return networks.dense(784, 512, 512, 10, norm=True) if name == "mlp" else networks.resnet20()


def train(folder: Path, name: str, rows: str) -> Jobs:
    import thalweg as tw
    from compare_lib import networks, ours

    net = network(name)
    x, y = networks.batch(net, int(rows))
    step = ours.training(net, "sgd", x, y, threads=1)[0]
    return tw.parallel.rank(), [step]


def apart(folder: Path, name: str, rows: str) -> Jobs:
    return int(os.environ["THALWEG_BENCH_RANK"]), train(folder, name, str(int(rows) // 2))[1]


def torch_ranks(folder: Path) -> int:
    import torch
    import torch.distributed as dist

    rank = int(os.environ["THALWEG_BENCH_RANK"])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/torch", rank=rank, world_size=2)
    return rank


def ddp(folder: Path, name: str, rows: str) -> Jobs:
    import torch
    from compare_lib import networks, peer
    from torch import nn

    rank = torch_ranks(folder)
    net = network(name)
    x, y = (a[rank * int(rows) // 2 : (rank + 1) * int(rows) // 2] for a in networks.batch(net, int(rows)))
    inputs, labels, module = torch.from_numpy(x), torch.from_numpy(y), peer.build(net)
    if net.images:
        inputs = inputs.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        module = module.to(memory_format=torch.channels_last)
    model = nn.parallel.DistributedDataParallel(module)
    update = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)

    def step() -> None:
        update.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(inputs), labels).backward()
        update.step()

    return rank, [step]


def ours(folder: Path, kind: str) -> Jobs:
    import thalweg as tw

    comm = tw.parallel.communicator()
    arrays = [comm.zeros((size // 4,)) if kind == "shared" else np.zeros(size // 4, "f4") for size in SIZES]
    waits = [comm.all_reduce, comm.reduce_scatter, comm.all_gather, comm.broadcast, comm.send, comm.recv]
    starts = [getattr(comm, "start_" + call.__name__) for call in waits]
    finishes = [lambda *a, start=start: start(*a).finish() for start in starts]
    *calls, send, recv = finishes if kind == "started" else waits
    barrier = (lambda a: comm.start_barrier().finish()) if kind == "started" else lambda a: comm.barrier()
    return comm.rank, jobs_of(arrays, [*calls, barrier, there_and_back(send, recv, comm.rank)], comm.barrier)


def there_and_back(send: Callable, recv: Callable, rank: int) -> Callable[[object], None]:
    first, second = (recv, send) if rank else (send, recv)

    def letter(array: object) -> None:
        first(array, 1 - rank)
        second(array, 1 - rank)

    return letter


def mpi4py(folder: Path) -> Jobs:
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    arrays = [np.zeros(size // 4, "f4") for size in SIZES]
    results = {len(a): np.zeros((2, len(a)), "f4") for a in arrays}  # made once: what a script can do
    calls = [
        lambda a: world.Allreduce(MPI.IN_PLACE, a),
        lambda a: world.Reduce_scatter_block(a, results[len(a)][0, : len(a) // 2]),
        lambda a: world.Allgather(a, results[len(a)]),
        world.Bcast,
        lambda a: world.Barrier(),
        there_and_back(world.Send, world.Recv, world.rank),
    ]
    return world.rank, jobs_of(arrays, calls, world.Barrier)


def gloo(folder: Path) -> Jobs:
    import torch
    import torch.distributed as dist

    rank = torch_ranks(folder)
    arrays = [np.zeros(size // 4, "f4") for size in SIZES]
    results = {len(a): torch.zeros((2, len(a))) for a in arrays}
    calls = [
        dist.all_reduce,
        lambda a: dist.reduce_scatter(results[len(a)][0, : len(a) // 2], list(a.chunk(2))),
        lambda a: dist.all_gather(list(results[len(a)]), a),
        lambda a: dist.broadcast(a, 0),
        lambda a: dist.barrier(),
        there_and_back(dist.send, dist.recv, rank),
    ]
    return rank, jobs_of(arrays, [lambda a, call=call: call(torch.from_numpy(a)) for call in calls], dist.barrier)


def copy(folder: Path) -> Jobs:
    pairs = [(np.zeros(size // 4, "f4"), np.ones(size // 4, "f4")) for size in SIZES]
    return 0, [lambda p=p: np.copyto(*p) for p in pairs] * 6


KINDS: dict[str, Callable[..., Jobs]] = {
    "train": train,
    "apart": apart,
    "ddp": ddp,
    "own": lambda folder: ours(folder, "own"),
    "shared": lambda folder: ours(folder, "shared"),
    "started": lambda folder: ours(folder, "started"),
    "mpi4py": mpi4py,
    "gloo": gloo,
    "copy": copy,
}


def main() -> None:
    kind, *arguments, folder, name = sys.argv[1:]
    rank, jobs = KINDS[kind](Path(folder), *arguments)
    while (order := (Path(folder) / f"{name}-{rank}").read_text().split()) != ["end"]:
        job, times = jobs[int(order[0])], int(order[1])
        job()  # all have come
        seconds = [timed(job, min(times, EACH)) for _ in range(max(1, times // EACH))]
        if rank == 0:
            (Path(folder) / f"{name}-answer").write_text(repr(statistics.median(seconds)))


def timed(job: Callable[[], object], times: int) -> float:
    seconds = 0.0
    for _ in range(times):
        if isinstance(job, Collective):
            job.prepare()
        start = time.perf_counter()
        job()
        seconds += time.perf_counter() - start
    return seconds / times


if __name__ == "__main__":
    main()
