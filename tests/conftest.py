"""Shared by all tests: the package, and torch where it is installed (without it those tests are skipped)."""

import pytest


@pytest.fixture(scope="session")
def tw():
    return __import__("thalweg")


@pytest.fixture(scope="session")
def torch():
    module = pytest.importorskip("torch")
    module.set_num_threads(1)
    return module


@pytest.fixture(scope="session")
def ops(tw):
    return tw.ops
