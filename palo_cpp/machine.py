"""What this machine offers the process: cores to compute on and memory to load into.

Containers and affinity masks count: a process in a container of two cores on a server of sixty-four gets two.
Every reading takes the root of the file system as an argument, so that tests bring their own /proc and /sys.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from palo_cpp.errors import OutOfMemoryError
from palo_cpp.ggml.gguf_header import GgufHeader

_ROOT = Path("/")
_MIB = 1 << 20
# v1 writes a number near 2**63, rounded to pages, where there is no limit.
_NO_LIMIT = 1 << 60


def n_physical_cores(root: Path = _ROOT, cpus: frozenset[int] | None = None) -> int:
    """Physical cores that this process may use: affinity, hyper-threads and the container's quota count.

    Args:
        root: where `proc` and `sys` are; another one in tests.
        cpus: logical CPUs the process may run on; by default its affinity mask.

    Returns:
        At least 1.
    """
    if sys.platform == "darwin" and root == _ROOT:
        return _sysctl("hw.perflevel0.physicalcpu") or _sysctl("hw.physicalcpu") or os.cpu_count() or 1
    allowed = cpus if cpus is not None else _allowed_cpus()
    n_cores = len({_siblings(root, cpu) for cpu in allowed})
    quota = cpu_quota(root)
    # Rounded down: a thread that the quota stops holds up all others at the next barrier.
    return max(1, n_cores if quota is None else min(n_cores, int(quota)))


def _allowed_cpus() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


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
    """Bytes of memory of the machine or of the container, whichever is less; None where it cannot be told."""
    if (machine := _meminfo(root, "MemTotal")) is None:
        return _memory_elsewhere()[0]
    limits = [limit for limit, _ in _cgroup_memory(root)]
    return min([machine, *limits])


def memory_available(root: Path = _ROOT) -> int | None:
    """Bytes that can be taken without swapping; the container's limit counts. None where it cannot be told."""
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


@dataclass(frozen=True)
class MemoryEstimate:
    """What a load will take, in bytes.

    Attributes:
        text: weights of the language model.
        kv_cache: keys and values of n_ctx tokens, f16.
        compute: llama.cpp's buffers for one piece of a prefill, and its logits.
        vision: weights of vision tower and projector as they stand in memory, and one image's activations.
    """

    text: int
    kv_cache: int
    compute: int
    vision: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.text + self.kv_cache + self.compute + self.vision

    def __add__(self, other: MemoryEstimate) -> MemoryEstimate:
        """Both at once."""
        return MemoryEstimate(
            self.text + other.text,
            self.kv_cache + other.kv_cache,
            self.compute + other.compute,
            self.vision + other.vision,
        )


def estimate_memory(
    text: GgufHeader, mmproj: GgufHeader | None, *, n_ctx: int, n_batch: int = 512, vision_precision: str = "int8"
) -> MemoryEstimate:
    """Estimate what a model will take, from the headers of its files alone.

    Args:
        text: header of the text model, checked.
        mmproj: header of the mmproj file, if there is one.
        n_ctx: tokens of context.
        n_batch: rows of one piece of a prefill.
        vision_precision: "int8" or "float", how the vision encoder keeps its matrices.

    Returns:
        The estimate, part by part.
    """
    n_embd, n_ff, n_layer, n_head = (
        int(text.metadata[f"llama.{key}"])
        for key in ("embedding_length", "feed_forward_length", "block_count", "attention.head_count")
    )
    n_head_kv = int(text.metadata.get("llama.attention.head_count_kv", n_head))
    n_padded = (n_ctx + 255) // 256 * 256  # llama.cpp rounds the context up
    kv_cache = 2 * 2 * n_layer * n_padded * (n_embd // n_head) * n_head_kv
    # f32 activations of one piece (input, output and the feed-forward's two halves), the attention mask in f16, 64 rows
    # of logits. PALO-7B's widths: 87 MiB estimated, 60 MiB taken.
    compute = 8 * n_batch * (n_embd + n_ff) + 2 * n_batch * n_padded + 4 * 64 * len(text.tokens) + 16 * _MIB
    return MemoryEstimate(text.size_bytes, kv_cache, compute, _vision_bytes(mmproj, vision_precision))


def _vision_bytes(mmproj: GgufHeader | None, precision: str) -> int:
    """Packed weights (int8 with an f32 scale for 64 of them, or f32) and activations of one image."""
    if mmproj is None:
        return 0
    n_weights = sum(math.prod(tensor.shape) for tensor in mmproj.tensors.values())
    bytes_per_group = 64 + 4 if precision == "int8" else 4 * 64
    return n_weights * bytes_per_group // 64 + 64 * _MIB


def check_memory_fits(estimate: MemoryEstimate, available: int | None, *, n_ctx: int) -> None:
    """Refuse a load that cannot fit, before anything is loaded.

    Args:
        estimate: what it will take.
        available: bytes that can be had; None where the machine does not tell.
        n_ctx: tokens of context that the estimate counts.

    Raises:
        OutOfMemoryError: with the parts and advice.
    """
    if available is None or estimate.total <= available:
        return
    parts = [f"weights {_size(estimate.text)}", f"context of {n_ctx} tokens {_size(estimate.kv_cache)}"]
    parts += [f"buffers {_size(estimate.compute)}", f"vision {_size(estimate.vision)}"]
    raise OutOfMemoryError(
        f"memory: expected {_size(estimate.total)} ({', '.join(parts)}), got {_size(available)} available; "
        f"{_advice(estimate)}"
    )


def _advice(estimate: MemoryEstimate) -> str:
    if estimate.kv_cache > estimate.text:
        return "choose a smaller n_ctx (-c), or close other programs"
    return "choose a smaller quantisation (palo-cpp quantize) or a smaller n_ctx (-c), or close other programs"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.0f} MiB"
