"""The table of a network: layers, shapes, parameters, mult-adds, memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..nn.module import Module, Parameter
from ..symbolic import Recording


@dataclass(frozen=True)
class LayerRow:
    """One layer: its path, its class, the shape of its output, its parameters and mult-adds a sample.

    shared: it holds parameters, or does work, that a row above counts. A layer of layers has a row where it holds
    parameters or does work of its own; its shape is then ().
    """

    path: str
    layer: str
    shape: tuple[Any, ...]
    parameters: int
    mult_adds: int
    shared: bool = False

    @property
    def kind(self) -> str:
        """The class, marked where the layer is shared."""
        return f"{self.layer} (shared)" if self.shared else self.layer


@dataclass(frozen=True)
class Summary:
    """A network as a table; str() of it is text with one line a layer and the totals below."""

    rows: list[LayerRow]
    parameters: int
    trainable: int
    mult_adds: int
    memory: dict[str, int]
    precision: str = "float32"

    def __str__(self) -> str:
        cells = [("layer", "kind", "output", "parameters", "mult-adds")]
        cells += [
            (r.path or "(net)", r.kind, str(r.shape) if r.shape else "", f"{r.parameters:,}", f"{r.mult_adds:,}")
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
            + (", products and activations in bf16" if self.precision == "bf16" else "")
        )
        return "\n".join(line.rstrip() for line in lines)


def summarise(net: Module, r: Recording, memory: dict[str, int], precision: str) -> Summary:
    """Make the table from the recording of an evaluation. Every parameter and every mult-add is in one row."""
    work: dict[str, float] = {}
    for node in r.graph.nodes():
        path = node["path"]
        work[path] = work.get(path, 0.0) + node["mult_adds"] / r.rows
    mult_adds = round(sum(work.values()))
    own: dict[str, int] = {}
    for name, size in _sizes(r).items():
        owner = name.rpartition(".")[0]
        own[owner] = own.get(owner, 0) + size
    tied = _with_tied_parts(net)
    rows, seen = [], set[str]()
    for path, layer, shape in _called(net, r, own, work):
        shared = path in tied or path in seen
        rows.append(LayerRow(path, layer, shape, own.pop(path, 0), round(work.pop(path, 0.0)), shared))
        seen.add(path)
    trainable = sum(size for name, size in _sizes(r).items() if r.parameters[name][0].trainable)
    arenas = {name: n for name, n in memory.items() if name.startswith("bytes_")}
    return Summary(rows, parameter_count(r), trainable, mult_adds, arenas, precision)


def parameter_count(r: Recording) -> int:
    """Return how many numbers the parameters of a network hold."""
    return sum(_sizes(r).values())


def _called(
    net: Module, r: Recording, own: dict[str, int], work: dict[str, float]
) -> list[tuple[str, str, tuple[Any, ...]]]:
    """Return the layers in the order of their calls, each behind those around it that hold or compute something."""
    kinds = {r.names[id(module)]: type(module).__name__ for _, module in net.named_modules()}
    left = {path for path in kinds if own.get(path) or work.get(path)} - {path for path, _, _ in r.layers}
    found: list[tuple[str, str, tuple[Any, ...]]] = []
    for path, layer, shape in r.layers:
        around = sorted(outer for outer in left if not outer or path.startswith(f"{outer}."))  # the outermost first
        found += [(outer, kinds[outer], ()) for outer in around]
        left -= set(around)
        found.append((path, layer, shape))
    return found + [(path, kinds[path], ()) for path in sorted(left)]


def _with_tied_parts(net: Module) -> set[str]:
    """Return the paths of modules that hold a parameter which another module above them holds too."""
    seen: set[int] = set()
    tied = set()
    for path, module in net.named_modules():
        held = [id(part) for part in module._parts.values() if isinstance(part, Parameter)]
        if seen & set(held):
            tied.add(path)
        seen |= set(held)
    return tied


def _sizes(r: Recording) -> dict[str, int]:
    return {name: math.prod(tensor.graph_shape) for name, (_, tensor) in r.parameters.items()}
