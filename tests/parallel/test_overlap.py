"""The exchange of gradients beside backward: the same bits as without, true figures, and faults in the midst of it."""

import os
import random
import signal
import time

import pytest

from . import jobs

pytestmark = pytest.mark.timeout(120)

# Sums of 250 KB, each in several pieces: kills and aborts come between a start and its end.
BITS = """
net = nn.Sequential(nn.Linear(250), nn.BatchNorm(), nn.ReLU(), nn.Linear(250), nn.ReLU(), nn.Linear(5))
trainer = tw.Trainer(net, loss=tw.losses.CrossEntropy(), optimizer=tw.optim.Adam(), seed=1)
trainer.build(x, y)
for _ in range(10): report = trainer.step(x, y)
digest = trainer.digest()
if rank == 0: print("found", digest, report.grad_norm.hex(), tw.parallel.communicator().overlap if COMM else "")
"""


def found(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return next(line for line in done.stdout.splitlines() if line.startswith("found")).split()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return found(jobs.launch(tmp_path_factory.mktemp("alone"), 1, "COMM = False" + BITS))


@pytest.mark.parametrize("overlap", ["off", "nodes", "thread"])
@pytest.mark.parametrize("by", [jobs.command, jobs.mpi_command])
def test_every_way_has_the_bits_of_one_rank(by, overlap, alone, tmp_path):
    done = found(jobs.launch(tmp_path, 2, "COMM = True" + BITS, by=by, THALWEG_OVERLAP=overlap))
    assert done[1:3] == alone[1:3]
    assert done[3] == ("nodes" if by is jobs.command and overlap == "thread" else overlap)


# 784 -> 512 -> 16 numbers, each tensor a multiple of 64 bytes: what is sent can be told in advance.
BYTES = """
x, y = rng.standard_normal((32, 784)).astype("f4"), rng.integers(0, 16, 32)
net = nn.Sequential(nn.Linear(512), nn.BatchNorm(), nn.ReLU(), nn.Linear(16))
trainer = tw.Trainer(net, loss=tw.losses.CrossEntropy(), optimizer=tw.optim.SGD(lr=0.1), metrics=["accuracy"])
trainer.build(x, y)
ranks = tw.parallel.size()
shared = sum(v.size for k, v in trainer.parameters().items() if "gamma" not in k and "beta" not in k)
gradients = 4 * shared
moments = 4 * 2 * 512 * 2  # mean and spread of each channel, and the sums of backward, which are d_gamma and d_beta
scalars = 4 * 2  # loss and accuracy; the norm needs nothing: every rank has all gradients
predicted = 2 * (ranks - 1) * gradients // ranks + (ranks - 1) * (moments + scalars)
for _ in range(3): report = trainer.step(x, y)
print("bytes", report.bytes_comm, predicted, flush=True)
assert report.bytes_comm == predicted, (report.bytes_comm, predicted, list(trainer.parameters()))
assert 0 <= report.seconds_wait <= report.seconds and 0 < report.seconds_comm < report.seconds
"""


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("by", [jobs.command, jobs.mpi_command])
def test_the_bytes_are_those_that_were_told(by, n, tmp_path):
    done = jobs.launch(tmp_path, n, BYTES, by=by)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bytes " in done.stdout


ENDLESS = """
net = nn.Sequential(nn.Linear(300), nn.BatchNorm(), nn.ReLU(), nn.Linear(300), nn.ReLU(), nn.Linear(5))
trainer = tw.Trainer(net, loss=tw.losses.CrossEntropy(), optimizer=tw.optim.SGD(lr=0.01), seed=1)
trainer.build(x, y)
trainer.step(x, y)
open(f"pid{rank}", "w").write(str(os.getpid()))
while True: trainer.step(x, y)
"""
KILLS = int(os.environ.get("THALWEG_KILLS", "4"))  # 110 took two minutes


def test_kills_at_any_moment_end_all_with_a_word(tmp_path):
    """Nearly all of a step is exchange here, so nearly every kill comes while something is started."""
    choice = random.Random(7)
    for k in range(KILLS):
        folder = tmp_path / str(k)
        folder.mkdir()
        process = jobs.started(folder, 3, ENDLESS, options=("--all",))
        try:
            pids = [int(jobs.wait_for(folder / f"pid{r}")) for r in range(3)]
            time.sleep(choice.uniform(0, 0.05))
            victim = choice.randrange(3)
            os.kill(pids[victim], signal.SIGKILL)
            text = process.communicate(timeout=30)[0]
        finally:
            jobs.end(process)
        assert process.returncode == 6, text
        for r in range(3):
            assert r == victim or f"rank {r} ends: rank {victim} was" in text, text
        assert not any(map(jobs.is_running, pids))
