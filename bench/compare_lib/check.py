"""Holds the ratios of a run against those that are stored for the same class of machine.

A loss is a ratio that fell by more than NOISE times the spread, the larger of the run's and the stored one's; the
spread is the median absolute deviation of the ratios of the rounds, and no less than LEAST_SPREAD of the ratio.
Stored: {machine class: {"date": ..., "rows": {"workload, n threads": {"ratio": ..., "spread": ...}}}}.
"""

from dataclasses import dataclass
from typing import Any

NOISE = 3.0
LEAST_SPREAD = 0.01  # clock and placement differ from run to run even where the rounds of one agree
BUSY = 0.1  # share of the machine that others took; figures of a busier one are not stored

Rows = list[dict[str, Any]]
Stored = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Verdict:
    name: str
    kind: str  # "same", "better", "loss", "error", "new"
    text: str

    def __str__(self) -> str:
        return f"{self.name:52} {self.kind:7} {self.text}"


def name_of(row: dict[str, Any]) -> str:
    return f"{row['workload']}, {row['threads']} thread{'s' if row['threads'] > 1 else ''}"


def compare(rows: Rows, stored: dict[str, Any]) -> list[Verdict]:
    """One verdict a row; `stored`: the rows of this class of machine by name."""
    return [_verdict(row, stored.get(name_of(row))) for row in rows]


def _verdict(row: dict[str, Any], before: dict[str, float] | None) -> Verdict:
    name = name_of(row)
    if "error" in row:
        return Verdict(name, "error", str(row["error"]))
    busy = f"; others took {row['others']:.0%} of the machine" if (row.get("others") or 0.0) > BUSY else ""
    if before is None:
        return Verdict(name, "new", f"{row['ratio']:.3f}, nothing is stored{busy}")
    noise = NOISE * max(row["spread"], before["spread"], LEAST_SPREAD * before["ratio"])
    change = row["ratio"] - before["ratio"]
    kind = "same" if abs(change) <= noise else "better" if change > 0 else "loss"
    return Verdict(name, kind, f"{row['ratio']:.3f}, stored {before['ratio']:.3f}, noise {noise:.3f}{busy}")


def failed(verdicts: list[Verdict]) -> bool:
    return any(v.kind in ("loss", "error") for v in verdicts)


def busy_rows(rows: Rows) -> list[str]:
    return [name_of(row) for row in rows if (row.get("others") or 0.0) > BUSY]


def updated(stored: Stored, machine_class: str, rows: Rows, date: str) -> Stored:
    """The stored ratios with those of this run in place; what the run did not measure stays."""
    before = stored.get(machine_class, {"rows": {}})["rows"]
    new = {name_of(r): {k: round(r[k], 4) for k in ("ratio", "spread")} for r in rows if "error" not in r}
    return {**stored, machine_class: {"date": date, "rows": dict(sorted({**before, **new}.items()))}}
