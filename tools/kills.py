"""Kills training jobs at random moments, again and again, and looks at what remains:

    python tools/kills.py 300 [--seed 0] [--launcher {alone,launch,mpiexec} ...]

A job trains and saves every third step: alone, on two processes of `thalweg launch`, or under the mpiexec beside this
Python where mpi4py is installed. A process of it gets SIGKILL: a rank, or the launcher. Then the others have to end by
themselves, soon, with the exit code of a lost rank; no process may be left; the checkpoint has to be whole. The job is
started again and again until one reaches its end, with the bits of the job that was never killed.
"""

from __future__ import annotations

import argparse
import collections
import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

SCRIPT = """
import os
import numpy as np
import thalweg as tw
from thalweg import nn
rank = tw.parallel.rank()
tw.parallel.communicator()
open(f"pid{rank}", "w").write(str(os.getpid()))
rng = np.random.default_rng(0)
x, y = rng.standard_normal((45, 20)).astype("f4"), rng.integers(0, 5, 45)
net = nn.Sequential(nn.Linear(33), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.3), nn.Linear(5))
if tw.checkpoint.has_checkpoint("run"):
    trainer = tw.Trainer.load("run", resume="auto")
else:
    trainer = tw.Trainer(net, loss=tw.losses.CrossEntropy(), optimizer=tw.optim.Adam(lr=0.01), seed=3)
saver = tw.callbacks.ModelCheckpoint("run", save_freq=3)
trainer.fit(x, y, epochs=40, batch_size=16, callbacks=[saver], verbose=0)
digest = trainer.digest()
if rank == 0: tw.checkpoint.save_file("done", digest.encode())
"""
START_SECONDS = 60.0
END_SECONDS = 30.0  # after a kill all the rest must have ended
MOST_KILLS = 6  # of one training, which then may reach its end
LOST = 6
MPIEXEC = Path(sys.executable).parent / "mpiexec"


class Failure(Exception):
    """Something that must not happen."""


class Job:
    """One start of the script in a folder."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder, self.mark, self.connected = kind, folder, uuid.uuid4().hex, 0.0
        self.ranks = 1 if kind == "alone" else 2
        for path in folder.glob("pid*"):
            path.unlink()
        root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        self.output = (folder / "output").open("w+")
        self.process = subprocess.Popen(
            [*_start(kind), str(folder / "script.py")],
            cwd=folder,
            env={**os.environ, **root, "THALWEG_TIMEOUT": "20", "THALWEG_JOB": self.mark},
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )

    def pids(self) -> list[int]:
        """Return the ranks' processes once all have connected."""
        for _ in range(int(START_SECONDS / 0.005)):  # not by the clock: whoever paused the job has paused this too
            ended = self.process.poll() is not None
            texts = [p.read_text() for r in range(self.ranks) if (p := self.folder / f"pid{r}").exists()]
            if len(texts) == self.ranks and all(texts):
                self.connected = time.monotonic()
                return [int(text) for text in texts]
            if ended:
                break
            time.sleep(0.005)
        raise Failure(f"the {self.kind} job never started (exit code {self.process.poll()}): {self.said()}")

    def wait(self, seconds: float) -> bool:
        """Tell whether the job ends within that time."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def left(self) -> list[int]:
        """Return the processes of this job that still run, whoever is their parent."""
        return [pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if _is_marked(pid, self.mark)]

    def said(self) -> str:
        return (self.folder / "output").read_text(errors="replace")[-2000:]

    def end(self) -> None:
        for pid in self.left():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        self.output.close()


def _start(kind: str) -> list[str]:
    if kind == "launch":
        return [sys.executable, "-c", "from thalweg_command import main; main()", "launch", "-n", "2"]
    if kind == "mpiexec":
        version = subprocess.run([MPIEXEC, "--version"], capture_output=True, text=True, check=False).stdout
        more = ["--oversubscribe"] if "Open MPI" in version else []
        return [str(MPIEXEC), *more, "-n", "2", sys.executable]
    return [sys.executable]


def _is_marked(pid: int, mark: str) -> bool:
    try:
        if f"THALWEG_JOB={mark}".encode() not in Path(f"/proc/{pid}/environ").read_bytes():
            return False
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def kill(job: Job, moment: float, victim: int) -> tuple[str, float]:
    """Kill one process of a job `moment` seconds after its ranks have connected (victim: -1 for the launcher).

    Returns: who it was ("" where the job was over before), and the seconds until all had ended.
    """
    pids = job.pids()
    if job.wait(moment):
        return "", 0.0
    launcher = victim < 0 and job.kind != "alone"
    try:
        os.kill(job.process.pid if launcher else pids[victim % job.ranks], signal.SIGKILL)
    except ProcessLookupError:  # it has just ended
        return ("", 0.0) if job.wait(END_SECONDS) else ("nobody", END_SECONDS)
    start = time.monotonic()
    for _ in range(int(END_SECONDS / 0.01)):
        if job.process.poll() is not None and not job.left():
            return "launcher" if launcher else f"rank {victim % job.ranks}", time.monotonic() - start
        time.sleep(0.01)
    raise Failure(f"processes {job.left()} are left {END_SECONDS:.0f} s after the kill: {job.said()}")


def check(job: Job, victim: str) -> None:
    """Hold what is left of a job against what has to be. Raises: Failure."""
    from thalweg import checkpoint

    code = job.process.returncode
    lost = job.kind != "alone" and victim.startswith("rank") and not (job.folder / "done").exists()
    wrong = lost and (code != LOST if job.kind == "launch" else code == 0)  # each mpiexec has codes of its own
    if wrong or (not victim and code != 0) or victim == "nobody":
        raise Failure(f"the {job.kind} job ended with {code} after the kill of {victim or 'nobody'}: {job.said()}")
    if (job.folder / "run" / "LATEST").exists():
        checkpoint.verify(job.folder / "run")


def training(kinds: list[str], folder: Path, random_: random.Random, most: int, seconds: float) -> collections.Counter:
    """Start one training until it reaches its end; return what happened, by name. seconds: that it takes."""
    (folder / "script.py").write_text(SCRIPT)
    found: collections.Counter = collections.Counter()
    while True:
        kind = random_.choice(kinds)
        job = Job(kind, folder)
        try:
            last = found["kills"] >= most
            moment = 1e3 if last else random_.uniform(0, 1.1 * seconds)
            victim, took = kill(job, moment, random_.choice([-1, 0, 1]))
            check(job, victim)
        finally:
            job.end()
        if not victim:
            found["ends"] += 1
            found["seconds"] = time.monotonic() - job.connected
            return found
        found["kills"] += 1
        found[f"{kind}, {victim}"] += 1
        found["longest"] = max(found["longest"], took)


def main(arguments: list[str]) -> int:
    mpi = importlib.util.find_spec("mpi4py") is not None and MPIEXEC.exists()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":")[0])
    parser.add_argument("count", type=int, help="kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--launcher", nargs="+", choices=["alone", "launch", *(["mpiexec"] if mpi else [])],
                        help="one of these starts each job; default: all that are here")  # fmt: skip
    given = parser.parse_args(arguments)
    count, kinds = given.count, given.launcher or ["alone", "launch", "launch", *(["mpiexec"] if mpi else [])]
    random_, total = random.Random(given.seed), collections.Counter()
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    try:
        seconds = training(kinds[-1:], folder, random_, 0, 0.0)["seconds"]  # never killed
        expected = (folder / "done").read_text()
        while total["kills"] < count:
            shutil.rmtree(folder)
            folder.mkdir()
            found = training(kinds, folder, random_, min(MOST_KILLS, count - total["kills"]), seconds)
            if (folder / "done").read_text() != expected:
                raise Failure(f"a training with {found['kills']} kills ended with other bits")
            longest = max(total["longest"], found["longest"])
            total += found
            total["longest"] = longest
    except Failure as failure:
        print(f"after {total['kills']} kills: {failure}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    victims = ", ".join(f"{name}: {n}" for name, n in sorted(total.items()) if "," in name)
    print(f"{total['kills']} kills ({victims}): no hang (all ended within {total['longest']:.2f} s), no process left, "
          f"{total['ends']} trainings ended, all with the bits of the one that was never killed")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
