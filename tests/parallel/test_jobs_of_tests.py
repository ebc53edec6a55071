"""The tests of collectives once more, each of four processes running them in step with the others."""

from pathlib import Path

import pytest

from . import jobs

pytestmark = pytest.mark.timeout(240)
ROOT = Path(__file__).resolve().parents[2]
# Without those that end the world: test_faults has their like. Sizes that need more processes are skipped.
LEFT_OUT = ("failing", "alone", "bad_arrays", "vain", "abort", "float32-300001", "float64-700001", "others_see")
CHOSEN = " and ".join(f"not {name}" for name in LEFT_OUT)
FILES = [ROOT / f"tests/comm/test_{name}.py" for name in ("collectives", "started", "started_forms", "letters")]


@pytest.mark.parametrize("way", jobs.WAYS)
def test_collectives_between_processes(way):
    by, variables = jobs.WAYS[way]
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *FILES, "-k", CHOSEN]  # one job: it takes long to start
    done = jobs.run(by(4, *tests), ROOT, limit=200, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout and "failed" not in done.stdout
