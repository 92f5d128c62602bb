"""Files on the hub, read here and there without being fetched."""

from __future__ import annotations

import io
import random

import pytest
from hub_pulls import LARGE, NAME
from local_hub import Fault

from palo_cpp.errors import DownloadError
from palo_cpp.hub import remote_reader
from palo_cpp.hub.remote_file import RemoteFile
from palo_cpp.hub.remote_reader import RemoteReader
from palo_cpp.hub.repository import open_repository
from palo_cpp.hub.speed import measured_speed

BLOCK = remote_reader._BLOCK_BYTES


def reader(path: str = LARGE) -> RemoteReader:
    opened = open_repository(NAME)
    return RemoteReader(RemoteFile(NAME, opened.commit, path), opened.files[path].size)


def test_reads_like_a_file(hub, repository, content):
    chance, expected = random.Random(2), io.BytesIO(content)
    with io.BufferedReader(reader()) as file:
        for _ in range(60):
            place, n = chance.randrange(len(content) + 10), chance.choice([1, 30, 5000, BLOCK + 1])
            assert (file.seek(place), expected.seek(place)) == (place, place)
            assert file.read(n) == expected.read(n)
        assert file.seek(-5, io.SEEK_END) == len(content) - 5
        assert file.read() == content[-5:]
        with pytest.raises(ValueError, match="before the file"):
            file.raw.seek(-1)


def test_blocks_are_kept_for_a_while(hub, repository, monkeypatch):
    monkeypatch.setattr(remote_reader, "_MOST_BLOCKS", 2)
    with reader() as file:
        for place in (0, 10, BLOCK, 0, 2 * BLOCK, 0, BLOCK):
            file.seek(place)
            file.read(1)
    assert hub.n_bytes_served(LARGE) == 4 * BLOCK  # 0, 1, 2, and 1 again, which was used longest ago


def test_small_files_and_empty_ones(hub, repository):
    assert reader("config.json").readall() == b"{}"
    assert reader("empty").readall() == b""


def test_lost_connections_and_busy_hubs_are_tried_again(hub, repository, content):
    hub.faults = [
        Fault("/resolve/", status=503, times=2),
        Fault("/lfs/", cut_after=1000, times=2),
        Fault("/lfs/", status=500, times=1),
    ]
    with reader() as file:
        assert file.read(2000) == content[:2000]
    assert not any(fault.times for fault in hub.faults)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("/lfs/", ignore_range=True), "expected a part of it, got all"),
        (Fault("/resolve/", status=404), "no repository org/name"),
        (Fault("/lfs/", status=503), "cannot answer now; try again later"),
    ],
)
def test_one_sentence(hub, repository, fault, message):
    hub.faults = [fault]
    with reader() as file, pytest.raises(DownloadError, match=message):
        file.read(10)


def test_speed(hub, repository, content):
    opened = open_repository(NAME)
    hub.bytes_per_s = 2_000_000
    assert 1e6 < measured_speed(opened, LARGE) < 4e6
    assert hub.n_bytes_served(LARGE) <= 1 << 20
    assert measured_speed(opened, "empty") is None
    hub.faults = [Fault("/resolve/", status=500)]
    assert measured_speed(opened, LARGE) is None
