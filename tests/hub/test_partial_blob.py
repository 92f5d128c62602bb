"""The record of what has arrived, after kills, power cuts and damage."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from palo_cpp.errors import DownloadError
from palo_cpp.hub.partial_blob import BlobName, PartialBlob, partials_in

BLOB = BlobName("x", "ab" * 32, 6 << 20)


def partial(folder: Path, boot_id: str = "one", blob: BlobName = BLOB) -> PartialBlob:
    return PartialBlob(folder, blob, boot_id)


def test_a_restart_of_the_machine_counts_what_was_synced(tmp_path):
    with partial(tmp_path) as first:
        first.write(0, b"1" * 1000)
        first.sync()
        first.write(0, b"2" * 1000)
        first.write(2, b"3" * 10)
    with partial(tmp_path) as again:
        assert (again.n_written(), again.front()) == (2010, 2000)
    with partial(tmp_path, boot_id="two") as after:
        assert (after.n_written(), after.front()) == (1000, 1000)
    with partial(tmp_path, boot_id="") as unknown:
        assert unknown.n_written() == 1000
    assert partials_in(tmp_path) == [(BLOB, 1000)]


@pytest.mark.parametrize("damage", ["cut", "garbage", "no data", "short data", "another size", "empty"])
def test_a_damaged_record_starts_again(tmp_path, damage):
    with partial(tmp_path) as first:
        first.write(0, b"1" * 1000)
    data, record = (next(tmp_path.glob(f"*{end}")) for end in (".incomplete", ".parts"))
    if damage == "cut":
        record.write_bytes(record.read_bytes()[:-8])
    elif damage == "garbage":
        record.write_bytes(os.urandom(record.stat().st_size))
    elif damage == "empty":
        record.write_bytes(b"")
    elif damage == "no data":
        data.unlink()
    elif damage == "short data":
        os.truncate(data, 10)
    blob = BlobName("x", "ab" * 32, (6 << 20) + (damage == "another size"))
    with partial(tmp_path, blob=blob) as again:
        assert again.n_written() == 0
        assert again.data_path.stat().st_size == blob.size


def broken_fsync(_file):
    raise OSError("no disk")


def test_what_the_disk_does_not_have_does_not_count_as_synced(tmp_path, monkeypatch):
    with partial(tmp_path) as first:
        first.write(0, b"1" * 1000)
        monkeypatch.setattr(os, "fsync", broken_fsync)
        with pytest.raises(OSError, match="no disk"):
            first.sync()
    monkeypatch.undo()
    with partial(tmp_path, boot_id="two") as after:
        assert after.n_written() == 0


def test_no_file_gets_its_name_before_the_disk_has_it(tmp_path, monkeypatch):
    with partial(tmp_path) as first:
        first.write(0, b"1" * 1000)
        monkeypatch.setattr(os, "fsync", broken_fsync)
        with pytest.raises(OSError, match="no disk"):
            first.publish(tmp_path / "whole")
    assert not (tmp_path / "whole").exists() and first.data_path.exists()


def test_counts_larger_than_a_part_are_cut(tmp_path):
    with partial(tmp_path) as first:
        first._written[1] = 1 << 40
    with partial(tmp_path) as again:
        assert again.missing(1)[0] == again.missing(1)[1]


def test_more_than_a_part_takes_is_refused(tmp_path):
    with partial(tmp_path) as first, pytest.raises(DownloadError, match="more bytes, got"):
        first.write(0, bytes(7 << 20))


def test_an_empty_file(tmp_path):
    with partial(tmp_path, blob=BlobName("x", "ab" * 20, 0)) as empty:
        empty.publish(tmp_path / "done")
    assert [path.name for path in tmp_path.iterdir()] == ["done"]
