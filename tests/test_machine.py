"""Cores and memory that this process may use, on machines made of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from palo_cpp import machine

MIB = 1 << 20


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def topology(siblings: list[str]) -> dict[str, str]:
    folder = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    return {folder.format(i): f"{text}\n" for i, text in enumerate(siblings)}


EIGHT_THREADS = topology(["0,4", "1,5", "2,6", "3,7"] * 2)


def test_hyper_threads_count_once(tmp_path):
    root = write(tmp_path, EIGHT_THREADS)
    assert machine.n_physical_cores(root, frozenset(range(8))) == 4


def test_affinity_counts(tmp_path):
    root = write(tmp_path, EIGHT_THREADS)
    assert machine.n_physical_cores(root, frozenset({0, 4})) == 1
    assert machine.n_physical_cores(root, frozenset({0, 1, 5})) == 2


def test_without_topology_each_cpu_is_a_core(tmp_path):
    assert machine.n_physical_cores(tmp_path, frozenset(range(3))) == 3


@pytest.mark.parametrize(
    ("cpu_max", "n_cores"),
    [("max 100000", 4), ("200000 100000", 2), ("250000 100000", 2), ("50000 100000", 1), ("nonsense", 4), ("", 4)],
)
def test_quota_of_control_groups_v2(tmp_path, cpu_max, n_cores):
    groups = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{cpu_max}\n"}
    root = write(tmp_path, EIGHT_THREADS | groups)
    assert machine.n_physical_cores(root, frozenset(range(8))) == n_cores


@pytest.mark.parametrize("reading", ["cpu_capacity", "cpufreq/cpuinfo_max_freq"])
@pytest.mark.parametrize(("slow", "n_cores"), [(1024, 4), (512, 4), (256, 4), (255, 2), (0, 4)])
def test_far_slower_cores_are_left_out(tmp_path, reading, slow, n_cores):
    speeds = {f"sys/devices/system/cpu/cpu{i}/{reading}": f"{(1024, slow)[i % 2]}\n" for i in range(4)}
    root = write(tmp_path, topology(["0", "1", "2", "3"]) | speeds)
    assert machine.n_physical_cores(root, frozenset(range(4))) == n_cores


def test_slow_cores_alone_are_used(tmp_path):
    speeds = {f"sys/devices/system/cpu/cpu{i}/cpu_capacity": f"{(1024, 100)[i > 1]}" for i in range(4)}
    assert machine.n_physical_cores(write(tmp_path, speeds), frozenset({2, 3})) == 2


def test_the_tightest_of_nested_groups_counts(tmp_path):
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/system.slice/job.service\n",
            "sys/fs/cgroup/system.slice/cpu.max": "150000 100000",
            "sys/fs/cgroup/system.slice/job.service/cpu.max": "max 100000",
        },
    )
    assert machine.cpu_quota(root) == 1.5


def test_quota_of_control_groups_v1(tmp_path):
    groups = {
        "proc/self/cgroup": "12:memory:/docker/a\n4:cpu,cpuacct:/docker/a\n",
        "sys/fs/cgroup/cpu/docker/a/cpu.cfs_quota_us": "300000",
        "sys/fs/cgroup/cpu/docker/a/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
    }
    root = write(tmp_path, EIGHT_THREADS | groups)
    assert machine.cpu_quota(root) == 3.0
    assert machine.n_physical_cores(root, frozenset(range(8))) == 3


def test_this_machine():
    n = machine.n_physical_cores()
    assert 1 <= n <= (os.cpu_count() or 1)
    total, available = machine.memory_total(), machine.memory_available()
    assert total is not None and available is not None
    assert 0 < available <= total


MEMINFO = "MemTotal:       16000 kB\nMemFree:        1000 kB\nMemAvailable:    8000 kB\n"


def test_memory_of_the_machine(tmp_path):
    root = write(tmp_path, {"proc/meminfo": MEMINFO})
    assert machine.memory_total(root) == 16000 * 1024
    assert machine.memory_available(root) == 8000 * 1024


def test_memory_of_a_container_v2(tmp_path):
    root = write(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": "4000000",
            "sys/fs/cgroup/memory.current": "3500000",
            "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 1000000\n",
        },
    )
    assert machine.memory_total(root) == 4_000_000
    assert machine.memory_available(root) == 1_500_000  # the file cache can be given back


@pytest.mark.parametrize("limit", ["max", "9223372036854771712", ""])
def test_memory_without_a_limit(tmp_path, limit):
    root = write(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "5:memory:/a\n",
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes": limit,
        },
    )
    assert machine.memory_available(root) == 8000 * 1024


def test_memory_of_a_container_v1(tmp_path):
    root = write(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "5:memory:/a\n",
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "2000000",
            "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "1500000",
            "sys/fs/cgroup/memory/a/memory.stat": "total_inactive_file 100000\n",
        },
    )
    assert machine.memory_available(root) == 600_000
