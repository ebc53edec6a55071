"""A process of bench/ranks.py: makes its jobs, then does them as often as it is told."""

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
SIZES = (1 << 10, 1 << 20, 16 << 20, 100 << 20)  # as in ranks.py
EACH = 5  # calls are timed together; the median of these leaves out what other processes disturb
Jobs = tuple[int, list[Callable[[], object]]]  # this rank, and what it can do


class AllReduce:
    """A sum of arrays that every rank has just written, as a step writes its gradients; `meet` is a barrier."""

    def __init__(self, array: np.ndarray, call: Callable[[], object], meet: Callable[[], object]) -> None:
        self.array, self.call, self.meet = array, call, meet

    def prepare(self) -> None:
        self.array.fill(1)
        self.meet()

    def __call__(self) -> object:
        return self.call()


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


def ours_all_reduce(folder: Path, shared: bool) -> Jobs:
    import thalweg as tw

    comm = tw.parallel.communicator()
    arrays = [comm.zeros((size // 4,)) if shared else np.zeros(size // 4, "f4") for size in SIZES]
    return comm.rank, [AllReduce(a, lambda a=a: comm.all_reduce(a), comm.barrier) for a in arrays]


def mpi4py(folder: Path) -> Jobs:
    from mpi4py import MPI

    arrays = [np.zeros(size // 4, "f4") for size in SIZES]
    world = MPI.COMM_WORLD
    return world.rank, [AllReduce(a, lambda a=a: world.Allreduce(MPI.IN_PLACE, a), world.Barrier) for a in arrays]


def gloo(folder: Path) -> Jobs:
    import torch
    import torch.distributed as dist

    rank = torch_ranks(folder)
    arrays = [torch.zeros(size // 4) for size in SIZES]
    return rank, [AllReduce(a.numpy(), lambda a=a: dist.all_reduce(a), dist.barrier) for a in arrays]


def copy(folder: Path) -> Jobs:
    pairs = [(np.zeros(size // 4, "f4"), np.ones(size // 4, "f4")) for size in SIZES]
    return 0, [lambda p=p: np.copyto(*p) for p in pairs]


KINDS: dict[str, Callable[..., Jobs]] = {
    "train": train,
    "ddp": ddp,
    "own": lambda folder: ours_all_reduce(folder, False),
    "shared": lambda folder: ours_all_reduce(folder, True),
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
        if isinstance(job, AllReduce):
            job.prepare()
        start = time.perf_counter()
        job()
        seconds += time.perf_counter() - start
    return seconds / times


if __name__ == "__main__":
    main()
