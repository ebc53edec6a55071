"""The table of a network: layers, shapes, parameters, mult-adds, memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..symbolic import Recording


@dataclass(frozen=True)
class LayerRow:
    """One layer that was called: its path, its class, the shape of its output, its parameters and mult-adds a
    sample."""

    path: str
    layer: str
    shape: tuple[Any, ...]
    parameters: int
    mult_adds: int


@dataclass(frozen=True)
class Summary:
    """A network as a table; str() of it is text with one line a layer and the totals below."""

    rows: list[LayerRow]
    parameters: int
    trainable: int
    mult_adds: int
    memory: dict[str, int]

    def __str__(self) -> str:
        cells = [("layer", "kind", "output", "parameters", "mult-adds")]
        cells += [
            (r.path or "(net)", r.layer, str(r.shape).replace("'", ""), f"{r.parameters:,}", f"{r.mult_adds:,}")
            for r in self.rows
        ]
        widths = [max(len(row[i]) for row in cells) for i in range(5)]
        lines = [
            "  ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
            for row in cells
        ]
        bytes_all = sum(self.memory.values())
        frozen = f" ({self.parameters - self.trainable:,} frozen)" if self.trainable < self.parameters else ""
        lines.append(
            f"{self.parameters:,} parameters{frozen}, {self.mult_adds:,} mult-adds a sample, "
            f"{bytes_all / 2**20:.1f} MiB in arenas"
        )
        return "\n".join(line.rstrip() for line in lines)


def summarise(r: Recording, memory: dict[str, int]) -> Summary:
    """Make the table from the recording of an evaluation."""
    work: dict[str, float] = {}
    for node in r.graph.nodes():
        path = node["path"]
        work[path] = work.get(path, 0.0) + node["mult_adds"] / r.rows
    counts = {name: _size(tensor.graph_shape) for name, (_, tensor) in r.parameters.items()}
    mult_adds = round(sum(work.values()))
    rows = [_row(path, layer, shape, counts, work) for path, layer, shape in r.layers]
    trainable = sum(counts[name] for name, (parameter, _) in r.parameters.items() if parameter.trainable)
    return Summary(rows, sum(counts.values()), trainable, mult_adds, memory)


def _row(path: str, layer: str, shape: tuple[Any, ...], counts: dict[str, int], work: dict[str, float]) -> LayerRow:
    own = sum(n for name, n in counts.items() if name.rpartition(".")[0] == path)
    return LayerRow(path, layer, shape, own, round(work.pop(path, 0.0)))


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size
