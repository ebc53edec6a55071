"""Guard against use after fork: the engine's threads don't exist in a forked child."""

from __future__ import annotations

import os

_forked = False


def check() -> None:
    """Raise a RuntimeError in a process that was forked after thalweg was imported."""
    if _forked:
        raise RuntimeError(
            "thalweg was imported before this process was forked, and its threads did not come along: "
            "import it in the child, or start the child with multiprocessing's 'spawn'"
        )


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
