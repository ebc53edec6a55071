"""The first moments of the `thalweg` command.

A package of its own, because importing anything of `thalweg` loads the engine: Ctrl-C during that ends the command
quietly, as it does later.
"""

import sys


def main() -> None:
    """Runs the command line and ends the process."""
    try:
        from thalweg.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()
