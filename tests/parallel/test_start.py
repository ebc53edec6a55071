"""Ranks that never come, come late, or can't have what the others have: all end in time with a reason, or go on."""

import signal
import sys

import pytest
from thalweg import _core
from thalweg.parallel import bench, environment

from . import jobs

pytestmark = pytest.mark.timeout(120)

NEVER = "rank 0 ends: it has waited 2 s (THALWEG_START_TIMEOUT) for all 2 ranks to start MPI and to connect: each must"
EXIT = """
def is_gone(pid):
    try: os.kill(int(pid), 0)
    except ProcessLookupError: return True
if rank == 1:
    open("pid1", "w").write(str(os.getpid()))
    sys.exit(0)
while not (os.path.exists("pid1") and is_gone(open("pid1").read() or os.getpid())): time.sleep(0.02)
make()  # while rank 1 still ran, Open MPI would end the job by itself
"""
FAULTS = {  # body, exit code, messages
    "exception": (
        "if rank == 1: raise ImportError('no such thing')\nfit(make())",
        1,
        ["ImportError: no such thing\n", "rank 0 ends: rank 1 failed: ImportError: no such thing"],
    ),
    "exit": (EXIT, 6, [NEVER, "one that has ended before never will"]),
    "elsewhere": ("from mpi4py import MPI\nif rank == 1: time.sleep(50)\nmake()", 6, [NEVER]),
    "exception without a trainer": (
        "if rank == 1: raise ImportError('no such thing')",
        1,
        ["ImportError: no such thing\n", "rank 1 has failed, which not all others came to hear within 1 s"],
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_rank_that_never_connects_ends_all(case, tmp_path):
    body, code, messages = FAULTS[case]
    short = {"THALWEG_TIMEOUT": "1"} if "without" in case else {"THALWEG_START_TIMEOUT": "2"} if code == 6 else {}
    done = jobs.launch(tmp_path, 2, body, by=jobs.mpi_command, **short)
    text = done.stdout + done.stderr
    ended = [code]
    if case == "elsewhere":  # its other rank still runs: MPICH now and then tells how it ended that one
        ended.append(signal.SIGKILL)
    assert done.returncode in ended, text
    if "without" not in case or "exiting\nimproperly" not in text:  # Open MPI may see that first, and end all
        assert not [m for m in messages if m not in text], text
    assert done.seconds < 30


def test_ranks_without_a_trainer_may_end_as_they_like(tmp_path):
    done = jobs.launch(tmp_path, 2, "if rank == 1: sys.exit(0)\nprint('done')", by=jobs.mpi_command)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


CHILD = """
import subprocess
failing = "import thalweg; print(thalweg.parallel.size()); raise ValueError('of a child')"
if rank == 1:
    done = subprocess.run([sys.executable, "-c", failing], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "of a child" in done.stderr, done
tw.parallel.communicator().barrier()
"""


def test_a_process_that_a_rank_starts_may_fail(tmp_path):
    done = jobs.launch(tmp_path, 2, CHILD, by=jobs.mpi_command)
    assert done.returncode == 0, done.stderr
    assert done.seconds < 20


# One rank is allowed too few addresses for the memory that ranks share.
REFUSED = """
import resource
if rank == int(sys.argv[1]): resource.setrlimit(resource.RLIMIT_AS, (30 << 30, 30 << 30))
comm = tw.parallel.communicator()
a = np.full(1000, rank + 1.0)
comm.all_reduce(a)
assert (a == comm.size * (comm.size + 1) / 2).all()
"""


@pytest.mark.parametrize(("n", "places"), [(2, 2), (4, 2)])
@pytest.mark.parametrize("who", [0, 1])
def test_ranks_that_may_not_share_memory_send_messages(who, n, places, tmp_path):
    done = jobs.launch(tmp_path, n, REFUSED, who, by=jobs.mpi_command, THALWEG_NODE_RANKS=str(places))
    assert done.returncode == 0, done.stderr
    line = "thalweg: the ranks of this machine share no memory ([Errno 12] [shm] the shared memory of 2 ranks can't be"
    assert done.stderr.count("thalweg: ") == done.stderr.count(line) == 1, done.stderr


def test_ranks_that_share_no_memory_by_wish_of_one(tmp_path):
    body = "if rank: os.environ['THALWEG_NODE_MEMORY'] = 'off'\ntw.parallel.communicator().barrier()"
    done = jobs.launch(tmp_path, 2, body, by=jobs.mpi_command)
    assert done.returncode == 0, done.stderr
    assert done.seconds < 30


def test_memory_that_the_launcher_is_refused_is_one_line(tmp_path):
    argv = jobs.command(2, jobs.write(tmp_path, "make()"))
    done = jobs.run(["sh", "-c", 'ulimit -v 20000000; exec "$@"', "sh", *argv], tmp_path)
    assert done.returncode == 7
    assert done.stderr.splitlines() == [
        "thalweg: [shm] the shared memory of 2 ranks can't be mapped, which takes 32 GiB of addresses (ulimit -v; "
        "memory only once it is used): Cannot allocate memory"
    ]


def test_memory_that_a_rank_is_refused_is_named(tmp_path):
    body = "import resource; resource.setrlimit(resource.RLIMIT_AS, (20 << 30, 20 << 30)); make()"
    done = jobs.launch(tmp_path, 2, body)
    assert done.returncode == 7 and done.seconds < 30
    assert "OSError: [Errno 12] [shm] the shared memory of 2 ranks can't be mapped" in done.stderr


VARIABLES = {
    "THALWEG_TIMEOUT": ("soon", "'soon', expected seconds, a number above 0"),
    "THALWEG_START_TIMEOUT": ("-1", "'-1', expected seconds, a number above 0"),
    "THALWEG_OVERLAP": ("foo", "'foo', expected off, nodes or thread"),
    "THALWEG_NODE_MEMORY": ("0", "'0', expected on or off"),
    "THALWEG_NODE_RANKS": ("two", "'two', expected how many ranks count as a node"),
    "THALWEG_DELAY": ("1", "'1', expected RANK:SECONDS"),
}


@pytest.mark.parametrize("name", VARIABLES)
def test_variables_are_read(name, monkeypatch):
    value, expected = VARIABLES[name]
    environment.check()
    monkeypatch.setenv(name, value)
    with pytest.raises(environment.LaunchError, match=f"{name} is {expected}"):
        environment.check()


@pytest.mark.parametrize(
    ("by", "name"),
    [
        (jobs.command, "THALWEG_TIMEOUT"),
        *((jobs.mpi_command, f"THALWEG_{name}") for name in ("TIMEOUT", "OVERLAP", "NODE_RANKS")),
    ],
)
def test_the_rank_that_has_a_wrong_variable_says_so(by, name, tmp_path):
    value, expected = VARIABLES[name]
    body = f"if rank == 1: os.environ['{name}'] = '{value}'\nfit(make())"
    done = jobs.launch(tmp_path, 2, body, by=by)
    text = done.stdout + done.stderr
    assert f"LaunchError: {name} is {expected}" in text
    assert done.returncode == 2, text
    assert done.seconds < 30
    assert "out of memory" not in text
    assert f"rank 0 ends: rank 1 failed: thalweg.parallel.environment.LaunchError: {name} is" in text or (
        by is jobs.command or name == "THALWEG_NODE_RANKS"  # where the launcher or MPI ends the others
    )


def test_all_ranks_with_a_wrong_variable(tmp_path):
    done = jobs.run([*jobs.mpi_command(2), jobs.write(tmp_path, "make()")], tmp_path, THALWEG_OVERLAP="foo")
    assert done.stderr.count("LaunchError: THALWEG_OVERLAP is 'foo', expected off, nodes or thread") in (1, 2)
    assert done.returncode == 2 and done.seconds < 30


def test_threads_name_the_variable_too(tmp_path):
    body = "tw.world(2).run(lambda comm: 0)"
    done = jobs.run([sys.executable, jobs.write(tmp_path, body)], tmp_path, THALWEG_OVERLAP="foo")
    assert "ValueError: [overlap] THALWEG_OVERLAP: foo is none, expected off, nodes or thread" in done.stderr


def test_the_engine_knows_the_words_that_are_allowed():
    for name in environment.OVERLAPS:
        _core.make_messages(1)[0].overlap = name
        assert name in bench.OVERLAPS
