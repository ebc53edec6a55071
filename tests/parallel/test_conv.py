"""Eight processes train a convolutional network with batch norm, dropout and an uneven last batch to the bits of one
rank; so do eight threads. Under MPI too, where it is installed."""

import pytest

from . import jobs

pytestmark = pytest.mark.timeout(240)

BODY = """
x, y = rng.standard_normal((45, 9, 9, 3)).astype("f4"), rng.integers(0, 5, 45)  # the last batch has 13 rows
net = nn.Sequential(
    nn.Conv2d(17, 3, padding=1, bias=False), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(12, 3, stride=2, padding=1), nn.BatchNorm(), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(5),
)
trainer = tw.Trainer(net, loss=tw.losses.CrossEntropy(), optimizer=tw.optim.SGD(lr=0.05, momentum=0.9), seed=3,
                     world=int(sys.argv[1]) if len(sys.argv) > 1 else None, check_every=10)
while trainer.t < 50: trainer.fit(x, y, epochs=trainer.epoch + 1, batch_size=16, verbose=0)
digest = trainer.digest()
if rank == 0: print("found", trainer.t, digest)
"""


def found(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return next(line for line in done.stdout.splitlines() if line.startswith("found"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return found(jobs.launch(tmp_path_factory.mktemp("alone"), 1, BODY))


def test_eight_threads_have_the_bits_of_one_rank(tmp_path, alone):
    assert found(jobs.launch(tmp_path, 1, BODY, 8)) == alone


@pytest.mark.parametrize("by", [jobs.command, jobs.mpi_command])
def test_eight_processes_have_the_bits_of_one_rank(by, tmp_path, request):
    done = jobs.launch(tmp_path, 8, BODY, by=by)
    assert found(done) == request.getfixturevalue("alone")  # not run where MPI is missing
