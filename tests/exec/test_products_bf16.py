"""Products of bf16 operands: the order of every addition is checked by products_bf16_check.cpp, which is compiled here
for each instruction set that the processor has, and runs on AMX, by dot products of pairs and by fma where there are
such."""

from .conftest import ROOT

EXEC = ROOT / "cpp/exec"
OTHERS = ("pool", "shards", "stored", "stream", "tile_dots")
SOURCES = [*sorted(EXEC.glob("*bf16*.cpp")), *(EXEC / f"{name}.cpp" for name in OTHERS)]


def test_order_of_every_addition(tw, programs):
    hashes = programs.found("products_bf16_check", tw._core.isas(), [*SOURCES, ROOT / "cpp/tensor/arena.cpp"])
    assert len(set(hashes.values())) == 1, hashes
