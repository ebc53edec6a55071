"""Flips bits of a checkpoint, one at a time, and loads it:  python tools/flips.py 10000 [SEED]

All bits of the headers of both safetensors files, all of the manifest and of state.json, and as many random bits of the
tensors' data as the argument says. Every one has to be noticed, by a message that names the file.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import thalweg as tw
from thalweg import checkpoint

TENSORS = ("model.safetensors", "optimizer.safetensors")
TEXTS = ("state.json", "MANIFEST.json")


def made(folder: Path) -> Path:
    """Save a trainer after a few steps; return the checkpoint's folder."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((45, 20)).astype("f4"), rng.integers(0, 5, 45)
    net = tw.nn.Sequential(tw.nn.Linear(33), tw.nn.BatchNorm(), tw.nn.ReLU(), tw.nn.Linear(5))
    trainer = tw.Trainer(net, loss=tw.losses.CrossEntropy(), optimizer=tw.optim.Adam(lr=0.01), seed=3)
    trainer.fit(x, y, epochs=1, batch_size=16, verbose=0)
    return Path(trainer.save(folder / "run"))


def header_bytes(path: Path) -> int:
    """Return where the data of a safetensors file begin."""
    return 8 + int.from_bytes(path.read_bytes()[:8], "little")


def all_bits(path: Path, end: int) -> Iterator[tuple[Path, int]]:
    yield from ((path, bit) for bit in range(8 * end))


def bits(folder: Path, count: int, random_: random.Random, *, every: int = 1) -> Iterator[tuple[Path, int]]:
    """Yield (file, bit): those of headers and texts (each, or one of `every`), then `count` of the tensors' data."""
    for name in TENSORS:
        yield from list(all_bits(folder / name, header_bytes(folder / name)))[::every]
    for name in TEXTS:
        yield from list(all_bits(folder / name, (folder / name).stat().st_size))[::every]
    for _ in range(count):
        path = folder / random_.choice(TENSORS)
        yield path, random_.randrange(8 * header_bytes(path), 8 * path.stat().st_size)


def is_noticed(path: Path, bit: int) -> bool:
    """Flip a bit, load the checkpoint, and flip it back."""
    _flip(path, bit)
    try:
        checkpoint.load(path.parent)
    except checkpoint.CheckpointError as error:
        return path.name in str(error)
    finally:
        _flip(path, bit)
    return False


def _flip(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def main(arguments: list[str], *, every: int = 1) -> int:
    count, seed = int(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 0
    with tempfile.TemporaryDirectory() as name:
        folder, start = made(Path(name)), time.monotonic()
        flips = list(bits(folder, count, random.Random(seed), every=every))
        missed = [(path.name, bit) for path, bit in flips if not is_noticed(path, bit)]
        checkpoint.load(folder)
    print(f"{len(flips) - count} bits of headers and texts, {count} of data flipped: {len(missed)} not noticed",
          f"{missed[:5] or ''} ({time.monotonic() - start:.0f} s)")  # fmt: skip
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
