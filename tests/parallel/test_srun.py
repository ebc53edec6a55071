"""Ranks that a real srun starts, without MPI and with the library of mpi4py. Skipped where no Slurm answers."""

import functools
import importlib.util
import shutil
import subprocess
import sys
import time

import pytest
from thalweg.parallel import environment

from . import jobs
from .test_bits import BODY, found

pytestmark = pytest.mark.timeout(180)


@functools.cache
def why_not():
    if shutil.which("srun") is None:
        return "there is no srun"
    try:
        done = subprocess.run(
            ["srun", "--immediate=10", "-N1", "-n2", "--overcommit", "true"],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "srun does not answer"
    return "" if done.returncode == 0 else f"srun starts nothing: {done.stderr.strip()[-200:]}"


@functools.cache
def of_the_library():
    """What of srun serves the library of mpi4py. Skips where there is none."""
    if importlib.util.find_spec("mpi4py") is None:
        pytest.skip("mpi4py is not installed")
    vendor = subprocess.run(
        [sys.executable, "-c", "from mpi4py import MPI; print(MPI.get_vendor()[0])"],
        capture_output=True, text=True, timeout=60, check=False,
    ).stdout  # fmt: skip
    return "pmix" if "Open MPI" in vendor else "pmi2"


@functools.cache
def starts(kind, n):
    """Whether ranks of srun see one another, by the library alone."""
    program = "from mpi4py import MPI; import sys; sys.exit(MPI.COMM_WORLD.size != int(sys.argv[1]))"
    return subprocess.run([*start(kind, n), "-c", program, str(n)], timeout=60, check=False).returncode == 0


def start(kind, n, options=()):
    given = ["--quiet", f"--mpi={kind}", "-N1", f"-n{n}", "--overcommit", "--wait=10", *options]
    return ["srun", *given, sys.executable]


def srun(mpi):
    if reason := why_not():
        pytest.skip(reason)
    kind = of_the_library() if mpi == "library" else "none"

    def command(n, *arguments, options=()):
        if mpi == "library" and not starts(kind, n):
            pytest.skip(f"srun --mpi={kind} starts no {n} ranks of this library")
        return [*start(kind, n, options), *map(str, arguments)]

    return command


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return found(jobs.launch(tmp_path_factory.mktemp("alone"), 1, BODY))


@pytest.mark.parametrize("mpi", ["none", "library"])
@pytest.mark.parametrize("n", [2, 4])
def test_srun_has_the_bits_of_one_rank(mpi, n, tmp_path, request):
    done = jobs.launch(tmp_path, n, BODY, by=srun(mpi))
    assert found(done) == request.getfixturevalue("alone")
    assert done.stdout.count("epoch   3/3") == 1


FAULTS = {  # the body, what a rank says
    "exception": ("fit(make(), callbacks=[At(1, 4, lambda: {}['missing'])])", "rank 1 failed: KeyError: 'missing'"),
    "killed": ("fit(make(), callbacks=[At(1, 4, lambda: os.kill(os.getpid(), signal.SIGKILL))])", "rank 1 was lost"),
}


@pytest.mark.parametrize("mpi", ["none", "library"])
@pytest.mark.parametrize("case", FAULTS)
def test_a_rank_that_fails_ends_the_step(mpi, case, tmp_path):
    body, message = FAULTS[case]
    done = jobs.launch(tmp_path, 2, body, by=srun(mpi))
    assert done.returncode != 0 and done.seconds < 45
    assert message in done.stdout + done.stderr or (case, mpi) == ("killed", "library")  # Slurm may end all first


def test_a_signal_of_slurm_saves(tmp_path):
    body = """
os.write(1, b"began\\n")
saved = tw.callbacks.ModelCheckpoint("run", save_freq="epoch")
fit(make(), 100000, verbose=0, callbacks=[saved, At(0, 9, lambda: open("runs", "w").write("yes"))])
"""
    script = jobs.write(tmp_path, body)
    process = subprocess.Popen(
        srun("none")(2, script, options=["--job-name=thalweg-signal"]),
        cwd=tmp_path, env=jobs.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        jobs.wait_for(tmp_path / "runs")
        time.sleep(0.2)
        subprocess.run(["scancel", "--signal=TERM", "--name=thalweg-signal"], timeout=20, check=True)
        said = process.communicate(timeout=60)[0]
    finally:
        jobs.end(process)
    assert process.returncode == 75, said
    assert list((tmp_path / "run").glob("step-*"))


def test_a_library_that_srun_does_not_serve_is_told_how(monkeypatch, tmp_path):
    of_the_library()
    several = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_NODES": "2"}  # one machine needs no MPI
    script = jobs.write(tmp_path, "make()")
    done = jobs.run([sys.executable, script], tmp_path, SLURM_PROCID="0", SLURM_STEP_NUM_TASKS="2", **several)
    assert done.returncode == environment.LaunchError.exit_code
    assert "Start with srun --mpi=pmix for Open MPI or --mpi=pmi2 for MPICH" in done.stderr
