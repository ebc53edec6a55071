"""Processes train a convolutional network with batch norm, dropout and an uneven last batch to the bits of one rank
where they share its shards evenly; 3 and 6 agree with it to rounding, and with threads to the bit. Under MPI too, where
it is installed."""

import pytest

from . import jobs

pytestmark = pytest.mark.timeout(240)

BODY = """
x, y = rng.standard_normal((45, 9, 9, 3)).astype("f4"), rng.integers(0, 5, 45)  # the last batch has 13 rows
for world in [int(n) for n in sys.argv[1:]] or [None]:
    net = nn.Sequential(
        nn.Conv2d(17, 3, padding=1, bias=False), nn.BatchNorm(), nn.ReLU(),
        nn.Conv2d(16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(12, 3, stride=2, padding=1), nn.BatchNorm(), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(5),
    )
    trainer = tw.Trainer(net, loss=tw.losses.CrossEntropy(), optimizer=tw.optim.SGD(lr=0.05, momentum=0.9), seed=3,
                         world=world, check_every=10)
    while trainer.t < 50: trainer.fit(x, y, epochs=trainer.epoch + 1, batch_size=16, verbose=0)
    found = [trainer.digest(), trainer.history["loss"][-1].hex(), trainer.evaluate(x, y)["loss"].hex()]
    if rank == 0: print("found", trainer.world, trainer.t, *found)
"""
SIZES = (2, 3, 4, 6, 8)


def found(done):
    """What is found for each number of ranks."""
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("found")]
    return {int(world): (steps, digest, *losses) for _, world, steps, digest, *losses in lines}


@pytest.fixture(scope="module")
def threads(tmp_path_factory):
    """By one rank, and by ranks that are threads."""
    return found(jobs.launch(tmp_path_factory.mktemp("threads"), 1, BODY, 1, *SIZES))


@pytest.mark.parametrize("n", [2, 4, 8])
def test_threads_have_the_bits_of_one_rank(n, threads):
    assert threads[n] == threads[1]


@pytest.mark.parametrize("n", [3, 6])
def test_ranks_that_share_unevenly_agree_to_rounding(n, threads):
    assert threads[n][1] != threads[1][1]
    for a, b in zip(threads[n][2:], threads[1][2:], strict=True):
        assert float.fromhex(a) == pytest.approx(float.fromhex(b), rel=1e-3)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("way", jobs.WAYS)
def test_processes_have_the_bits_of_threads(way, n, tmp_path, request):
    by, variables = jobs.WAYS[way]
    argv = by(n, jobs.write(tmp_path, BODY))  # skips where MPI is missing
    assert found(jobs.run(argv, tmp_path, **variables)) == {n: request.getfixturevalue("threads")[n]}
