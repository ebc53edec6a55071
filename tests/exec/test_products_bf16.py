"""Products of bf16 operands: the order of every addition is checked by products_bf16_check.cpp, which is compiled here
for each instruction set that the processor has, and runs with AMX (where there is any) and without it."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from .test_products import hash_of_check


@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "c++")), reason="no C++ compiler")
def test_order_of_every_addition(tw, tmp_path):
    isas = tw._core.isas()
    with ThreadPoolExecutor() as pool:
        hashes = dict(zip(isas, pool.map(lambda isa: hash_of_check(isa, tmp_path, "products_bf16_check"), isas)))
    assert len(set(hashes.values())) == 1, hashes
