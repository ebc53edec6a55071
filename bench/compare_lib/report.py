"""What the comparison prints."""

import datetime
import os
import platform
from typing import Any

from .timing import Peaks


def header(plain_malloc: bool) -> str:
    import thalweg
    import torch

    malloc = "malloc as it is" if plain_malloc else "malloc tuned (no trimming, no mmap)"
    return (
        f"thalweg {thalweg.__version__} ({thalweg._core.isa()}) beside torch {torch.__version__}, {malloc}, "
        f"{platform.machine()} with {len(os.sched_getaffinity(0))} cores, {datetime.date.today()}\n{idle_line()}\n"
        f"{'workload':38} {'thr':>3} {'ours':>10} {'torch':>10} {'ratio':>7} {'target':>6} {'x floor':>7}  "
        "others speed  best peer"
    )


def idle_line() -> str:
    """How busy the machine was before this run: figures of a busy machine are worth little."""
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    verdict = "idle" if load < 0.15 * cores else "busy: the figures are noisy"
    return f"load average {load:.2f} on {cores} cores: {verdict}"


def peaks_line(threads: int, peaks: Peaks) -> str:
    return (
        f"-- {threads} thread{'s' if threads > 1 else ''}: {peaks.flops / 1e9:.0f} GFLOP/s, "
        f"copy {peaks.copy / 1e9:.0f} GB/s, in-place stream {peaks.stream / 1e9:.0f} GB/s"
    )


def duration(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def line(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"{row['workload']:38} {row['threads']:3} {row['error']}"
    target = "" if row["target"] is None else f"{row['target']:.2f}"
    below = " <" if row["target"] is not None and row["ratio"] < row["target"] else "  "
    ours, peer = duration(row["seconds_ours"]), duration(row["seconds_peer"])
    machine = f"{share(row['others']):>6} {share(row['speed']):>5}"
    return (
        f"{row['workload']:38} {row['threads']:3} {ours:>10} {peer:>10} "
        f"{row['ratio']:7.2f} {target:>6} {row['floor_ratio']:7.2f}{below}{machine}  {row['peer']}"
    )


def share(others: float | None) -> str:
    return "?" if others is None else f"{others:.0%}"


def footer(rows: list[dict[str, Any]], others: float | None) -> str:
    done = [row for row in rows if "error" not in row]
    slower = [row["workload"] for row in done if row["ratio"] < 1]
    short = [row["workload"] for row in done if row["target"] and row["ratio"] < row["target"]]
    return (
        f"other processes took {share(others)} of the machine\n{len(done)} of {len(rows)} measured; "
        f"slower than the best peer: {', '.join(slower) or 'none'}; "
        f"below the target: {', '.join(short) or 'none'}"
    )
