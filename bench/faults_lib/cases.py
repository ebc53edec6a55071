"""The scripts: what the scripts of each side begin with, and for each fault what goes wrong, mostly on rank 1."""

from __future__ import annotations

from dataclasses import dataclass

LIMIT_SECONDS = 10  # that a rank waits for another, on both sides; torch waits 30 minutes if it is not told

OURS = """
import os, resource, signal, sys, time
import numpy as np
import thalweg as tw
from thalweg import nn
rank = tw.parallel.rank()
rng = np.random.default_rng(0)
x, y = rng.standard_normal((480, 20)).astype("f4"), rng.integers(0, 5, 480)
def make(width=33, lr=0.1, seed=3, dtype="float32", **more):
    net = nn.Sequential(nn.Linear(width), nn.BatchNorm(), nn.ReLU(), nn.Linear(5))
    return tw.Trainer(net, tw.losses.CrossEntropy(), tw.optim.SGD(lr=lr, momentum=0.9), seed=seed, dtype=dtype,
                      check_every=5, **more)
class At(tw.callbacks.Callback):
    def __init__(self, fault): self.fault = fault
    def on_train_batch_begin(self, batch, logs=None):
        if self.trainer.t == 5: struck(); rank == 1 and self.fault(self.trainer)
def struck(): rank == 0 and open("struck", "a").close()
def train(trainer, fault=lambda t: None, batch=16, every=0):
    saver = [tw.callbacks.ModelCheckpoint("run", save_freq=every)] if every else []
    trainer.fit(x, y, epochs=1, batch_size=batch, callbacks=[At(fault), *saver], verbose=0)
def flip(trainer):
    values = trainer.parameters()
    values["0.weight"].view("u4")[3, 5] ^= 1 << 30
    trainer.set_parameters(values)
def checkpoint_file(): return max(p for p in __import__("pathlib").Path("run").glob("step-*/model.safetensors"))
def load(): return tw.Trainer.load("run")
world = tw.parallel.communicator()
"""

TORCH = """
import datetime, os, resource, signal, sys, time
import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP
torch.set_num_threads(1)
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=LIMIT))
rank = dist.get_rank()
rng = np.random.default_rng(0)
x, y = torch.tensor(rng.standard_normal((480, 20)), dtype=torch.float32), torch.tensor(rng.integers(0, 5, 480))
class Trainer:
    def __init__(self, width=33, lr=0.1, seed=3, dtype=torch.float32):
        torch.manual_seed(seed)
        layers = torch.nn.Linear(20, width), torch.nn.BatchNorm1d(width), torch.nn.ReLU(), torch.nn.Linear(width, 5)
        self.dtype, self.net = dtype, DDP(torch.nn.Sequential(*layers).to(dtype))
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=lr, momentum=0.9)
make = Trainer
def struck(): rank == 0 and open("struck", "a").close()
def train(trainer, fault=lambda t: None, batch=16, every=0):
    for t in range(480 // 16):
        if t == 5:
            struck()
            if rank == 1: fault(trainer)
        rows = slice(16 * t + 8 * rank, 16 * t + 8 * rank + batch - 8)
        loss = torch.nn.functional.cross_entropy(trainer.net(x[rows].to(trainer.dtype)), y[rows])
        trainer.optimizer.zero_grad()
        loss.backward()
        trainer.optimizer.step()
        if every and (t + 1) % every == 0 and rank == 0: save(trainer)
    found = torch.cat([p.detach().double().flatten() for p in trainer.net.parameters()])
    print("end", rank, float(found.sum()), flush=True)
def save(trainer):
    state = trainer.net.module.state_dict(), trainer.optimizer.state_dict()
    torch.save(state, "run.pt")
def flip(trainer):
    with torch.no_grad(): trainer.net.module[0].weight.view(torch.int32)[3, 5] ^= 1 << 30
def checkpoint_file(): return "run.pt"
def load(): return torch.load("run.pt")
""".replace("LIMIT", str(LIMIT_SECONDS))


@dataclass(frozen=True)
class Case:
    """A fault: the same script for both sides, or one for each; and what a message has to name."""

    name: str
    ours: str
    torch: str
    named: tuple[str, ...]  # regular expressions, one of which a good message matches
    signal: int = 0  # to the launcher, once training has reached step 5
    load: str = ""  # what is run afterwards, in one process: the state that is left


def case(name: str, body: str, *named: str, torch: str | None = None, **more: object) -> Case:
    return Case(name, body, body if torch is None else torch, named, **more)  # type: ignore[arg-type]


FULL = """
def full():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
train(make(), every=3)
struck()
if rank == 0: full()
"""
AGAIN = """
saver = tw.callbacks.ModelCheckpoint("run", save_freq=3)
load().fit(x, y, epochs=2, batch_size=16, verbose=0, callbacks=[saver])
"""
DAMAGE = """
if rank == 0:
    train_ = checkpoint_file()
    data = bytearray(open(train_, "rb").read())
    {damage}
    open(train_, "wb").write(data)
"""
LOADS = "load(); print('loads')"
CASES = [
    case(
        "SIGKILL of a rank",
        "train(make(), lambda t: os.kill(os.getpid(), signal.SIGKILL))",
        r"ends: rank 1\b|^rank +: 1 ",
    ),
    case("a rank leaves: sys.exit(0)", "train(make(), lambda t: sys.exit(0))", r"rank 1 has left"),
    case("exception on one rank", "train(make(), lambda t: {}['missing'])", r"KeyError: 'missing'"),
    case("SIGSTOP of a rank", "train(make(), lambda t: os.kill(os.getpid(), signal.SIGSTOP))", r"for rank 1"),
    case("a rank sleeps beyond the limit", "train(make(), lambda t: time.sleep(60))", r"for rank 1"),
    case(
        "collectives in another order",
        "a = np.ones(1000, 'f4'); struck()\nworld.all_reduce(a) if rank else world.barrier()",
        r"rank 1 calls all_reduce",
        torch="a = torch.ones(1000); struck()\ndist.all_reduce(a) if rank else dist.barrier()\n"
        "print('end', rank, float(a.sum()))",
    ),
    case(
        "arrays of other lengths",
        "a = np.ones(1000 + rank, 'f4'); struck()\nworld.all_reduce(a)",
        r"1000 x 4 bytes.*1001 x 4 bytes|collective mismatch",
        torch="a = torch.ones(1000 + rank); struck()\ndist.all_reduce(a)\nprint('end', rank, float(a.sum()))",
    ),
    case("another batch size on one rank", "struck(); train(make(), batch=16 + rank)", r"batch_size is 16 on rank 0"),
    case("another model", "struck(); train(make(width=33 + rank))", r"network is|not to match sizes of the same param"),
    case(
        "another dtype",
        "struck(); train(make(dtype=['float32', 'float64'][rank]))",
        r'dtype is "float32" on rank 0',
        torch="struck(); train(make(dtype=[torch.float32, torch.float64][rank]))",
    ),
    case("another learning rate", "struck(); train(make(lr=0.1 + 0.1 * rank))", r'"lr": 0\.1'),
    case(
        "a NaN in one rank's data",
        "t = make(); t.build(x, y); struck()\nx[15, 3] = np.nan\nt.step(x[:16], y[:16])",
        r"x\[15, 3\] = nan|rank 1",
        torch="struck()\nif rank: x[8:16, 3] = float('nan')\ntrain(make())",
    ),
    case("a flipped bit in one rank's weights", "train(make(), flip)", r"'0\.weight' of rank 1"),
    case(
        "SIGTERM to the launcher", "train(make(), lambda t: time.sleep(0.3), every=10**9)", r"", signal=15, load=LOADS
    ),
    case(
        "SIGKILL while saving",
        "if rank == 0: os.environ['THALWEG_FAULT'] = 'write:14:KILL'\nstruck(); train(make(), every=3)",
        r"rank 0\b|^rank +: 0 ",
        torch="import torch.serialization as s\nbefore, saves = s._save, []\n"
        "def cut(obj, file, *rest):\n    saves.append(1)\n"
        "    if len(saves) == 2: file.write_record('data.pkl', b'x', 1); os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return before(obj, file, *rest)\ns._save = cut\nstruck(); train(make(), every=3)",
        load=LOADS,
    ),
    case(
        "no room for a file",
        FULL + AGAIN,
        r"File too large|iostream error",
        torch=FULL + "train(make(), every=3)",
        load=LOADS,
    ),
    case(
        "a flipped bit in a checkpoint",
        "train(make(), every=3)" + DAMAGE.format(damage="data[len(data) // 2] ^= 4"),
        r"damaged in tensor '",
        load=LOADS,
    ),
    case(
        "a truncated checkpoint",
        "train(make(), every=3)" + DAMAGE.format(damage="del data[-100:]"),
        r"has \d+ bytes, expected",
        load=LOADS,
    ),
]
