"""Programs compiled from sources of the engine, each source once for an instruction set, for all programs with it."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ["-std=c++20", "-O1", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-pthread", "-Icpp"]
ISA_FLAGS = {
    "generic": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx512cd", "-mavx2", "-mfma"],
}


def run(*command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


class Programs:
    def __init__(self, compiler, folder, pool):
        self._compiler, self._folder, self._pool, self._objects = compiler, folder, pool, {}

    def found(self, name, isas, sources):
        """What tests/exec/NAME.cpp prints, built with these sources for each of the instruction sets."""
        sources = [*sources, ROOT / f"tests/exec/{name}.cpp"]
        objects = {isa: [self._object(isa, source) for source in sources] for isa in isas}
        built = {isa: [done.result() for done in objects[isa]] for isa in isas}
        return dict(zip(isas, self._pool.map(lambda isa: self._run(name, isa, built[isa]), isas), strict=True))

    def _object(self, isa, source):
        """Begins to compile a source, unless another program has it already."""
        if (isa, source) not in self._objects:
            path = self._folder / f"{source.stem}_{isa}.o"
            command = [self._compiler, *FLAGS, *ISA_FLAGS[isa], "-c", source, "-o", path]
            self._objects[isa, source] = self._pool.submit(lambda: run(*command) or path)
        return self._objects[isa, source]

    def _run(self, name, isa, objects):
        program = self._folder / f"{name}_{isa}"
        run(self._compiler, *FLAGS, *objects, "-o", program)
        return run(program)


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    compiler = os.environ.get("CXX", "c++")
    if not shutil.which(compiler):
        pytest.skip("no C++ compiler")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield Programs(compiler, tmp_path_factory.mktemp("programs"), pool)
