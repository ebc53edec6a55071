"""What happens when something goes wrong: each fault against Thalweg and against torch's DistributedDataParallel on
gloo, two ranks each, the same limit for waits. Prints a table:  python bench/faults.py [part of a name]

Of each side: what is said (the line that names the fault, or "silent" where a job ends as if nothing had happened),
the seconds from the fault to the end of all processes, and what is left of the checkpoint.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from faults_lib.cases import CASES, LIMIT_SECONDS, OURS, TORCH, Case

HANG_SECONDS = 60
SIDES = {
    "Thalweg": (OURS, [sys.executable, "-c", "from thalweg_command import main; main()", "launch", "-n", "2"]),
    "torch": (TORCH, [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]),
}
# What a launcher says of any failure, source lines of tracebacks, and warnings.
NOISE = re.compile(
    r"^$|^[WE]\d{4} |^thalweg launch:|ChildFailedError|^=+|^-+$|^\*+|arning|warn\(|errors\.html|^<N/A>|Root Cause|"
    r"^\[\d\]:$|^(time|host|rank|exitcode|error_file|traceback) +:|FAILED|"
    r"^(\[rank\d\]: +)?(File|Traceback|raise|return|train\(|\^)"
)


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "THALWEG_TIMEOUT": str(LIMIT_SECONDS), "PYTHONUNBUFFERED": "1", "TERM": "dumb", **more}


def is_left(mark: str) -> list[int]:
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if mark.encode() in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(int(pid))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def run(side: str, case: Case, folder: Path) -> tuple[int, str, float]:
    """Return the exit code, all that was said, and the seconds from the fault to the end of all processes."""
    head, launcher = SIDES[side]
    script, struck, mark = folder / "script.py", folder / "struck", uuid.uuid4().hex
    script.write_text(head + (case.ours if side == "Thalweg" else case.torch))
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            [*launcher, str(script)], cwd=folder, env=environment(FAULT_MARK=mark), stdout=output, stderr=output
        )
        began = time.monotonic()
        while process.poll() is None and not struck.exists() and time.monotonic() - began < HANG_SECONDS:
            time.sleep(0.005)
        start = time.monotonic()
        if case.signal:
            process.send_signal(case.signal)
        while is_left(mark) and time.monotonic() - start < HANG_SECONDS:
            time.sleep(0.02)
        seconds = time.monotonic() - start
        for pid in is_left(mark):
            os.kill(pid, signal.SIGKILL)
        code = process.wait()
    return code, (folder / "output").read_text(errors="replace"), seconds


def what_loads(side: str, case: Case, folder: Path) -> str:
    """Return what becomes of the checkpoint when one process loads it."""
    if not case.load:
        return ""
    head = (
        SIDES[side][0]
        .replace('dist.init_process_group("gloo"', "(lambda *a, **k: None)(0")
        .replace("dist.get_rank()", "0")
    )
    script = folder / "load.py"
    script.write_text(head + case.load)
    done = subprocess.run(
        [sys.executable, script],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return "loads" if "loads" in done.stdout else (done.stderr.strip().splitlines() or ["nothing"])[-1]


def verdict(case: Case, code: int, said: str, seconds: float, left: str) -> tuple[str, str]:
    """Return (one word, the line that says most)."""
    everything = [line.strip() for line in (said + "\n" + left).splitlines()]
    lines = [line for line in everything if not NOISE.search(line)]
    errors = [line for line in lines if re.search(r"\w(Error|Exception)\b|enforce fail", line)] or lines
    errors = [line for line in errors if "by peer" not in line] or errors  # what others say of the one that failed
    match = next((line for line in everything for pattern in case.named if pattern and re.search(pattern, line)), "")
    if seconds >= HANG_SECONDS:
        return "hangs", ""
    if case.signal:
        return ("saved" if left == "loads" else "not saved"), f"exit code {code}"
    if match:
        return "named", match
    if code == 0 and left in ("", "loads"):
        ends = {line.split()[2] for line in lines if line.startswith("end ")}
        return "silent", "the ranks end with other weights" if len(ends) > 1 else "nan" if "nan" in ends else ""
    return "error", errors[-1] if errors else f"exit code {code}"


def cell(case: Case, side: str) -> str:
    with tempfile.TemporaryDirectory(prefix="fault-") as name:
        folder = Path(name)
        code, said, seconds = run(side, case, folder)
        left = what_loads(side, case, folder)
    word, line = verdict(case, code, said, seconds, left)
    state = "" if not case.load or case.signal else "; a checkpoint loads" if left == "loads" else "; none loads"
    shown = re.sub(
        r"^\[rank\d\]: *|^\[\d\] |^thalweg: |\[/\S+:\d+\] |thalweg\.(_core|checkpoint\.manifest)\.", "", line
    )
    return f"{word}, {seconds:.1f} s{state}" + (f": {shown[:110]}" if shown else "")


def main(parts: list[str]) -> None:
    chosen = [case for case in CASES if not parts or any(part in case.name for part in parts)]
    print("| fault | Thalweg | torch DDP, gloo |\n|---|---|---|", flush=True)
    for case in chosen:
        cells = [cell(case, side).replace("|", "/") for side in SIDES]
        print(f"| {case.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
