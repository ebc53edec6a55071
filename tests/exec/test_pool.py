"""Threads that the system puts on one core part again: pool_check.cpp, compiled here."""

import os
import shutil
import subprocess

import pytest

from .test_products import FLAGS, ROOT


@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "c++")), reason="no C++ compiler")
def test_threads_part(tmp_path):
    program = tmp_path / "pool_check"
    sources = ["tests/exec/pool_check.cpp", "cpp/exec/pool.cpp", "cpp/tensor/arena.cpp"]
    command = [os.environ.get("CXX", "c++"), *FLAGS, *sources, "-o", str(program)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert built.returncode == 0, built.stderr[-2000:]
    done = subprocess.run([program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
