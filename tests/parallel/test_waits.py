"""A late process is named by all ranks, also where it is rank 0, which speaks. Processes decide together, and some may
have nothing to do."""

import pytest

from . import jobs

pytestmark = pytest.mark.timeout(120)

BODY = """
x, y = rng.standard_normal((320, 64)).astype("f4"), rng.integers(0, 5, 320)
history = fit(make(), 1, validation_data=None)
late = int(os.environ["THALWEG_DELAY"][0])
named = history.steps["waited_for"].count(late)
assert named >= 16, history.steps["waited_for"]  # of 20; the machine may hold others up too
assert history.waits.share(late) > 0.5, str(history.waits)
assert (history.waits.seconds_wait > 0.5 * history.waits.seconds) == (rank != late), str(history.waits)
"""


@pytest.mark.parametrize("late", [0, 1])
@pytest.mark.parametrize("by", [jobs.command, jobs.mpi_command])
def test_a_late_process_is_named(by, late, tmp_path):
    done = jobs.launch(tmp_path, 3, BODY, by=by, THALWEG_DELAY=f"{late}:0.06")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"rank {late} made the others wait" in done.stdout


SKIPS = """
t = make(on_nonfinite="skip", max_norm=None)
t.build(x, y)
before = t.digest()
x[12] = 3e38  # a row of rank 1, whose gradient overflows
report = t.step(x[:16], y[:16])
assert report.skipped and t.digest() == before and t.t == 1, report
assert not t.step(x[16:32], y[16:32]).skipped and t.digest() != before
"""


@pytest.mark.parametrize("by", [jobs.command, jobs.mpi_command])
def test_all_ranks_skip_the_step_that_overflows_on_one(by, tmp_path):
    done = jobs.launch(tmp_path, 2, SKIPS, by=by)
    assert done.returncode == 0, done.stdout + done.stderr


FEW = """
t = make()
t.fit(x[:2], y[:2], epochs=3, batch_size=16, verbose=0)  # four ranks, two rows
found = [t.digest(), t.evaluate(x[:3], y[:3])["loss"].hex(), t.predict(x[:1]).tobytes().hex()]
if rank == 0: print("found", *found)
"""


def test_ranks_without_a_sample(tmp_path):
    one, four = (jobs.launch(tmp_path, n, FEW) for n in (1, 4))
    assert one.returncode == four.returncode == 0, one.stderr + four.stderr
    assert one.stdout == four.stdout != ""
