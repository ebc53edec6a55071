"""A job of several machines: hosts in namespaces, MPI over TCP on throttled links. Skipped where the kernel refuses."""

import functools

import pytest

from . import hosts, jobs
from .test_bits import BODY, found
from .test_overlap import BYTES as TRAINING

pytestmark = pytest.mark.timeout(120)

FAILS = "fit(make(), callbacks=[At(1, 4, lambda: {}['missing'])])"
BYTES = """
import socket
comm = tw.parallel.communicator()
a = np.ones(1_000_001, "f4")
def sent():  # bytes that have left, once nothing waits in a queue any more
    last, now = -1, 0
    comm.barrier()
    while now != last:
        last = now
        time.sleep(0.1)
        now = int(open("/proc/net/dev").read().split("eth0:")[1].split()[8])
    comm.barrier()
    return now
comm.all_reduce(a)
before = sent()
for _ in range(4): comm.all_reduce(a)
after = sent()
if rank == 0: print("hosts", socket.gethostname(), "bytes", (after - before) / 4)
"""
SECONDS = """
comm = tw.parallel.communicator()
a = np.ones(1_250_000, "f4")
seconds = []
for _ in range(25):
    comm.barrier()
    start = time.perf_counter()
    comm.all_reduce(a)
    seconds.append(time.perf_counter() - start)
if rank == 0: print("of 25", sorted(seconds)[17])
"""


def across(n, script, *arguments, options=(), places=1, rate="1gbit"):
    """Under mpiexec, so many ranks on each host."""
    if reason := hosts.available():
        pytest.skip(reason)
    argv = [word for word in jobs.mpi_command(n, script, *arguments, options=options) if word != "--oversubscribe"]
    return hosts.command(n // places, rate, argv, places)


in_pairs = functools.partial(across, places=2)
slowly = functools.partial(across, rate="200mbit")


@pytest.mark.parametrize(("n", "by"), [(2, across), (4, across), (4, in_pairs)])
def test_hosts_have_the_bits_of_one_rank(n, by, tmp_path):
    done = jobs.launch(tmp_path, n, BODY, by=by)
    assert "sends messages to all" not in done.stderr
    (tmp_path / "one").mkdir()
    assert found(done) == found(jobs.launch(tmp_path / "one", 1, BODY))


def test_a_failure_on_the_other_host_ends_all(tmp_path):
    done = jobs.launch(tmp_path, 2, FAILS, by=across)
    assert "rank 0 ends: rank 1 failed: KeyError: 'missing'" in done.stderr + done.stdout
    assert done.returncode == 1
    assert done.seconds < 30


def test_four_hosts_train_and_send_what_was_told(tmp_path):
    done = jobs.launch(tmp_path, 4, TRAINING, by=across)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("bytes ") == 4


@pytest.mark.parametrize(("n", "by"), [(2, across), (4, across), (2, in_pairs)])
def test_an_all_reduce_sends_what_it_must(n, by, tmp_path):
    """2 (N - 1) / N of the payload from every host: half of that for the sums, half for the results."""
    done = jobs.launch(tmp_path, n if by is across else 2 * n, BYTES, by=by)
    assert done.returncode == 0, done.stdout + done.stderr
    words = next(line for line in done.stdout.splitlines() if line.startswith("hosts")).split()
    assert words[1] == "node0"
    payload = 2 * (n - 1) / n * 4_000_004
    assert payload - 8 < float(words[3]) < 1.08 * payload  # with the heads of packets


def test_both_directions_of_an_all_reduce_go_at_a_time(tmp_path):
    """5 MB each way take 0.2 s; in one of the two turns one after the other, half as much again."""
    done = jobs.launch(tmp_path, 2, SECONDS, by=slowly)
    assert done.returncode == 0, done.stdout + done.stderr
    assert float(done.stdout.split("of 25")[1].split()[0]) < 0.26
