"""Processes have the bits of threads and of one rank: training, evaluation, prediction, checkpoints."""

import pytest

from . import jobs

pytestmark = pytest.mark.timeout(120)

BODY = """
world = int(sys.argv[1]) if len(sys.argv) > 1 else None
trainer = make(world=world)
history = fit(trainer)
found = [trainer.digest(), history["loss"][-1].hex(), trainer.evaluate(x, y, batch_size=16)["loss"].hex()]
found += [float(trainer.predict(x, batch_size=16).astype("f8").sum()).hex()]
found += [float(sum(np.abs(g).astype("f8").sum() for g in trainer.gradients(x, y).values())).hex()]
if rank == 0: print("found", *found)
saved = trainer.save("run")
assert os.path.isdir(saved), saved
"""
GO_ON = """
trainer = tw.Trainer.load("run", world=int(sys.argv[1]) if len(sys.argv) > 1 else None)
fit(trainer, 5)
digest = trainer.digest()
if rank == 0: print("found", digest)
"""


def found(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return next(line for line in done.stdout.splitlines() if line.startswith("found"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """On one rank: what is found, and what is found after going on."""
    folder = tmp_path_factory.mktemp("alone")
    return found(jobs.launch(folder, 1, BODY)), found(jobs.launch(folder, 1, GO_ON)), folder


@pytest.mark.parametrize("n", [2, 4])
def test_processes_have_the_bits_of_one_rank(n, alone, tmp_path):
    done = jobs.launch(tmp_path, n, BODY)
    assert found(done) == alone[0]
    assert done.stdout.count("epoch   3/3") == 1  # rank 0 alone speaks
    assert found(jobs.launch(tmp_path, 6 - n, GO_ON)) == alone[1]  # loads on another number of ranks


def test_threads_and_processes_have_the_same_bits(alone, tmp_path):
    assert found(jobs.launch(tmp_path, 1, BODY, 2)) == alone[0]


def test_three_processes_agree_to_rounding(alone, tmp_path):
    one, three = alone[0].split(), found(jobs.launch(tmp_path, 3, BODY)).split()
    assert one[1] != three[1]
    for a, b in zip(one[2:], three[2:], strict=True):
        assert float.fromhex(a) == pytest.approx(float.fromhex(b), rel=1e-4)
