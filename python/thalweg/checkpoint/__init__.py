"""Checkpoints that survive a kill, a full disk and a flipped bit.

A run folder holds `step-00000720/` (a checkpoint: model.safetensors, optimizer.safetensors, state.json, MANIFEST.json)
and the file LATEST that names the newest one. `save` and `load` move a state
    {"parameters": {name: array}, "buffers": {name: array}, "optimizer": [{name: array}, ...], "meta": {...}}
to and from such a folder (with "arrays": {name: array} where the meta needs any); `save_file` replaces any one file in
the same careful way. No pickle in any form.
"""

from .durable import replace_file as save_file
from .manifest import FORMAT_VERSION, CheckpointError
from .store import FALLBACK, CheckpointWarning, clean, has_checkpoint, load, save, verify

__all__ = [
    "FALLBACK",
    "FORMAT_VERSION",
    "CheckpointError",
    "CheckpointWarning",
    "clean",
    "has_checkpoint",
    "load",
    "save",
    "save_file",
    "verify",
]
