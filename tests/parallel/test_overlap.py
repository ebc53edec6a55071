"""The exchange of gradients beside backward: the same bits as without, true figures, and faults in the midst of it."""

import os
import random
import signal
import time

import pytest

from . import jobs

pytestmark = pytest.mark.timeout(120)

STEPS = int(os.environ.get("THALWEG_STEPS", "8"))
# Sums of 250 KB, in several pieces each where they are not taken in place.
BITS = """
steps, world = int(sys.argv[1]), int(sys.argv[2])
net = nn.Sequential(nn.Linear(250), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.2), nn.Linear(250), nn.ReLU(), nn.Linear(5))
trainer = tw.Trainer(net, loss=tw.losses.CrossEntropy(), optimizer=tw.optim.Adam(), seed=1, world=world or None)
trainer.build(x, y)
for k in range(steps):
    begin, end = (32, 45) if k % 3 == 2 else (0, 32)  # an uneven last batch
    report = trainer.step(x[begin:end], y[begin:end])
digest = trainer.digest()
comm = tw.parallel.communicator()
if rank == 0: print("found", digest, report.grad_norm.hex(), comm.overlap if comm else "")
"""


def found(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return next(line for line in done.stdout.splitlines() if line.startswith("found")).split()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return found(jobs.launch(tmp_path_factory.mktemp("alone"), 1, BITS, STEPS, 0))[1:3]


@pytest.mark.parametrize("overlap", ["off", "nodes", "thread"])
@pytest.mark.parametrize("way", jobs.WAYS)
@pytest.mark.parametrize("n", [2, 4, *([8] if STEPS > 8 else [])])
def test_processes_have_the_bits_of_one_rank(n, way, overlap, alone, tmp_path):
    by, variables = jobs.WAYS[way]
    done = found(jobs.launch(tmp_path, n, BITS, STEPS, 0, by=by, THALWEG_OVERLAP=overlap, **variables))
    assert done[1:3] == alone
    threads = way == "messages" or (way == "nodes" and n > 2)  # what ranks of one memory don't have
    assert done[3] == ("nodes" if overlap == "thread" and not threads else overlap)


@pytest.mark.parametrize("overlap", ["off", "nodes"])
@pytest.mark.parametrize("n", [2, 4, 8])
def test_threads_have_the_bits_of_one_rank(n, overlap, alone, tmp_path):
    assert found(jobs.launch(tmp_path, 1, BITS, STEPS, n, THALWEG_OVERLAP=overlap))[1:3] == alone


# Gradients with gaps, so that blocks of the norm lie in two sums, or partly in none; stripes of several parts; and one
# step whose norm is infinite.
FROZEN = """
hidden = nn.Linear(1301), nn.ReLU(), nn.Linear(1303).freeze(), nn.ReLU(), nn.Linear(1305), nn.ReLU()
net = nn.Sequential(*hidden, nn.Linear(5))
trainer = tw.Trainer(net, loss=tw.losses.CrossEntropy(), optimizer=tw.optim.Adam(), seed=1, dtype="float64",
                     max_norm=0.5, on_nonfinite="skip", world=int(sys.argv[1]) or None, threads=int(sys.argv[2]))
trainer.build(x.astype("f8"), y)
for scale in (1, 1e200, 1):
    report = trainer.step(x.astype("f8") * scale, y)
    assert report.skipped == (scale > 1)
digest = trainer.digest()
if rank == 0: print("found", digest, report.grad_norm.hex())
"""


@pytest.mark.parametrize("overlap", ["off", "nodes"])
def test_the_norm_of_a_part_of_the_parameters(overlap, tmp_path):
    one, *others = (
        found(jobs.launch(tmp_path, n, FROZEN, world, threads, THALWEG_OVERLAP=overlap))
        for n, world, threads in [(1, 0, 1), (1, 4, 1), (1, 2, 2), (2, 0, 1), (2, 0, 2)]
    )
    assert all(other == one for other in others)


# Ranks that share memory share the update of these parameters: each has only a part of Adam's state up to date.
SHARED = """
net = nn.Sequential(nn.Linear(250), nn.ReLU(), nn.Linear(250), nn.ReLU(), nn.Linear(5))
make_it = lambda: tw.Trainer(net, loss=tw.losses.CrossEntropy(), optimizer=tw.optim.Adam(), seed=1)
trainer = make_it() if sys.argv[1] == "start" else tw.Trainer.load("run")
for _ in range(3): trainer.step(x, y)
if sys.argv[1] == "start":
    trainer.save("run")  # rank 0 writes all of the state
    for _ in range(2): trainer.step(x, y)
else:
    for _ in range(2): trainer.step(x, y)
print("found", trainer.digest())
if sys.argv[1] == "start":
    trainer = tw.Trainer.load("run")  # over what was there
    for _ in range(5): trainer.step(x, y)
    print("later", trainer.digest())
"""


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 4), (4, 2)])
def test_the_state_of_a_shared_update_is_saved_whole(first, then, tmp_path):
    """What was saved after three updates goes on, on any number of ranks, to the bits of eight updates in a row."""
    start = jobs.launch(tmp_path, first, SHARED, "start")
    assert start.returncode == 0, start.stdout + start.stderr
    go_on = found(jobs.launch(tmp_path, then, SHARED, "go on"))
    assert go_on == ["found", next(line for line in start.stdout.splitlines() if line.startswith("later")).split()[1]]


# 784 -> 512 -> 16 numbers, each tensor a multiple of 64 bytes: what is sent can be told in advance.
TRAINED = """
x, y = rng.standard_normal((32, 784)).astype("f4"), rng.integers(0, 16, 32)
net = nn.Sequential(nn.Linear(512), nn.BatchNorm(), nn.ReLU(), nn.Linear(16))
trainer = tw.Trainer(net, loss=tw.losses.CrossEntropy(), optimizer=tw.optim.SGD(lr=0.1), metrics=["accuracy"])
trainer.build(x, y)
ranks = tw.parallel.size()
shared = sum(v.size for k, v in trainer.parameters().items() if "gamma" not in k and "beta" not in k)
gradients = 4 * shared
moments = 4 * 2 * 512 * 2  # mean and spread of each channel, and the sums of backward, which are d_gamma and d_beta
scalars = 4 * 2  # loss and accuracy; the norm needs nothing where every rank has all gradients
for _ in range(3): report = trainer.step(x, y)
"""
BYTES = (
    TRAINED
    + """
predicted = 2 * (ranks - 1) * gradients // ranks + (ranks - 1) * (moments + scalars)
print("bytes", report.bytes_comm, predicted, flush=True)
messages = tw.parallel.communicator().overlap == "thread"  # else ranks share the update, in stripes of nearly one size
assert abs(report.bytes_comm / predicted - 1) <= (0 if messages else 0.07), (report.bytes_comm, predicted)
assert 0 <= report.seconds_wait <= report.seconds and 0 < report.seconds_comm < report.seconds
"""
)


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("way", ["launch", "messages"])
def test_the_bytes_are_those_that_were_told(way, n, tmp_path):
    by, variables = jobs.WAYS[way]
    done = jobs.launch(tmp_path, n, BYTES, by=by, **variables)
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


@pytest.mark.timeout(60 + 20 * KILLS)
def test_kills_at_any_moment_end_all_with_a_word(tmp_path):
    """Nearly all of a step is exchange here, so nearly every kill comes while something is started."""
    choice = random.Random(7)
    for k in range(KILLS):
        folder = tmp_path / str(k)
        folder.mkdir()
        process = jobs.started(folder, 3, ENDLESS, options=("--all",))
        try:
            pids = [int(jobs.wait_for(folder / f"pid{r}", 60)) for r in range(3)]
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
