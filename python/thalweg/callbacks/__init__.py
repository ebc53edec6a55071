"""Callbacks of Trainer.fit, under Keras's names.

Hooks are called between steps, on the thread that called fit. An exception in one ends fit at that step's edge, with
the trainer whole: fit called again goes on from there. Overriding a batch hook lets every step return to Python.
What a callback decides with is kept in checkpoints, so that a resumed training decides the same.
"""

from .base import Callback, LambdaCallback
from .monitors import EarlyStopping, ReduceLROnPlateau, TerminateOnNaN
from .rates import LearningRateScheduler
from .writers import CSVLogger, ModelCheckpoint, Progress

__all__ = [
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "Progress",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
]
