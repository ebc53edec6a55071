"""Scripts that run as several processes. Each job has a limit of time: a hang is a failure, and so is a process that is
left when its launcher has ended."""

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

SECONDS = 60
LEFT_SECONDS = 10  # after a launcher has ended its processes are gone
PRELUDE = '''
import os, signal, sys, time
import numpy as np
import thalweg as tw
from thalweg import nn
rng = np.random.default_rng(0)
x, y = rng.standard_normal((45, 20)).astype("f4"), rng.integers(0, 5, 45)  # the last batch has 13 rows: uneven
def make(**options):
    net = nn.Sequential(nn.Linear(33), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.3), nn.Linear(5))
    given = {"seed": 3, "max_norm": 0.7, "metrics": ["accuracy"], "optimizer": tw.optim.SGD(lr=0.1, momentum=0.9)}
    return tw.Trainer(net, loss=tw.losses.CrossEntropy(), **{**given, **options})
def fit(trainer, epochs=3, **options):
    return trainer.fit(x, y, **{"epochs": epochs, "batch_size": 16, "validation_data": (x, y), **options})
rank = tw.parallel.rank()
def print(*words, flush=True):  # a line at once: ranks share the output
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
class At(tw.callbacks.Callback):
    """Calls a function on one rank before one step."""
    def __init__(self, rank, step, function): self.rank, self.step, self.function = rank, step, function
    def on_train_batch_begin(self, batch, logs=None):
        if self.trainer.t == self.step and rank == self.rank: self.function()
'''


def command(n, *arguments, options=()):
    start = [sys.executable, "-c", "from thalweg_command import main; main()"]
    return [*start, "launch", "-n", str(n), *options, *map(str, arguments)]


def mpi_command(n, *arguments, options=()):
    """The same under the mpiexec beside this Python, or that of the PATH. Skips where there is no MPI."""
    if importlib.util.find_spec("mpi4py") is None:
        pytest.skip("mpi4py is not installed")
    beside = os.path.dirname(sys.executable)
    found = shutil.which("mpiexec", path=beside) or shutil.which("mpiexec")
    if found is None:
        pytest.skip("there is no mpiexec")
    text = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
    more = ["--oversubscribe"] if "Open MPI" in text or "OpenRTE" in text else []
    return [found, *more, "-n", str(n), sys.executable, *options, *map(str, arguments)]


# How processes find one another: without MPI, and under it by common memory, as nodes of two, or by messages alone.
WAYS = {
    "launch": (command, {}),
    "mpi": (mpi_command, {}),
    "nodes": (mpi_command, {"THALWEG_NODE_RANKS": "2"}),
    "messages": (mpi_command, {"THALWEG_NODE_MEMORY": "off"}),
}


def write(folder, body):
    script = folder / "script.py"
    script.write_text(PRELUDE + body)
    return script


def environment(**more):
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}  # where the tests run as root
    mine = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}  # jobs may run pytest themselves
    return {**mine, **root, "COLUMNS": "200", "TERM": "dumb", "THALWEG_TIMEOUT": "30", **more}


def launch(folder, n, body, *arguments, options=(), by=command, **variables):
    """Runs the body on n ranks; returns the finished launcher, with `seconds`."""
    return run(by(n, write(folder, body), *arguments, options=options), folder, **variables)


def run(argv, folder, launcher_may_stay=False, limit=SECONDS, **variables):
    """Runs a command, for at most so many seconds. launcher_may_stay: Open MPI's, told to leave a lost rank to the
    others, now and then does not see that all have ended; then it is ended too."""
    start, mark = time.monotonic(), f"THALWEG_JOB={uuid.uuid4().hex}"
    process = subprocess.Popen(
        argv,
        cwd=folder,
        env=environment(**variables) | dict([mark.split("=")]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while True:
        try:
            out, err = process.communicate(timeout=1 if launcher_may_stay else limit)
            break
        except subprocess.TimeoutExpired:
            left = {pid: command_of(pid) for pid in marked(mark)}
            if time.monotonic() > start + limit:
                fail_with(left, process, limit)
            ranks = [c for c in left.values() if "python" in os.path.basename(c.split(" ")[0])]
            if time.monotonic() > start + LEFT_SECONDS and not ranks:
                process.terminate()
    done = subprocess.CompletedProcess(argv, code_of(process, out + err), out, err)
    done.seconds = time.monotonic() - start
    latest = time.monotonic() + LEFT_SECONDS
    while left := marked(mark):
        assert time.monotonic() < latest, f"processes {left} outlive their launcher"
        time.sleep(0.02)
    return done


def code_of(launcher, text):
    """Its exit code. Open MPI's now and then crashes over several ranks that end the job at a time, after it has said
    with which code they do."""
    said = re.search(r"MPI_ABORT was invoked on rank [^$]*?Errorcode: (\d+)", text)
    return int(said[1]) if said and launcher.returncode == -signal.SIGSEGV else launcher.returncode


def fail_with(left, launcher, limit):
    """Ends what is left of a job that took too long, and says what that was."""
    for pid in [*left, launcher.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    out, err = launcher.communicate(timeout=LEFT_SECONDS)
    pytest.fail(f"after {limit} s these still run: {left}\n{out}{err}")


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def marked(variable):
    """The processes that have this variable, NAME=value, in their environment."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if variable.encode() in Path(f"/proc/{pid}/environ").read_bytes() and is_running(int(pid)):
                found.append(int(pid))
        except OSError:
            continue
    return found


def started(folder, n, body, *arguments, options=(), **variables):
    """Starts the body on n ranks; the launcher's output is in a pipe. End it with `end`."""
    argv = command(n, write(folder, body), *arguments, options=options)
    return subprocess.Popen(argv, cwd=folder, env=environment(**variables),
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip


def wait_for(path, seconds=20.0):
    """Waits for a file that a rank writes, and returns its text."""
    limit = time.monotonic() + seconds
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < limit, f"{path} never came"
        time.sleep(0.02)
    return path.read_text()


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:  # a zombie of another parent counts as gone
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"


def end(process):
    """Ends a launcher that should be gone already."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.communicate(timeout=SECONDS)
