"""What a person sees of a run: a header, the network's table, progress, the result.

A bar on a terminal, a line for each epoch elsewhere; output that is closed or full ends the output, never the run.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from . import parallel


def open_standard_streams() -> None:
    """Puts /dev/null where a standard stream is closed: the next file opened would take its number otherwise."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is fd


class Output(io.TextIOBase):
    """Standard output that goes silent when nobody reads it any more."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._try(lambda stream: stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(lambda stream: stream.flush())

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def _try(self, action: Any) -> None:
        stream = self._stream
        if stream is None:
            return
        try:
            action(stream)
        except (OSError, ValueError):
            self._stream = None
            with contextlib.suppress(OSError, ValueError):  # what the stream still holds must not fail at exit either
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)


class Screen:
    """Everything that a training run prints; of ranks that are processes, rank 0 alone."""

    def __init__(self) -> None:
        stdout = sys.stdout if parallel.rank() == 0 else None
        self.console = Console(file=Output(stdout), highlight=False, soft_wrap=True)  # type: ignore[arg-type]
        dumb = os.environ.get("TERM", "") in ("", "dumb", "unknown")
        self.animated = self.console.is_terminal and not dumb
        self.rows = "samples"  # what the rows of a batch are called
        self._bar: Progress | None = None

    def line(self, text: str = "") -> None:
        self.console.print(text, markup=False)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Text columns to the left (the first two), numbers to the right."""
        self.console.print(_table(columns, rows, range(2)), markup=False)

    def start_epoch(self, epoch: int, epochs: int, steps: int) -> None:
        self.start(f"epoch {epoch:>3}/{epochs}", steps)

    def start(self, title: str, total: int) -> None:
        """Show a bar where it can be animated, until stop."""
        if not self.animated:
            return
        self._bar = Progress(
            TextColumn(title, markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[report]}", markup=False),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=total, report="")
        self._bar.start()
        self.console.show_cursor(True)  # a second Ctrl-C ends the process at once: the cursor must not stay hidden

    def advance(self, done: int, report: Mapping[str, Any]) -> None:
        if self._bar is not None:
            self.show(done, self.progress(report))

    def show(self, done: int, report: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done, report=report)

    def progress(self, values: Mapping[str, Any]) -> str:
        return progress_text(values, self.rows)

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def end_epoch(self) -> None:
        self.stop()


def table_text(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text: columns that hold words to the left, numbers to the right."""
    left = [i for i in range(len(columns)) if any(row[i][:1].isalpha() for row in rows)]
    wide = 4 + sum(2 + max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns)))
    console = Console(file=io.StringIO(), width=wide, color_system=None)
    console.print(_table(columns, rows, left), markup=False, highlight=False)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in lines)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int]) -> Table:
    table = Table(box=None, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if i in left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def progress_text(values: Mapping[str, Any], rows: str = "samples") -> str:
    """loss 0.5123  accuracy 98.76 %  ... : those of the values that are there."""
    forms: dict[str, Callable[[float], str]] = {
        "loss": figure,
        "accuracy": "{:.2%}".format,
        "val_loss": figure,
        "val_accuracy": "{:.2%}".format,
        "lr": "{:.3g}".format,
        "grad_norm": "{:.3g}".format,
    }
    parts = [f"{key} {form(values[key])}" for key, form in forms.items() if values.get(key) is not None]
    speed = values.get("samples_per_second")
    return "  ".join(parts if speed is None else [*parts, f"{speed:,.0f} {rows}/s"])


def figure(value: float) -> str:
    """0.5123, or 1.234e+32 where four decimals would show nothing, or too much."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 or not math.isfinite(value) else f"{value:.3e}"


def quantity(number: float) -> str:
    """1,234 or 5.68 M: a count for a table."""
    for limit, unit in ((1e9, "G"), (1e6, "M")):
        if number >= limit:
            return f"{number / limit:.2f} {unit}"
    return f"{number:,.0f}"


def bytes_text(number: float) -> str:
    for limit, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if number >= limit:
            return f"{number / limit:.2f} {unit}"
    return f"{number:.0f} B"
