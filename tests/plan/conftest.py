import pytest


@pytest.fixture
def core(tw):
    return tw._core
