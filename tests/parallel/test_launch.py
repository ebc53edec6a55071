"""`thalweg launch` itself: commands, arguments, output, exit codes; and how other launchers are recognised."""

import os
import signal
import sys

import pytest
from thalweg.parallel import environment, launch

from . import jobs

pytestmark = pytest.mark.timeout(120)


def test_arguments_and_output(tmp_path):
    body = "tw.parallel.communicator().barrier() or time.sleep(0.1 * rank); print('rank', rank, *sys.argv[1:])"
    done = jobs.launch(tmp_path, 2, body, "--epochs", "3", "-n", "7")
    assert (done.returncode, done.stdout) == (0, "rank 0 --epochs 3 -n 7\n"), done.stderr
    everybody = jobs.launch(tmp_path, 2, body, options=["--all"])
    assert everybody.stdout.splitlines() == ["[0] rank 0", "[1] rank 1"]


def test_the_first_failure_is_the_exit_code(tmp_path):
    body = "tw.parallel.communicator(); print('from', rank); sys.exit(rank * 11)"
    done = jobs.launch(tmp_path, 2, body)
    assert done.returncode == 11
    assert done.stderr.splitlines() == ["thalweg launch: rank 1 ended with exit code 11", "[1] from 1"]


def test_a_rank_that_said_nothing_leaves_no_empty_line(tmp_path):
    done = jobs.launch(tmp_path, 2, "sys.exit(rank * 11)")
    assert done.stderr.splitlines() == ["thalweg launch: rank 1 ended with exit code 11"]


@pytest.mark.parametrize("options", [[], ["--all"]])
def test_what_a_killed_rank_printed_is_not_lost(options, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    body = """
import builtins
builtins.print("early", rank)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = jobs.launch(tmp_path, 2, body, options=options)
    assert "[1] early 1" in (done.stdout if options else done.stderr).splitlines()
    assert "[0] early 0" in done.stdout.splitlines() if options else done.stdout == "early 0\n"
    quiet = jobs.launch(tmp_path, 2, body, options=options, PYTHONUNBUFFERED="")  # as the user wants it
    assert "early 1" not in quiet.stdout + quiet.stderr


@pytest.mark.parametrize(("command", "instead"), [("train", "--world"), ("sweep", "--threads")])
def test_commands_that_are_no_ranks_refuse(command, instead, tmp_path):
    done = jobs.run(jobs.command(2, "-m", "thalweg", command, "--out", "some"), tmp_path)
    refused = f"thalweg {command} runs as one process, not as one of 2: give it {instead} instead"
    assert done.returncode == 2 and refused in done.stderr and not (tmp_path / "some").exists(), done.stderr


def test_what_a_rank_trains_alone_has_its_share_of_the_cores(tmp_path):
    body = """
from thalweg.trainer.build import native_config
found = tw.sweep(nn.Linear(5), tw.losses.CrossEntropy(), tw.optim.SGD(0.1), x, y, epochs=1, batch_size=16,
                 over={"seed": [0, 1]}, verbose=0)
alone = make(world=1).build(x, y)
own = native_config(alone, 0, 8, alone.optimizer, alone._data_spec)["threads"]
print(len(found), found.threads == tw.parallel.threads(), own == tw.parallel.threads())
"""
    done = jobs.launch(tmp_path, 2, body)
    assert (done.returncode, done.stdout) == (0, "2 True True\n"), done.stderr


def test_collectives_of_a_script(tmp_path):
    body = """
comm = tw.parallel.communicator()
a = np.full(300_000, float(comm.rank + 1))
comm.all_reduce(a)
assert (a == 6).all() and (comm.rank, comm.size) == (rank, tw.parallel.size())
comm.limit = 5.0
half = comm.split(comm.rank % 2)
assert half.size == 2 - comm.rank % 2
if rank == 0: print("ok")
"""
    done = jobs.launch(tmp_path, 3, body)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_a_forked_child_is_no_rank(tmp_path):
    body = """
comm = tw.parallel.communicator()
if rank == 1:
    child = os.fork()
    if child == 0: sys.exit(0)  # its end is not the rank's
    os.waitpid(child, 0)
comm.barrier()
"""
    done = jobs.launch(tmp_path, 2, body)
    assert done.returncode == 0, done.stderr


def test_a_process_that_a_rank_starts_is_no_rank(tmp_path):
    body = """
import subprocess
if "child" in sys.argv: sys.exit(10 + tw.parallel.size())
tw.parallel.communicator().barrier()
assert subprocess.run([sys.executable, __file__, "child"]).returncode == 11
"""
    done = jobs.launch(tmp_path, 2, body)
    assert done.returncode == 0, done.stderr


def test_shared_memory_of_dropped_trainers_is_given_back(tmp_path):
    body = """
import gc
def shared():  # MiB of pages that this process has in memory it shares
    return int(next(line for line in open("/proc/self/status") if line.startswith("RssShmem")).split()[1]) / 1024
found = []
for i in range(6):
    t = tw.Trainer(nn.Linear(50_000 * (1 + i % 2)), loss=tw.losses.MSE(), optimizer=tw.optim.SGD(lr=0.1))
    t.step(x[:16], np.ones((16, 50_000 * (1 + i % 2)), "f4"))  # gradients of 4 or 8 MiB
    found.append(shared())
    del t
    gc.collect()
tw.parallel.communicator().barrier()
assert 3.5 < found[0] and max(found) < 4 * found[0], found
if rank == 0: print("ok")
"""
    done = jobs.launch(tmp_path, 2, body)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_processes_of_a_rank_end_with_it(tmp_path):
    body = """
import subprocess
if rank == 1: open("child", "w").write(str(subprocess.Popen(["sleep", "100"]).pid))
tw.parallel.communicator().barrier()
"""
    assert jobs.launch(tmp_path, 2, body).returncode == 0
    assert not jobs.is_running(int(jobs.wait_for(tmp_path / "child")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nothing.py"], "no script nothing.py"), (["no-such-program"], "no script"), (["-x", "a.py"], "no script")],
)
def test_what_is_no_command_is_refused(arguments, message):
    with pytest.raises(environment.LaunchError, match=message):
        launch.command(arguments)


def test_commands():
    assert launch.command([__file__, "a"]) == [sys.executable, __file__, "a"]
    assert launch.command(["-m", "some.module"]) == [sys.executable, "-m", "some.module"]
    assert launch.command(["sleep", "1"]) == ["sleep", "1"]
    assert launch.how(-signal.SIGKILL) == "was ended by SIGKILL"


LAUNCHERS = {
    "none": ({}, None),
    "ours": ({"THALWEG_RANK": "1", "THALWEG_WORLD": "4"}, ("thalweg launch", 1, 4)),
    "open mpi": ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}, ("mpirun (Open MPI)", 0, 2)),
    "mpich": ({"PMI_RANK": "1", "PMI_SIZE": "2"}, ("mpiexec (MPICH)", 1, 2)),
    "slurm": ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4"}, ("srun", 3, 4)),
    "slurm batch": ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, None),
    "torchrun": ({"RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x"}, ("torchrun", 1, 2)),
    "other": ({"RANK": "1", "WORLD_SIZE": "2"}, None),
    "inside": (
        {"THALWEG_RANK": "0", "THALWEG_WORLD": "2", "PMI_RANK": "5", "PMI_SIZE": "6"},
        ("thalweg launch", 0, 2),
    ),
}


@pytest.mark.parametrize("case", LAUNCHERS)
def test_launchers_are_recognised(case):
    variables, expected = LAUNCHERS[case]
    found = environment.detect(variables)
    assert (found and (found.launcher, found.rank, found.size)) == expected


@pytest.mark.parametrize("rank, size", [("2", "2"), ("-1", "2"), ("a", "2"), ("0", "")])
def test_impossible_ranks_are_refused(rank, size):
    with pytest.raises(environment.LaunchError, match="expected a rank"):
        environment.detect({"THALWEG_RANK": rank, "THALWEG_WORLD": size})


def test_limits_are_numbers(monkeypatch):
    assert environment.seconds("THALWEG_TIMEOUT_", 5.0) == 5.0
    monkeypatch.setenv("THALWEG_TIMEOUT_", "2.5")
    assert environment.seconds("THALWEG_TIMEOUT_", 5.0) == 2.5
    monkeypatch.setenv("THALWEG_TIMEOUT_", "0")
    with pytest.raises(environment.LaunchError, match="THALWEG_TIMEOUT_ is '0', expected seconds"):
        environment.seconds("THALWEG_TIMEOUT_", 5.0)


def test_a_rank_without_its_memory_is_told(tmp_path):
    done = jobs.subprocess.run([sys.executable, jobs.write(tmp_path, "make()")], capture_output=True, text=True,
                               timeout=60, env={**os.environ, "THALWEG_RANK": "0", "THALWEG_WORLD": "2"})  # fmt: skip
    assert "LaunchError: THALWEG_MEMORY_FD is '', expected a file descriptor" in done.stderr
