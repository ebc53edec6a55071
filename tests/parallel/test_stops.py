"""Ranks that stand still for a while, on a machine with too much to do or in a job that a scheduler suspends, are not
lost: what counts is what they did, and the time in which the others ran."""

import pytest

from . import jobs
from .test_kills import tool

pytestmark = pytest.mark.timeout(120)

# Rank 0 lets the shell stop and continue processes while it goes on.
PRELUDE = """
import subprocess
comm = tw.parallel.communicator()
pids = [int(text) for text in comm.gather_texts(str(os.getpid()))]
def shell(text):
    subprocess.Popen(["sh", "-c", text])
def wait_for(path):
    while not os.path.exists(path): time.sleep(0.005)
"""
CASES = {
    # Rank 1 stands still in a recv; the letter comes and its sender ends. On waking, rank 1 has waited for longer than
    # the time between two looks at who has left.
    "a letter of a rank that has left": """
if rank == 0:
    time.sleep(0.2)
    os.kill(pids[1], signal.SIGSTOP)
    shell(f"sleep 0.5; kill -CONT {pids[1]}")
    comm.send(np.full(2, 3.0), 1)
else:
    a = np.zeros(2)
    comm.recv(a, 0)
    assert a.sum() == 6
""",
    # All stand still for longer than the limit while rank 0 waits for rank 1, which is well.
    "a job that was suspended": """
comm.limit = 1.0
if rank == 0:
    shell(f"sleep 0.1; kill -STOP {pids[0]} {pids[1]}; sleep 1.2; kill -CONT {pids[0]} {pids[1]}; touch continued")
else:
    wait_for("continued")
comm.barrier()
""",
}


@pytest.mark.parametrize("way", jobs.WAYS)
@pytest.mark.parametrize("case", CASES)
def test_who_stood_still_goes_on(case, way, tmp_path):
    by, variables = jobs.WAYS[way]
    done = jobs.launch(tmp_path, 2, PRELUDE + CASES[case] + "print('well', rank)", by=by, **variables)
    assert done.returncode == 0 and "well 0" in done.stdout, done.stdout + done.stderr
    assert done.seconds < 30


def test_ranks_that_are_stopped_at_random_make_their_calls(monkeypatch):
    stops = tool("stops")
    monkeypatch.setattr(stops, "PAUSES", (0.05, 0.3))
    assert stops.round_(5) > 10
