"""How quiet the machine was during a run: other processes' share of the processors, and the clock's range."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palo_cpp.machine import memory_total, n_physical_cores

# Above this, medians of a run say little: two threads no longer have two cores.
NOISY_PERCENT = 10.0


@dataclass
class Noise:
    """What was seen during a run.

    Attributes:
        other_cpu_percent: share of all processors that other processes took; None where the system does not tell.
        clock_mhz: clocks that were read, of the fastest processor each time.
    """

    other_cpu_percent: float | None = None
    clock_mhz: list[float] = field(default_factory=list)

    @property
    def is_noisy(self) -> bool:
        """Whether others took so much that the figures should not be quoted."""
        return self.other_cpu_percent is not None and self.other_cpu_percent > NOISY_PERCENT

    def sample_clock(self) -> None:
        """Read the clock now, while something computes or has just computed."""
        if (clock := _clock_mhz()) is not None:
            self.clock_mhz.append(clock)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        percent = None if self.other_cpu_percent is None else round(self.other_cpu_percent, 1)
        clocks = [round(min(self.clock_mhz)), round(max(self.clock_mhz))] if self.clock_mhz else None
        return {"other_cpu_percent": percent, "clock_mhz": clocks, "is_noisy": self.is_noisy}


@contextmanager
def watched_noise() -> Iterator[Noise]:
    """Watch the machine while the block runs; the processes that it starts must have ended with it."""
    noise = Noise()
    start, busy, own = time.monotonic(), _busy_s(), _own_s()
    try:
        yield noise
    finally:
        if busy is not None and (busy_now := _busy_s()) is not None:
            others = busy_now - busy - (_own_s() - own)
            capacity = max(time.monotonic() - start, 1e-3) * (os.cpu_count() or 1)
            noise.other_cpu_percent = min(max(100 * others / capacity, 0.0), 100.0)


def _own_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _busy_s() -> float | None:
    """Processor time of all processes, and time that the hypervisor kept for others."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    except (OSError, UnicodeDecodeError):
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _clock_mhz() -> float | None:
    clocks = [line.partition(":")[2] for line in _cpuinfo() if line.startswith("cpu MHz")]
    return max(map(float, clocks), default=None)


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def describe_machine() -> str:
    """Processor, cores, memory and system in one line."""
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    memory = memory_total()
    parts = [names[0] if names else platform.processor() or platform.machine(), f"{n_physical_cores()} cores"]
    parts += [f"{memory / 2**30:.0f} GiB"] if memory else []
    return ", ".join([*parts, f"{platform.system()} {platform.machine()}", f"Python {sys.version.split()[0]}"])
