import functools

import pytest

from . import ranks


@pytest.fixture(params=ranks.KINDS)
def run_ranks(request):
    """run_ranks(size, body) for every kind of ranks."""
    return functools.partial(ranks.run_ranks, request.param)
