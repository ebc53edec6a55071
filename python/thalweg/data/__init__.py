"""Data sets: the handwritten digits that come with the package, and a careful reader of .npz files."""

from .digits import digits
from .npz import DataError, load_npz

__all__ = ["DataError", "digits", "load_npz"]
