"""Products of bf16 operands: the order of every addition is checked by products_bf16_check.cpp, which is compiled here
for each instruction set that the processor has, and runs on AMX, by dot products of pairs and by fma where there are
such."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from .test_products import ROOT, hash_of_check

EXEC = [*sorted((ROOT / "cpp/exec").glob("*bf16*.cpp")), *(f"cpp/exec/{n}.cpp" for n in ("pool", "shards", "stream"))]
SOURCES = [*EXEC, "cpp/tensor/arena.cpp"]


@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "c++")), reason="no C++ compiler")
def test_order_of_every_addition(tw, tmp_path):
    isas = tw._core.isas()
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda isa: hash_of_check(isa, tmp_path, "products_bf16_check", SOURCES), isas)
        hashes = dict(zip(isas, found, strict=True))
    assert len(set(hashes.values())) == 1, hashes
