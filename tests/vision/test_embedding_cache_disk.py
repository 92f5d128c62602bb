"""Embeddings kept in a folder: the format, damage, bounds, folders that cannot be used, several processes."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import stat
import time
from pathlib import Path

import numpy as np
import pytest
from cached_embeddings import ENTRY_BYTES, SHAPE, Images, entries, hammer, key_of, mib, rows_of

from palo_cpp.vision.embedding_cache import EmbeddingCache


@pytest.fixture
def images() -> Images:
    return Images()


def test_another_process_finds_what_this_one_kept(images, tmp_path):
    folder = tmp_path / "not" / "there yet"
    images.see(EmbeddingCache(folder), "a")
    later = EmbeddingCache(str(folder), memory_mib=0)
    assert images.see(later, "a") and images.see(later, "a")
    assert images.encoded == ["a"]
    assert [path.name for path in folder.iterdir()] == [f"{key_of('a')}.features"]


def test_a_hit_on_disk_is_kept_in_memory(images, tmp_path):
    images.see(EmbeddingCache(tmp_path), "a")
    later = EmbeddingCache(tmp_path)
    assert images.see(later, "a")
    entries(tmp_path)[0].unlink()
    assert images.see(later, "a")


def test_others_may_not_read_what_images_showed(images, tmp_path):
    images.see(EmbeddingCache(tmp_path / "cache"), "a")
    if os.name == "posix":
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "cache", *entries(tmp_path / "cache"))]
        assert modes == [0o700, 0o600]


def test_the_format_is_what_its_description_says(tmp_path):
    EmbeddingCache(tmp_path).put(key_of("a"), rows_of("a"))
    data = entries(tmp_path)[0].read_bytes()
    assert len(data) == ENTRY_BYTES and data[:8] == b"PALOFEAT"
    assert np.frombuffer(data, "<u4", 4, 8).tolist() == [1, 0, *SHAPE]
    assert data[24:56].hex() == key_of("a")
    assert np.array_equal(np.frombuffer(data, "<f4", offset=128).reshape(SHAPE), rows_of("a"))
    assert np.array_equal(np.memmap(entries(tmp_path)[0], "<f4", "r", 128, SHAPE), rows_of("a"))


def test_values_that_are_no_numbers_come_back_bit_for_bit(tmp_path):
    odd = np.array([[np.nan, -0.0, np.inf, 1e-45]], np.float32)
    EmbeddingCache(tmp_path).put(key_of("odd"), odd)
    known = EmbeddingCache(tmp_path).get(key_of("odd"), (1, 4))
    assert known is not None and known.tobytes() == odd.tobytes()


def damaged_is_written_anew(images: Images, folder: Path, damaged: bytes) -> None:
    path = folder / f"{key_of('a')}.features"
    path.write_bytes(damaged)
    assert not images.see(EmbeddingCache(folder, memory_mib=0), "a")
    assert images.see(EmbeddingCache(folder, memory_mib=0), "a")


def test_every_byte_of_header_and_data_is_guarded(images, tmp_path):
    images.see(EmbeddingCache(tmp_path), "a")
    whole = entries(tmp_path)[0].read_bytes()
    cache = EmbeddingCache(tmp_path, memory_mib=0)
    for at in [*range(128), *range(128, ENTRY_BYTES, 97), ENTRY_BYTES - 1]:
        data = bytearray(whole)
        data[at] ^= 1 << at % 8
        entries(tmp_path)[0].write_bytes(data)
        assert cache.get(key_of("a"), SHAPE) is None, at
    damaged_is_written_anew(images, tmp_path, bytes(data))


def test_larger_damage_is_found(images, tmp_path):
    images.see(EmbeddingCache(tmp_path), "a")
    whole = entries(tmp_path)[0].read_bytes()
    header, data = whole[:128], whole[128:]
    for other in (
        header + bytes(len(data)),
        header + b"\xff" * len(data),
        header + data[:4096] + bytes(4096) + data[8192:],  # a lost page
        header + data[4:] + data[:4],
        header + data[::-1],
        header + data[8:16] + data[:8] + data[16:],  # two words of one row change places
        header + data[8192:8200] + data[8:8192] + data[:8] + data[8200:],  # one from the table and one from the rest
        bytes(len(whole)),
        data[:128] + data,
    ):
        damaged_is_written_anew(images, tmp_path, other)


def test_rows_that_change_places_are_found(tmp_path):
    """Rows of the checksum's table, whose sums over columns stay."""
    shape = (16, 256)
    EmbeddingCache(tmp_path).put(key_of("a"), rows_of("a", shape))
    path = entries(tmp_path)[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:128] + whole[128 + 8192 :] + whole[128 : 128 + 8192])
    assert EmbeddingCache(tmp_path).get(key_of("a"), shape) is None


def test_truncated_and_lengthened_entries(images, tmp_path):
    images.see(EmbeddingCache(tmp_path), "a")
    whole = entries(tmp_path)[0].read_bytes()
    for n in (0, 1, 127, 128, 129, ENTRY_BYTES // 2, ENTRY_BYTES - 1):
        damaged_is_written_anew(images, tmp_path, whole[:n])
    damaged_is_written_anew(images, tmp_path, whole + b"\0")


def test_an_entry_under_a_wrong_name_is_foreign(images, tmp_path):
    images.see(EmbeddingCache(tmp_path), "b")
    damaged_is_written_anew(images, tmp_path, entries(tmp_path)[0].read_bytes())


def test_another_shape_is_foreign(tmp_path):
    EmbeddingCache(tmp_path).put(key_of("a"), rows_of("a"))
    for shape in ((300, 9), (18, 150), (9, 299), (1, 2700)):
        assert EmbeddingCache(tmp_path).get(key_of("a"), shape) is None


@pytest.mark.parametrize("kind", ["folder", "pipe", "huge file", "dangling link"])
def test_what_is_no_entry_is_not_read(images, tmp_path, kind):
    path = tmp_path / f"{key_of('a')}.features"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)  # reading it would wait forever
    elif kind == "huge file":
        with path.open("wb") as file:
            file.truncate(1 << 40)  # all hole: takes no space
    else:
        path.symlink_to(tmp_path / "nowhere")
    assert not images.see(EmbeddingCache(tmp_path), "a")


# ---- bounds on disk


def test_disk_use_is_bounded_and_the_least_recently_used_go_first(images, tmp_path):
    cache = EmbeddingCache(tmp_path, memory_mib=0, disk_mib=mib(8))
    for age, name in enumerate("hgfedcba"):
        images.see(cache, name)
        moment = time.time() - 100 - age
        os.utime(tmp_path / f"{key_of(name)}.features", (moment, moment))
    assert images.see(cache, "a")  # the oldest, used now
    images.see(cache, "i")
    assert {path.stem for path in entries(tmp_path)} == {key_of(name) for name in "defghai"}  # seven eighths
    for i in range(20):
        images.see(cache, f"image {i}")
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 8 * ENTRY_BYTES


def test_the_folder_is_looked_at_again_before_it_can_be_full(images, tmp_path, monkeypatch):
    looks, scandir = [], os.scandir
    cache = EmbeddingCache(tmp_path, memory_mib=0, disk_mib=mib(100))
    monkeypatch.setattr("palo_cpp.vision.embedding_cache.os.scandir", lambda folder: looks.append(1) or scandir(folder))
    for i in range(300):
        images.see(cache, f"image {i}")
        assert len(list(tmp_path.iterdir())) <= 100
    assert len(looks) < 80  # observed 64


def test_an_entry_larger_than_the_folder_may_be_is_not_written(images, tmp_path):
    cache = EmbeddingCache(tmp_path / "cache", disk_mib=mib(0.9))
    assert not images.see(cache, "a") and images.see(cache, "a")
    assert not (tmp_path / "cache").exists()


def test_only_files_of_the_cache_are_removed(images, tmp_path):
    others = [tmp_path / name for name in ("photo.jpg", "a.features", ".notes.part", f"{'0' * 64}.features.bak")]
    for other in others:
        other.write_bytes(bytes(10 * ENTRY_BYTES))
        os.utime(other, (0, 0))
    cache = EmbeddingCache(tmp_path, disk_mib=mib(1))
    for name in "abc":
        images.see(cache, name)
    assert all(other.exists() for other in others)
    assert {path.stem for path in entries(tmp_path)} == {key_of("c"), "a"}


def test_what_a_dead_writer_left_is_removed_and_what_a_live_one_writes_is_not(images, tmp_path):
    dead, live = (tmp_path / f".{'0' * 64}.{name}.part" for name in ("dead", "live"))
    for path in (dead, live):
        path.write_bytes(b"half")
    os.utime(dead, (0, 0))
    images.see(EmbeddingCache(tmp_path), "a")
    assert not dead.exists() and live.exists()


# ---- folders that cannot be used


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_folder_that_cannot_be_made_is_one_warning(images, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    cache = EmbeddingCache(tmp_path / "file" / "cache", memory_mib=0)
    assert [images.see(cache, name) for name in "aab"] == [False] * 3
    [warning] = warnings_in(caplog)
    assert warning.startswith(f"embedding cache: {tmp_path / 'file' / 'cache'} cannot be ")
    assert warning.endswith("images are encoded again each time")


def test_a_folder_without_permission_is_one_warning(images, tmp_path, caplog, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)  # a mode would not stop root, as whom many tests run
    cache = EmbeddingCache(tmp_path)
    assert [images.see(cache, name) for name in "abc"] == [False] * 3
    assert images.see(cache, "a")  # memory works on
    assert len(warnings_in(caplog)) == 1 and "Permission denied" in warnings_in(caplog)[0]


def test_a_full_disk_leaves_no_partial_file(images, tmp_path, caplog, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    assert not images.see(EmbeddingCache(tmp_path), "a")
    assert list(tmp_path.iterdir()) == [] and len(warnings_in(caplog)) == 1


def test_a_folder_that_vanishes_is_made_again(images, tmp_path, caplog):
    cache = EmbeddingCache(tmp_path / "cache", memory_mib=0)
    images.see(cache, "a")
    shutil.rmtree(tmp_path / "cache")
    assert not images.see(cache, "a") and images.see(cache, "a")
    assert warnings_in(caplog) == []


# ---- several processes


def test_processes_may_share_a_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    failures = context.Queue()
    processes = [context.Process(target=hammer, args=(str(tmp_path), seed, failures)) for seed in (1, 2)]
    for process in processes:
        process.start()
    assert [failures.get(timeout=60) for _ in processes] == [None, None]
    for process in processes:
        process.join()
    assert all(len(path.read_bytes()) == ENTRY_BYTES for path in entries(tmp_path))
    assert 1 <= len(entries(tmp_path)) <= 5  # four, and one more where both wrote at once
    assert len(list(tmp_path.iterdir())) == len(entries(tmp_path))
