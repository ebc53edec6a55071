"""tw.sweep: thousands of small trainings as one native call, and the table of their results."""

from .result import SweepResult, SweepRun
from .run import sweep

__all__ = ["SweepResult", "SweepRun", "sweep"]
