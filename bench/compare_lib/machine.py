"""What machine this is, and how much of it others took while something was measured."""

import multiprocessing
import os
import platform
from pathlib import Path
from typing import Any

_FIELDS = {"vendor_id": "vendor", "cpu family": "family", "model": "model", "model name": "name"}


def describe() -> dict[str, Any]:
    """The machine of a run; `machine_class` says which of its parts must agree for ratios to be comparable."""
    import thalweg
    import torch

    return {
        **processor(_read("/proc/cpuinfo")),
        "cores": len(os.sched_getaffinity(0)),
        "kernels": thalweg._core.isa(),
        "torch": torch.__version__.split("+")[0],
    }


def processor(cpuinfo: str) -> dict[str, str]:
    """Vendor, family, model and name of the first processor in the text of /proc/cpuinfo."""
    found: dict[str, str] = {"vendor": platform.machine(), "family": "", "model": "", "name": platform.processor()}
    for line in cpuinfo.split("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        if key.strip() in _FIELDS:
            found[_FIELDS[key.strip()]] = value.strip()
    return found


def machine_class(machine: dict[str, Any]) -> str:
    return f"{machine['vendor']} family {machine['family']} model {machine['model']}, {machine['kernels']}"


class Watch:
    """Counts the processor time that others took since it was made."""

    def __init__(self) -> None:
        self._start = _seconds(_read("/proc/stat"))

    def others(self) -> float | None:
        """The share of all cores' time that other processes took (or the host, by steal); None if it isn't known."""
        now = _seconds(_read("/proc/stat"))
        if now is None or self._start is None or now[0] <= self._start[0]:
            return None
        total, busy, own = (a - b for a, b in zip(now, self._start, strict=True))
        return max(0.0, busy - own) / total


def _seconds(stat: str) -> tuple[float, float, float] | None:
    """(all cores' time, the busy part of it, this process' and its children's part) so far."""
    words = stat.split("\n")[0].split()
    if not words or words[0] != "cpu":
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    children = sum(map(_processor_seconds, (c.pid for c in multiprocessing.active_children())))
    user, nice, system, idle, iowait, irq, softirq, steal = (int(w) / ticks for w in words[1:9])
    busy = user + nice + system + irq + softirq + steal
    return busy + idle + iowait, busy, sum(os.times()[:4]) + children


def _processor_seconds(pid: int | None) -> float:
    """What a process that still runs has used; os.times() counts those that have ended."""
    words = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK") if len(words) > 12 else 0.0


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
