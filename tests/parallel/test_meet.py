"""Ranks that find one another by themselves: under torchrun, and under srun without MPI. Here the variables are set by
hand, and once by torchrun itself."""

import importlib.util
import os
import signal
import subprocess
import sys

import pytest
from thalweg.parallel import environment

from . import jobs

pytestmark = pytest.mark.timeout(120)

BODY = """
t = make(); fit(t, 1)
found = ("found", rank, tw.parallel.size(), tw.parallel.threads(), t.digest())
os.write(1, (" ".join(map(str, found)) + "\\n").encode())  # at once: ranks of torchrun share the output
"""
TORCH = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "TORCHELASTIC_RESTART_COUNT": "0"}


def torch(rank, size, job, **more):
    ranks = {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size)}
    return {**TORCH, **ranks, "TORCHELASTIC_RUN_ID": job, **more}


def slurm(rank, size, job, **more):
    step = {"SLURM_JOB_ID": job, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_NODES": "1"}
    return {**step, "SLURM_PROCID": str(rank), "SLURM_STEP_NUM_TASKS": str(size), **more}


def together(folder, body, *variables):
    """Starts a process with each of these variables; returns (exit code, output) of each at its end."""
    script = folder / "script.py"
    script.write_text("import sys; sys.modules['mpi4py'] = None\n" + jobs.PRELUDE + body)
    started = [subprocess.Popen([sys.executable, script], cwd=folder, env=jobs.environment(**v), text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for v in variables]  # fmt: skip
    try:
        texts = [p.communicate(timeout=jobs.SECONDS)[0] for p in started]
    finally:
        for p in started:
            p.kill()
    return [(p.returncode, text) for p, text in zip(started, texts, strict=True)]


@pytest.mark.parametrize("launcher", [torch, slurm])
def test_ranks_find_one_another_and_have_the_bits_of_one_rank(launcher, tmp_path):
    job = f"job{os.getpid()}"
    done = together(tmp_path, BODY, *(launcher(r, 3, job) for r in (2, 0, 1)), {})
    assert [code for code, _ in done] == [0, 0, 0, 0], done
    found = [text.split("found ")[1].split() for _, text in done]
    assert [words[:2] for words in found] == [["2", "3"], ["0", "3"], ["1", "3"], ["0", "1"]]
    assert len({words[3] for words in found[:3]}) == 1
    pair = together(tmp_path, BODY, *(launcher(r, 2, job) for r in (0, 1)))
    assert pair[0][1].split("found ")[1].split()[3] == found[3][3]


FAILS = {  # the body, the variables of each process, exit codes, what the first says
    "exception": (
        "t = make(); {}[1] if rank else fit(t)",
        (0, 2),
        (1, 2),
        (6, 1),
        "rank 0 ends: rank 1 failed: KeyError",
    ),
    "killed": (
        "t = make(); fit(t, callbacks=[At(1, 4, lambda: os.kill(os.getpid(), signal.SIGKILL))])",
        *((0, 2), (1, 2), (6, -signal.SIGKILL)),
        "rank 0 ends: rank 1 was lost: its process ended without a word",
    ),
    "absent": ("make()", (0, 3), (1, 3), (6, 6), "rank 0 has waited 1 s for the start of rank 2; all ranks must be"),
    "absent first": ("make()", (1, 3), (2, 3), (6, 6), "rank 1 has waited 1 s for the start of rank 0; all ranks must"),
    "size": ("make()", (1, 3), (0, 2), (2, 6), "LaunchError: this process is one of 3 ranks, but rank 0 one of 2"),
}


@pytest.mark.parametrize("case", FAILS)
def test_every_rank_ends_with_a_reason(case, tmp_path):
    body, first, second, codes, message = FAILS[case]
    limit = "1" if case in ("absent", "absent first", "size") else "60"
    job = f"{case}{os.getpid()}"
    done = together(tmp_path, body, *(torch(*who, job, THALWEG_START_TIMEOUT=limit) for who in (first, second)))
    assert message in done[0][1], done
    assert (*(code for code, _ in done),) == codes or case == "size", done


def test_several_machines_need_mpi(tmp_path):
    (code, text), (other, said) = together(
        tmp_path,
        "make()",
        torch(0, 4, "job", LOCAL_WORLD_SIZE="2"),
        slurm(0, 4, "7", SLURM_STEP_NUM_NODES="2"),
    )
    assert code and "rank 0 of 4 of torchrun on several machines, which only MPI connects" in text
    assert other and "rank 0 of 4 of srun, which needs mpi4py with an MPI library" in said


def test_a_job_that_another_user_could_have_begun_is_named_by_all_that_tells_it_apart():
    first, again = (environment.detect(torch(0, 2, "a", TORCHELASTIC_RESTART_COUNT=n)).job for n in "01")
    assert first != again
    assert environment.detect(slurm(0, 2, "1")).job != environment.detect(slurm(0, 2, "2")).job
    assert environment.detect({"RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "29500"}).job == "torchrun--29500-"


def torchrun_command(n, *arguments, options=()):
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)]
    return [*start, *options, *map(str, arguments)]


def test_torchrun(tmp_path):
    done = jobs.launch(tmp_path, 2, BODY, by=torchrun_command)
    assert done.returncode == 0, done.stderr
    one = jobs.run([sys.executable, tmp_path / "script.py"], tmp_path).stdout.split("found ")[1].split()[3]
    ranks = [text.split()[:4] for text in done.stdout.split("found ")[1:]]
    assert sorted((words[0], words[1], words[3]) for words in ranks) == [("0", "2", one), ("1", "2", one)]
    assert done.stdout.count("epoch   1/1") == 1
