"""The short measurement: everything is positive, nothing is left behind. No time is asserted."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from palo_cpp.bench import machine_speed, noise
from palo_cpp.bench.machine_speed import _Step, measure_speed
from palo_cpp.models.recommendation import MachineSpeed


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(machine_speed.tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_measures_every_part_and_removes_its_files(folder):
    said: list[str] = []
    found = measure_speed(("q4_0", "q8_0"), n_threads=1, report=said.append)
    assert found.n_threads == 1 and found.isa
    assert set(found.prefill) == set(found.decode) == {"q4_0", "q8_0"}
    assert min(found.read, found.encode, *found.prefill.values(), *found.decode.values()) > 0
    assert 0 <= found.layer_s <= 0.3e-3
    assert said[:3] == ["timing the vision encoder", *said[1:3]] and "q8_0" in said[2]
    assert list(folder.iterdir()) == []


def test_without_our_backend_single_tokens_say_how_fast_memory_is(monkeypatch):
    monkeypatch.setattr(noise.Noise, "is_noisy", False)
    monkeypatch.setattr(machine_speed, "read_speed", lambda *_: None)
    found = measure_speed(("q4_0",), n_threads=1)
    assert found.read == found.decode["q4_0"]
    assert found.layer_s == 0


def test_little_memory_is_read_where_little_is_available(monkeypatch):
    asked: list[int] = []
    monkeypatch.setattr(machine_speed, "read_speed", lambda n_bytes, _: asked.append(n_bytes) or 1e9)
    for available, n_bytes in ((None, 256 << 20), (8 << 30, 256 << 20), (400 << 20, 100 << 20)):
        monkeypatch.setattr(machine_speed, "memory_available", lambda available=available: available)
        assert machine_speed._read_speed(1) == 1e9
        assert asked[-1] == n_bytes


@pytest.mark.parametrize(
    ("elapsed_s", "read", "layer_s"),
    [
        (0.0024, 2e9, 0.0002),  # two layers wait for 0.4 ms beyond the 2 ms of a plain read
        (0.0010, 2e9, 0.0),  # from a cache
        (0.0500, 2e9, 0.0003),  # arithmetic takes the rest
        (0.0024, None, 0.0),
    ],
)
def test_what_a_layer_waits(elapsed_s, read, layer_s):
    assert _Step(4_000_000, elapsed_s).layer_s(read) == pytest.approx(layer_s)


def test_where_others_are_busy_one_thread_speaks_for_all(monkeypatch):
    slow = MachineSpeed("avx2", 4, 8e9, 10.0, {"q4_0": 10.0}, {"q4_0": 500.0}, layer_s=0.1)
    alone = MachineSpeed("avx2", 1, 6e9, 10.0, {"q4_0": 10.0}, {"q4_0": 10.0}, layer_s=0.1)
    asked: list[tuple[int, object]] = []

    def measured(_outtypes, n_threads, clock, _read, _report):
        asked.append((n_threads, clock))
        return alone if n_threads == 1 else slow

    monkeypatch.setattr(machine_speed, "_measured", measured)
    monkeypatch.setattr(machine_speed, "_read_speed", lambda _: 8e9)
    monkeypatch.setattr(noise.Noise, "is_noisy", True)
    found = measure_speed(("q4_0",), n_threads=4)
    assert asked == [(4, time.perf_counter), (1, time.thread_time)]
    assert found.is_noisy and found.n_threads == 4 and found.layer_s == 0.15e-3
    assert found.encode == found.prefill["q4_0"] == pytest.approx(4 * 0.94 * 10)
    assert found.decode["q4_0"] == 500.0  # what was reached in spite of others
    assert found.read == pytest.approx(1.75 * 6e9)


def test_where_nobody_is_busy_one_measurement_is_enough(monkeypatch):
    quiet = MachineSpeed("avx2", 2, 8e9, 10.0, {"q4_0": 10.0}, {"q4_0": 10.0})
    monkeypatch.setattr(machine_speed, "_measured", lambda *_: quiet)
    monkeypatch.setattr(machine_speed, "_read_speed", lambda _: 8e9)
    monkeypatch.setattr(noise.Noise, "is_noisy", False)
    assert measure_speed(n_threads=2) is quiet


def test_one_thread_reads_by_its_own_clock():
    assert 1e8 < machine_speed._read_speed_alone() < 1e12
