"""A deadline ends its process though the call that lasts too long holds the interpreter's lock; a met one does not."""

import subprocess
import sys
import time

BODY = """
import ctypes
from thalweg import _core
deadline = _core.Deadline({seconds}, "too long", 6)
if {met}: deadline.meet()
ctypes.PyDLL(None).usleep({lasts})
print("done")
"""


def ran(**values):
    start = time.monotonic()
    code = BODY.format(**values)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert time.monotonic() - start < 20
    return done.returncode, done.stdout, done.stderr


def test_a_call_that_lasts_too_long_ends_the_process():
    assert ran(seconds=0.2, met=False, lasts=30_000_000) == (6, "", "too long\n")


def test_what_is_met_ends_nothing():
    assert ran(seconds=0.1, met=True, lasts=300_000) == (0, "done\n", "")
    assert ran(seconds=30.0, met=False, lasts=1) == (0, "done\n", "")
