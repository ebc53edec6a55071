"""`thalweg doctor` and `thalweg comm-bench`: what they find, and what they advise."""

import re
import subprocess
import sys

import pytest
from thalweg.parallel import doctor

from . import jobs

pytestmark = pytest.mark.timeout(120)
THALWEG = [sys.executable, "-c", "from thalweg_command import main; main()"]


def test_the_doctor_reports_all_that_is_needed(tmp_path):
    done = jobs.run([*THALWEG, "doctor", "--out", tmp_path / "new" / "folder"], tmp_path)
    assert re.search(r"^(ok|note) +processor +\w+", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^ok +threads +\d+ cores of \d+$|^note threads .*container", done.stdout, re.MULTILINE)
    assert re.search(r"^ok +thalweg launch +2 ranks: all-reduce of 1 KB in [\d.]+ us", done.stdout, re.MULTILINE)
    assert re.search(rf"^(ok|note) +output +{re.escape(str(tmp_path))}", done.stdout, re.MULTILINE)
    assert "MPI library" in done.stdout
    assert (done.returncode == 1) == ("\nbad " in done.stdout)
    assert not list(tmp_path.iterdir())  # it leaves nothing


def test_quotas_of_containers_are_named(tmp_path):
    limit = tmp_path / "cpu.max"
    limit.write_text("50000 100000\n")
    found = doctor.threads(limit)
    assert found.state == doctor.NOTE and "may use 0.5 at a time" in found.text and "threads=1" in found.fix
    limit.write_text("max 100000\n")
    assert doctor.threads(limit).state == doctor.GOOD


def test_a_folder_that_cannot_be_written_is_bad():
    found = doctor.output(doctor.Path("/proc/nowhere"))
    assert found.state == doctor.BAD and "/proc can't be written" in found.text and "--out" in found.fix


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("mpirun has detected an attempt to run as root.", "--allow-run-as-root"),
        ("There are not enough slots available in the system", "--oversubscribe"),
        ("LaunchError: launcher and library belong to different MPIs.", "the mpiexec of MPICH 5.0.2"),
        ("[shm] the shared memory can't be made: Function not implemented", "use MPI"),
        ("", "by hand"),
    ],
)
def test_every_failure_has_an_advice(said, advice):
    assert advice in doctor.advice(said, "MPICH 5.0.2")


def test_launchers_have_families():
    assert doctor.family("HYDRA build details:\n    Version: 5.0.2") == "MPICH"
    assert doctor.family("mpiexec (OpenRTE) 4.1.4") == doctor.family("mpirun (Open MPI) 5.0.11") == "Open MPI"
    assert doctor.family("Intel(R) MPI Library for Linux* OS") == "Intel MPI"
    assert doctor.family("slurm") == "unknown"


def test_a_command_that_does_nothing_ends(monkeypatch):
    monkeypatch.setattr(doctor, "SECONDS", 0.2)
    assert doctor._run(["sleep", "20"]) == (124, "nothing happened for 0 s")
    assert doctor._run(["/no/such/program"])[0] == 127


def test_collectives_are_timed(tmp_path):
    code = "from thalweg.parallel import bench; bench.table.__defaults__ = ((4, 70000),); bench.main('table')"
    script = tmp_path / "bench.py"
    script.write_text(code)
    done = jobs.run(jobs.command(2, script), tmp_path)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("2 ranks, microseconds a call") and lines[1].split()[-5:] == [
        "all_reduce", "all_reduce_in_place", "reduce_scatter", "all_gather", "broadcast"
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[2:]] == ["4", "70,000"], done.stdout + done.stderr
    assert all(float(text.replace(",", "")) > 0 for line in lines[2:] for text in line.split())


def test_one_rank_has_nothing_to_time():
    done = subprocess.run(
        [sys.executable, "-m", "thalweg.parallel.bench"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1 and "start several by `thalweg launch -n 2" in done.stderr
