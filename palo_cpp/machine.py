"""What this machine offers the process: cores to compute on and memory to load into.

Containers and affinity masks count: a process in a container of two cores on a server of sixty-four gets two.
Every reading takes the root of the file system as an argument, so that tests bring their own /proc and /sys.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_ROOT = Path("/")
_MIB = 1 << 20
# v1 writes a number near 2**63, rounded to pages, where there is no limit.
_NO_LIMIT = 1 << 60
# Of the fastest core's speed. Tasks are dealt to whichever core is free, so a slow core helps until the others wait for
# its last task: by benchmarks/pool_trace.py, four cores gain from four more down to about a sixth of their speed, and
# what the kernel says of a little core is its speed without vectors.
_LEAST_SPEED = 0.25


def n_physical_cores(root: Path = _ROOT, cpus: frozenset[int] | None = None) -> int:
    """Physical cores that are worth a thread: affinity, hyper-threads and the container's quota count.

    Of unequal cores, those below a quarter of the fastest one's speed are left out, by what the kernel says of them; on
    macOS, all but the performance cores.

    Args:
        root: where `proc` and `sys` are; another one in tests.
        cpus: logical CPUs the process may run on; by default its affinity mask.

    Returns:
        At least 1.
    """
    if sys.platform == "darwin" and root == _ROOT:
        return _sysctl("hw.perflevel0.physicalcpu") or _sysctl("hw.physicalcpu") or os.cpu_count() or 1
    allowed = cpus if cpus is not None else _allowed_cpus()
    n_cores = len({_siblings(root, cpu) for cpu in _fast(root, allowed)})
    quota = cpu_quota(root)
    # Rounded down: a thread that the quota stops holds up all others at the next barrier.
    return max(1, n_cores if quota is None else min(n_cores, int(quota)))


def _allowed_cpus() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _fast(root: Path, cpus: frozenset[int]) -> frozenset[int]:
    """Without those that are far slower than the fastest."""
    for reading in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        speeds = {cpu: _number(_read(root / f"sys/devices/system/cpu/cpu{cpu}/{reading}")) or 0 for cpu in cpus}
        if all(speeds.values()):
            least = _LEAST_SPEED * max(speeds.values())
            return frozenset(cpu for cpu, speed in speeds.items() if speed >= least)
    return cpus  # nothing is said of them


def _siblings(root: Path, cpu: int) -> str:
    """A name for the physical core of a logical CPU: the list of its hyper-threads."""
    text = _read(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return text or f"cpu {cpu}"


def cpu_quota(root: Path = _ROOT) -> float | None:
    """CPUs' worth of time that the control groups of this process grant; None where nothing limits it."""
    quotas = [quota for folder in _cgroup_folders(root, "cpu") if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def _quota_of(folder: Path) -> float | None:
    if (text := _read(folder / "cpu.max")) is not None:  # v2: "max 100000" or "150000 100000"
        quota, _, period = text.partition(" ")
    else:
        quota = _read(folder / "cpu.cfs_quota_us") or "-1"
        period = _read(folder / "cpu.cfs_period_us") or ""
    microseconds, per = _number(quota), _number(period) or 100_000
    return microseconds / per if microseconds is not None and microseconds > 0 else None


def memory_total(root: Path = _ROOT) -> int | None:
    """Bytes of memory of the machine or of the container, whichever is less; None where it cannot be determined."""
    if (machine := _meminfo(root, "MemTotal")) is None:
        return _memory_elsewhere()[0]
    limits = [limit for limit, _ in _cgroup_memory(root)]
    return min([machine, *limits])


def memory_available(root: Path = _ROOT) -> int | None:
    """Bytes that can be taken without swapping; the container's limit counts. None where it cannot be determined."""
    if (machine := _meminfo(root, "MemAvailable")) is None:
        return _memory_elsewhere()[1]
    left = [max(0, limit - used) for limit, used in _cgroup_memory(root)]
    return min([machine, *left])


def _meminfo(root: Path, key: str) -> int | None:
    for line in (_read(root / "proc/meminfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    return None


def _cgroup_memory(root: Path) -> list[tuple[int, int]]:
    """(limit, used) in bytes of every control group above this process that limits memory.

    Used leaves out the file cache that the kernel would give back first.
    """
    readings = []
    for folder in _cgroup_folders(root, "memory"):
        limit = _number(_read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes"))
        used = _number(_read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes"))
        if limit is None or limit >= _NO_LIMIT:
            continue
        readings.append((limit, max(0, (used or 0) - _reclaimable(folder))))
    return readings


def _reclaimable(folder: Path) -> int:
    for line in (_read(folder / "memory.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return _number(value) or 0
    return 0


def _cgroup_folders(root: Path, controller: str) -> list[Path]:
    """The control groups of this process, innermost first, up to the root; v1 and v2."""
    folders = []
    for line in (_read(root / "proc/self/cgroup") or "0::/").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / (controller if controllers else "")
        group = base / path.strip("/")
        folders += [base, *(folder for folder in (group, *group.parents) if base in folder.parents)]
    return folders


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None


def _number(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None


def _sysctl(name: str) -> int:
    """One number from macOS's sysctl; 0 where it has none."""
    value, size = ctypes.c_int64(0), ctypes.c_size_t(8)
    status = ctypes.CDLL(None).sysctlbyname(name.encode(), ctypes.byref(value), ctypes.byref(size), None, 0)
    return value.value if status == 0 else 0


class _MemoryStatus(ctypes.Structure):
    """Windows' MEMORYSTATUSEX, up to the fields we read."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("available", ctypes.c_uint64),
        ("rest", ctypes.c_uint64 * 5),
    )


def _memory_elsewhere() -> tuple[int | None, int | None]:
    """(total, available) on macOS and Windows."""
    if sys.platform == "darwin":
        total = _sysctl("hw.memsize") or None
        return total, total  # macOS compresses and gives back; only what exceeds the machine is refused
    if sys.platform == "win32":
        status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
        if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
            return status.total, status.available
    return None, None
