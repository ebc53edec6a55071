"""The GPU, or why there is none: tests that need it are skipped then."""

import pytest
from thalweg import _core


def found():
    try:
        return _core.cuda_device(), None
    except RuntimeError as e:
        return None, str(e)


def pytest_report_header():
    name, why = found()
    return f"device: {name or why}"


@pytest.fixture(scope="session")
def gpu():
    """The device's name."""
    name, why = found()
    if name is None:
        pytest.skip(why)
    return name
