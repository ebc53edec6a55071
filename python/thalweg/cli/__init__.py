"""The command line: `thalweg train`, `thalweg info`. Imported only by the `thalweg` command, never by the library."""

from .main import main

__all__ = ["main"]
