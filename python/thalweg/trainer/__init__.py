"""Training: the Trainer and its report."""

from .report import StepReport
from .summary import LayerRow, Summary
from .trainer import Trainer

__all__ = ["LayerRow", "StepReport", "Summary", "Trainer"]
