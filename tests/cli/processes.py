"""Runs of the `thalweg` command as a process."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

SLOW = 10 if "THALWEG_SANITIZED" in os.environ else 1  # times that a process takes
SECONDS = 120 * SLOW


def environment(**more):
    return {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "120", **more}


def command(*arguments):
    return [sys.executable, "-c", "from thalweg_command import main; main()", *map(str, arguments)]


def thalweg(folder, *arguments, **more):
    """Runs the command in `folder` to its end."""
    return subprocess.run(command(*arguments), cwd=folder, env=environment(**more), capture_output=True, text=True,
                          timeout=SECONDS, check=False)  # fmt: skip


def started(folder, *arguments, **more):
    """Starts the command, with its output in a pipe."""
    return subprocess.Popen(command(*arguments), cwd=folder, env=environment(**more), stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)  # fmt: skip


def wait_for(process, text):
    """Reads the output of a process up to the line that holds `text`; returns what was read."""
    lines, limit = [], time.monotonic() + SECONDS
    for line in process.stdout:
        lines.append(line)
        if text in line or time.monotonic() > limit:
            break
    return "".join(lines)


def metrics(folder):
    return list(csv.DictReader((Path(folder) / "metrics.csv").read_text().splitlines()))
