"""Jobs of several nodes with several ranks on each, which this machine plays: so many ranks count as a node."""

import re

import pytest

from . import jobs
from .test_bits import BODY, found
from .test_overlap import TRAINED
from .test_waits import BODY as LATE

pytestmark = pytest.mark.timeout(120)


def launch(folder, n, places, body, *arguments, options=(), **more):
    """Under mpiexec; options are its own."""
    argv = jobs.mpi_command(n, jobs.write(folder, body), *arguments)
    return jobs.run([argv[0], *options, *argv[1:]], folder, THALWEG_NODE_RANKS=str(places), **more)


@pytest.mark.parametrize(("n", "places"), [(4, 2), (8, 2), (8, 4)])
def test_nodes_have_the_bits_of_one_rank(n, places, tmp_path):
    done = launch(tmp_path, n, places, BODY)
    (tmp_path / "one").mkdir()
    assert found(done) == found(jobs.launch(tmp_path / "one", 1, BODY))


def test_three_nodes_have_the_bits_of_messages(tmp_path):
    three, messages = launch(tmp_path, 6, 2, BODY), launch(tmp_path, 6, 2, BODY, THALWEG_NODE_MEMORY="off")
    assert found(three) == found(messages)
    assert "sends messages to all" not in three.stderr + messages.stderr


def test_ranks_that_make_no_tree_say_so(tmp_path):
    done = launch(tmp_path, 3, 2, "a = np.ones(5); tw.parallel.communicator().all_reduce(a); assert a[0] == 3")
    assert done.returncode == 0, done.stderr
    line = "thalweg: every rank sends messages to all 2 others, since one node has 2 ranks and another 1: ranks of"
    assert done.stderr.count("thalweg: ") == done.stderr.count(line) == 1
    assert "--map-by ppr:4:node" in done.stderr


FAULTS = {  # body, exit code, messages of each of the ranks that they strike
    "exception": (
        "fit(make(), callbacks=[At(3, 4, lambda: {}['missing'])])",
        1,
        "rank 3 failed: KeyError: 'missing'",
    ),
    "exit": ("fit(make(), callbacks=[At(3, 4, lambda: sys.exit(0))])", 6, "rank 3 has left: it ended while rank "),
    "late": (
        "fit(make(), callbacks=[At(3, 4, lambda: time.sleep(50))])",
        6,
        r"rank 2 has waited \S+ s in all_reduce of 1 x 264 bytes as part of fit \(update 4, .* rows\) for rank 3, "
        "the limit is 1 s",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_one_rank_ends_all_nodes(case, tmp_path):
    body, code, message = FAULTS[case]
    done = launch(tmp_path, 4, 2, body, **({"THALWEG_TIMEOUT": "1"} if case == "late" else {}))
    text = done.stdout + done.stderr
    assert [r for r in range(4) if re.search(f"rank {r} ends: {message}", text)] == [0, 1, 2], text
    assert done.returncode == code, text
    assert done.seconds < 30


KILLED = "fit(make(), callbacks=[At(3, 4, lambda: os.kill(os.getpid(), signal.SIGKILL))])"


def test_a_kill_ends_all_nodes(tmp_path):
    """Each rank says whose process is gone, where the launcher leaves it to them, as Open MPI's can be told to."""
    by_us = "--oversubscribe" in jobs.mpi_command(4, "")
    done = launch(tmp_path, 4, 2, KILLED, options=["--enable-recovery"] if by_us else [], launcher_may_stay=by_us)
    text = done.stdout + done.stderr
    assert done.returncode != 0 and done.seconds < 30, text
    ends = [r for r in range(4) if f"rank {r} ends: rank 3 was lost: its process ended without a word" in text]
    assert ends == [0, 1, 2] or not by_us, text


@pytest.mark.parametrize("late", [0, 3])
def test_a_late_rank_of_another_node_is_named(late, tmp_path):
    done = launch(tmp_path, 4, 2, LATE, THALWEG_DELAY=f"{late}:0.15")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"rank {late} made the others wait" in done.stdout


# What the ranks of a node send to one another, and what leaves the node.
BYTES = (
    TRAINED
    + """
comm, places = tw.parallel.communicator(), int(sys.argv[1])
nodes = ranks // places
inside = 2 * (places - 1) * (gradients + moments) + places * (places - 1) * scalars
outside = 2 * (nodes - 1) * gradients / nodes + (nodes - 1) * moments + places * (nodes - 1) * scalars
sent = comm.all_gather(np.array([report.bytes_comm], "f8")).reshape(nodes, places).sum(1)
assert (sent == inside + outside).all(), (sent, inside, outside)
assert 0 <= report.seconds_wait <= report.seconds and 0 < report.seconds_comm < report.seconds
"""
)


@pytest.mark.parametrize(("n", "places"), [(4, 2), (8, 4)])
def test_the_bytes_of_a_node_are_those_that_were_told(n, places, tmp_path):
    done = launch(tmp_path, n, places, BYTES, places)
    assert done.returncode == 0, done.stdout + done.stderr
