"""Threads that the system puts on one core part again: pool_check.cpp, compiled here."""

import os
import shutil

import pytest

from .test_products import hash_of_check

SOURCES = ["cpp/exec/pool.cpp", "cpp/tensor/arena.cpp"]


@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "c++")), reason="no C++ compiler")
def test_threads_part(tmp_path):
    assert hash_of_check("generic", tmp_path, "pool_check", SOURCES) in ("apart", "one core")
