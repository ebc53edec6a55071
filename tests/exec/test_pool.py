"""Threads that the system puts on one core part again: pool_check.cpp, compiled here."""

from .conftest import ROOT


def test_threads_part(programs):
    sources = [ROOT / "cpp/exec/pool.cpp", ROOT / "cpp/tensor/arena.cpp"]
    assert programs.found("pool_check", ["generic"], sources)["generic"] in ("apart", "one core")
