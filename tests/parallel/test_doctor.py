"""`thalweg doctor` and `thalweg comm-bench`: what they find, and what they advise."""

import re
import subprocess
import sys

import pytest
from thalweg.parallel import doctor, environment

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


def test_ranks_that_a_launcher_binds_to_few_cores_are_pointed_out():
    (found,) = doctor.bound("mpirun (Open MPI)", 1, 16, 4)
    assert found.state == doctor.NOTE
    assert found.text == "mpirun (Open MPI) lets a rank use 1 of 16 cores, which 4 ranks could share"
    assert found.fix == "mpirun --bind-to none, or --map-by slot:PE=4"
    assert list(doctor.bound("srun", 1, 3, 2)) == list(doctor.bound("srun", 4, 16, 4)) == []


# A machine of 8 cores, of which a launcher gives each rank one.
BOUND = """
os.sched_getaffinity = lambda pid: {rank} if pid == 0 else set(range(8))
from thalweg_command import main
sys.argv = ["thalweg", "doctor"]
main()
"""


def test_bound_ranks_are_found_by_the_doctor(tmp_path):
    done = jobs.launch(tmp_path, 2, BOUND, by=jobs.mpi_command)
    note = r"^note +binding +mp\w+ \(.*\) lets a rank use 1 of 8 cores, which 2 ranks could share\n +-> mp"
    assert re.search(note, done.stdout, re.MULTILINE), done.stdout + done.stderr
    assert done.returncode == 0


def test_a_folder_that_cannot_be_written_is_bad():
    found = doctor.output(doctor.Path("/proc/nowhere"))
    assert found.state == doctor.BAD and "/proc can't be written" in found.text and "--out" in found.fix


def test_more_ranks_than_cores_are_pointed_out(monkeypatch):
    monkeypatch.setattr(doctor._core, "cpu_threads", lambda: 4)
    assert doctor.places(4) == doctor.Finding("ranks", doctor.GOOD, "4 on 4 cores, 1 thread each")
    assert doctor.places(2).text == "2 on 4 cores, 2 threads each"
    many = doctor.places(6)
    assert many.state == doctor.NOTE and many.text == "6 ranks on 4 cores" and many.fix.startswith("start 4, or on")
    monkeypatch.setattr(doctor._core, "cpu_threads", lambda: 1)
    one = doctor.places(2)
    assert one.state == doctor.NOTE and one.text == "2 ranks on 1 core" and one.fix.startswith("train on one rank")


def test_a_job_of_slurm_that_srun_did_not_start(monkeypatch):
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    assert list(doctor.batch()) == []
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert [f.fix for f in doctor.batch()] == ["start with srun"]


@pytest.mark.parametrize("by", [jobs.command, jobs.mpi_command])
def test_a_launcher_is_looked_at_by_its_ranks(by, tmp_path):
    done = jobs.launch(tmp_path, 2, "from thalweg_command import main; sys.argv = ['thalweg', 'doctor']; main()", by=by)
    ping = r"^ok +launcher +.*(launch|mpirun|mpiexec).*, 2 ranks: all-reduce of 1 KB"
    assert re.search(ping, done.stdout, re.MULTILINE), done.stdout + done.stderr
    assert done.stdout.count("processor") == 1 and done.returncode == 0, done.stdout + done.stderr


def test_a_launcher_of_another_mpi_is_named_before_its_library_starts(monkeypatch):
    monkeypatch.setattr(doctor.connect, "launched", lambda: environment.Launch("mpirun (Open MPI)", 0, 2))
    monkeypatch.setattr(doctor, "_run", lambda argv: (0, "MPICH 5.0.2\n"))
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    found = doctor.started()
    assert found.state == doctor.BAD and found.text == "mpirun (Open MPI), but mpi4py has MPICH 5.0.2"
    assert found.fix.startswith("start with the mpiexec of MPICH 5.0.2")


def test_a_launcher_whose_library_is_missing(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys; sys.modules['mpi4py'] = None\nfrom thalweg_command import main; main()")
    done = jobs.run([sys.executable, script, "doctor"], tmp_path, PMI_RANK="0", PMI_SIZE="2")
    missing = (
        r"this process is rank 0 of 2 of mpiexec \(MPICH\), which needs mpi4py.*\n +-> pip install 'thalweg\[mpich"
    )
    other = r"mpiexec \(MPICH\), but mpi4py has Open MPI"  # where that is installed
    assert re.search(rf"^bad  launcher +({missing}|{other})", done.stdout, re.MULTILINE), done.stdout
    assert done.returncode == 1


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
    assert lines[0].startswith("2 ranks, microseconds a call") and lines[1].split()[-8:] == [
        "all_reduce", "start_all_reduce", "all_reduce_in_place", "reduce_scatter", "all_gather", "broadcast", "barrier",
        "send_recv",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[2:]] == ["4", "70,000"], done.stdout + done.stderr
    assert all(float(text.replace(",", "")) > 0 for line in lines[2:] for text in line.split())


def test_mpi4py_is_timed_beside_them(tmp_path):
    script = tmp_path / "bench.py"
    script.write_text(
        "from thalweg.parallel import bench; bench.table.__defaults__ = ((4, 70004),); bench.main('table')"
    )
    done = jobs.run(jobs.mpi_command(2, script), tmp_path)
    lines = done.stdout.splitlines()
    at = lines.index("mpi4py")
    assert lines[at + 1].split()[-6:] == [
        "all_reduce", "reduce_scatter", "all_gather", "broadcast", "barrier", "send_recv"
    ]  # fmt: skip
    assert [len(line.split()) for line in lines[at + 2 :]] == [7, 7], done.stdout + done.stderr


def test_one_rank_has_nothing_to_time():
    done = subprocess.run(
        [sys.executable, "-m", "thalweg.parallel.bench"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1 and "start several by `thalweg launch -n 2" in done.stderr
