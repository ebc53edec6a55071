"""What a row of the table of operators says."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Arg:
    """One argument of a sample: its shape and where its values come from. `fixed`: no gradient flows to it."""

    shape: tuple[int, ...]
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    fixed: bool = False


@dataclass(frozen=True)
class Bad:
    """A call that must be refused, the error, and what its message must contain."""

    call: Callable[[Any], Any]
    parts: tuple[str, ...] = ()
    error: type[Exception] | tuple[type[Exception], ...] = ValueError


@dataclass(frozen=True)
class Row:
    """One operator, or one way of calling it.

    name    "conv2d/stride": the word before the slash is the operator's, and stands in its messages
    call    (tw.ops, *arrays) -> array
    ref     (*float64 arrays) -> array
    torch   (torch, *tensors) -> tensor, or None where torch has no such thing
    smooth  derivatives exist at the samples; curved: the second ones are worth testing
    """

    name: str
    call: Callable[..., Any]
    ref: Callable[..., Any]
    torch: Callable[..., Any] | None
    samples: tuple[tuple[Arg, ...], ...]
    smooth: bool = True
    curved: bool = True
    loose: float = 1.0
    messages: tuple[str, ...] = ()  # names that a message may carry instead of the operator's own
    bad: tuple[Bad, ...] = field(default=())

    @property
    def operator(self) -> str:
        return self.name.split("/")[0]

    def arrays(self, sample: int) -> list[np.ndarray]:
        """The sample's arguments: float64 (int64 for class numbers), the same at every call."""
        rng = np.random.default_rng([sample, *self.name.encode()])
        return [np.asarray(a.draw(rng, a.shape)) for a in self.samples[sample]]

    def wrt(self, sample: int) -> list[int]:
        """Positions of the differentiable arguments."""
        return [
            i
            for i, (a, x) in enumerate(zip(self.samples[sample], self.arrays(sample), strict=True))
            if not a.fixed and x.dtype == np.float64
        ]

    def with_reals(
        self, sample: int, function: Callable[..., Any], dtype: Any = np.float64
    ) -> tuple[Callable[..., Any], list[np.ndarray]]:
        """`function` of the differentiable arguments alone, and their values; every real array in `dtype`."""
        arrays, wrt = cast(self.arrays(sample), dtype), self.wrt(sample)

        def of_reals(*reals: Any) -> Any:
            full: list[Any] = list(arrays)
            for i, x in zip(wrt, reals, strict=True):
                full[i] = x
            return function(*full)

        return of_reals, [arrays[i] for i in wrt]


def cast(arrays: list[np.ndarray], dtype: Any) -> list[np.ndarray]:
    """Real arrays in `dtype`; class numbers stay."""
    return [a.astype(dtype) if a.dtype == np.float64 else a for a in arrays]


def each_sample(table: list[Row], keep: Callable[[Row], bool] = lambda row: True) -> Iterator[tuple[str, Row, int]]:
    """(id, row, sample number) of every sample of every row that `keep` keeps."""
    for row in table:
        if keep(row):
            for s, args in enumerate(row.samples):
                yield f"{row.name}-{'-'.join('x'.join(map(str, a.shape)) or 'scalar' for a in args)}", row, s
