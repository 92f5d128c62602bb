"""Files from the hub into the cache: whole, right, and only as much as is missing."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hub_pulls import LARGE, NAME, blobs, interrupt, pull
from hub_repository import HubFile
from huggingface_hub import constants, hf_hub_download, scan_cache_dir
from local_hub import Fault

from palo_cpp.errors import DownloadError
from palo_cpp.hub import refusals
from palo_cpp.hub.repository import Repository, fetch, open_repository

# ---- what comes


def test_files_land_where_the_hubs_library_finds_them(hub, cache, repository):
    paths = pull()
    for path, (name, file) in zip(paths, repository.files.items(), strict=True):
        assert path.read_bytes() == file.content
        assert hf_hub_download(NAME, name, local_files_only=True) == str(path)
        assert path.resolve() == blobs(cache) / file.etag
    scanned = scan_cache_dir(cache)
    assert not scanned.warnings
    assert {each.file_name for repo in scanned.repos for r in repo.revisions for each in r.files} == {
        Path(name).name for name in repository.files
    }
    assert sorted(path.name for path in blobs(cache).iterdir()) == sorted({f.etag for f in repository.files.values()})
    assert hub.n_bytes_served() == sum(file.size for file in repository.files.values())


def test_its_library_finds_nothing_to_do(hub, repository):
    pull()
    served = hub.n_bytes_served()
    hf_hub_download(NAME, LARGE)
    pull()
    assert hub.n_bytes_served() == served


def test_what_its_library_fetched_is_not_fetched_again(hub, repository):
    hf_hub_download(NAME, LARGE)
    served = hub.n_bytes_served()
    assert pull(LARGE)[0].read_bytes() == repository.files[LARGE].content
    assert hub.n_bytes_served() == served


def test_a_next_commit_fetches_what_changed(hub, repository):
    pull()
    served = hub.n_bytes_served()
    hub.add(NAME, {**repository.files, "config.json": b'{"new": 1}'})
    assert pull("config.json", LARGE)[0].read_bytes() == b'{"new": 1}'
    assert hub.n_bytes_served() == served + 10


def test_progress_goes_up_to_the_whole(hub, repository, content):
    hub.bytes_per_s = 4e6
    seen = []
    opened = open_repository(NAME)
    fetch(opened, ("config.json", LARGE), seen.append)
    assert [each.n_bytes_done for each in seen] == sorted(each.n_bytes_done for each in seen)
    assert {each.n_bytes for each in seen} == {2 + len(content)}
    assert seen[-1].n_bytes_done == 2 + len(content)
    assert len(seen) > 4


def test_ranges_come_over_several_connections(hub, repository):
    pull(LARGE)
    asked = [request.headers.get("range") for request in hub.requests if request.server == "store"]
    assert len(asked) == 4
    assert all(asked)


def test_connections_are_kept(hub, repository, content, monkeypatch):
    monkeypatch.setattr("palo_cpp.hub.partial_blob._LARGEST_PART", 1 << 18)
    monkeypatch.setattr("palo_cpp.hub.download.N_CONNECTIONS", 1)
    opened, connect = [], http.client.HTTPConnection.connect
    monkeypatch.setattr(http.client.HTTPConnection, "connect", lambda self: (opened.append(self.host), connect(self)))
    assert pull(LARGE)[0].read_bytes() == content
    assert len([request for request in hub.requests if request.server == "store"]) > 3
    assert opened.count("localhost") == 1


# ---- what does not come


def test_a_lost_connection_goes_on_where_it_was(hub, repository, content):
    hub.faults = [Fault("/lfs/", cut_after=100_000, times=20)]
    assert pull(LARGE)[0].read_bytes() == content
    assert hub.n_bytes_served() == len(content)


def test_the_next_pull_goes_on_where_the_last_stopped(hub, repository, content):
    interrupt(hub)
    served = hub.n_bytes_served()
    assert served > 1_000_000
    assert pull(LARGE)[0].read_bytes() == content
    assert hub.n_bytes_served() == len(content)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_hubs_are_asked_again(hub, repository, content, status):
    hub.faults = [
        Fault("/api/models", status=status, times=2, headers={"Retry-After": "0"}),
        Fault("/resolve/", status=status, times=2, methods=("HEAD",)),
        Fault("/lfs/", status=status, times=3),
    ]
    assert pull(LARGE)[0].read_bytes() == content


def test_the_wait_is_as_long_as_told(hub, repository):
    hub.faults = [Fault("/lfs/", status=429, times=1, headers={"Retry-After": "1"})]
    before = time.monotonic()
    pull(LARGE)
    assert time.monotonic() - before >= 1


def test_a_wait_of_an_hour_is_an_error(hub, repository):
    hub.faults = [Fault("/api/", status=429, headers={"Retry-After": "3600"})]
    with pytest.raises(DownloadError, match=r"429: it limits the rate of requests, which asks to wait 3600 s; try"):
        pull(LARGE)


def test_waits_grow_and_end():
    retries = refusals.Retries("x")
    with pytest.raises(DownloadError, match="x: could not be fetched: lost; try again later"):
        for _ in range(9):
            assert retries.wait_s(refusals.TemporaryFailureError("lost")) < 31


def test_a_date_to_wait_for():
    import email.utils

    assert 50 < refusals.wait_asked_for(email.utils.formatdate(time.time() + 60, usegmt=True)) <= 61
    assert refusals.wait_asked_for("12") == 12
    assert refusals.wait_asked_for("soon") is refusals.wait_asked_for(None) is None


def test_an_expired_address_is_asked_for_again(hub, repository, content):
    hub.faults = [Fault("/lfs/", status=403, times=1)]
    assert pull(LARGE)[0].read_bytes() == content
    assert len([r for r in hub.requests if r.method == "HEAD"]) == 2


def test_a_store_without_ranges(hub, repository, content):
    hub.faults = [Fault("/lfs/", ignore_range=True)]
    assert pull(LARGE)[0].read_bytes() == content


def test_a_store_without_ranges_that_cuts(hub, repository, content):
    hub.faults = [Fault("/lfs/", ignore_range=True, cut_after=3_000_000, times=6), Fault("/lfs/", ignore_range=True)]
    assert pull(LARGE)[0].read_bytes() == content


def test_a_stalled_connection_is_given_up(hub, repository, content, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    hub.faults = [Fault("/lfs/", stall_s=1.0, times=2)]
    assert pull(LARGE)[0].read_bytes() == content


def test_no_hub_at_all(hub, repository, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(DownloadError, match=r"org/name: could not be fetched: .* cannot be reached"):
        pull(LARGE)


# ---- what comes wrong


def test_a_wrong_hash_names_both_and_removes_the_bytes(hub, cache, content):
    hub.add(NAME, {LARGE: HubFile(content, said_sha256="0" * 64)})
    with pytest.raises(DownloadError, match=rf"expected content with hash {'0' * 64}, got [0-9a-f]{{64}}; "):
        pull(LARGE)
    assert list(blobs(cache).iterdir()) == []


def test_a_changed_bit_of_a_small_file_is_found(hub, cache, repository):
    hub.faults = [Fault("b c.txt", change=lambda data: bytes([data[0] ^ 1]) + data[1:])]
    etag = repository.files["a/b c.txt"].blob_id
    with pytest.raises(DownloadError, match=f"expected content with hash {etag}, got [0-9a-f]{{40}}; what came was"):
        pull("a/b c.txt")
    assert list(blobs(cache).iterdir()) == []
    hub.faults = []
    pull("a/b c.txt")


@pytest.mark.parametrize("difference", [-1000, 1000, -6_000_000 + 12345])
def test_a_lie_about_the_size(hub, cache, content, difference):
    size = max(1, len(content) + difference)
    hub.add(NAME, {LARGE: HubFile(content, said_size=size)})
    with pytest.raises(DownloadError, match=f"expected {size} bytes as the hub says, got a file of"):
        pull(LARGE)
    assert list(blobs(cache).iterdir()) == []


def test_a_file_that_changed_starts_again_and_says_so(hub, repository, content, caplog):
    interrupt(hub)
    hub.add(NAME, {**repository.files, LARGE: content[::-1]})
    assert pull(LARGE)[0].read_bytes() == content[::-1]
    assert "large.bin has changed on the hub: its download starts again" in caplog.text


def test_a_hub_without_hashes(hub, repository):
    hub.faults = [Fault("/resolve/", redirect=f"{hub.endpoint}/nowhere", methods=("HEAD",))]
    with pytest.raises(DownloadError, match="could not be fetched: "):
        pull(LARGE)


# ---- two at once


def test_two_processes_share_one_download(hub, repository, content):
    hub.bytes_per_s = 1.5e6
    code = (
        "from palo_cpp.hub.repository import *\n"
        f"repository = open_repository('{NAME}')\n"
        f"print(fetch(repository, ['{LARGE}'])[0].stat().st_size)"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=100)[0].strip() for process in both] == [str(len(content))] * 2
    assert hub.n_bytes_served() == len(content)


def test_two_threads_share_one_download(hub, repository, content):
    hub.bytes_per_s = 4e6
    threads = [threading.Thread(target=pull, args=(LARGE,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hub.n_bytes_served() == len(content)


def test_repository_counts_what_is_missing(hub, repository, content):
    opened: Repository = open_repository(NAME)
    assert opened.n_bytes_missing([LARGE, "config.json"]) == len(content) + 2
    interrupt(hub)
    assert 0 < opened.n_bytes_missing([LARGE]) < len(content)
    pull(LARGE)
    assert opened.n_bytes_missing([LARGE, "config.json"]) == 2
