"""Names, tokens, redirects, proxies, offline, disks: what a download must not do, and what it says instead."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections import namedtuple

import pytest
from hub_pulls import LARGE, NAME, blobs, pull
from huggingface_hub import constants, hf_hub_download
from local_hub import TOKEN, Fault

from palo_cpp.errors import ArgumentError, DownloadError, PaloError
from palo_cpp.hub.connection import Connections, _check_redirect, _connect
from palo_cpp.hub.partial_blob import partials_in
from palo_cpp.hub.repository import fetch, open_repository

# ---- names


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/x", "a//b", "a\\..\\x", "C:x", "nul\0l", "a/./b", ""])
def test_names_cannot_leave_the_folder(hub, cache, path):
    hub.add(NAME, {path: b"x"})
    with pytest.raises(DownloadError, match="expected a path inside the repository, got one that leads out of it"):
        pull()
    assert not cache.exists() or not list(cache.rglob("*x"))


@pytest.mark.parametrize("name", ["", "org", "../x", "org/..", "a/b/c", "org/na--me", "org/na me", "org/x\n"])
def test_names_of_repositories(hub, name):
    with pytest.raises(ArgumentError, match="repository: expected ORG/NAME"):
        pull(name=name)
    assert hub.requests == []


@pytest.mark.parametrize("revision", ["../x", "/x", "a\0", "a b"])
def test_names_of_revisions(hub, revision):
    with pytest.raises(ArgumentError, match="revision: expected a branch, a tag or a commit"):
        pull(revision=revision)


# ---- who may


def test_gated_and_private(hub, content):
    hub.add("org/gated", {LARGE: content}, gated=True)
    hub.add("org/private", {LARGE: content}, private=True)
    with pytest.raises(DownloadError, match=r"org/gated is gated; accept its terms at .*/org/gated, then set HF_TOKEN"):
        pull(LARGE, name="org/gated")
    with pytest.raises(DownloadError, match=r"is gated; accept its terms at http://[^,]*$"):
        pull(LARGE, name="org/gated", token="hf_no_access")
    with pytest.raises(DownloadError, match=r"no repository org/private; check its name; if it is private, set HF_TOK"):
        pull(LARGE, name="org/private")
    with pytest.raises(DownloadError, match=r"does not accept the token; set HF_TOKEN"):
        pull(LARGE, name="org/private", token="hf_wrong")
    for name in ("org/gated", "org/private"):
        pull(LARGE, name=name, token=TOKEN)


def test_what_is_not_there(hub, repository):
    with pytest.raises(DownloadError, match="org/name has no such revision"):
        pull(LARGE, revision="v9")
    with pytest.raises(DownloadError, match="no repository org/none; check its name"):
        pull(LARGE, name="org/none")
    opened = open_repository(NAME)
    del hub.repositories[NAME].files[LARGE]
    with pytest.raises(DownloadError, match=r"has no such (file|revision)"):
        fetch(opened, [LARGE])


def test_the_token_goes_to_the_endpoint_only(hub, content):
    hub.add(NAME, {LARGE: content, "small": b"x"}, private=True)
    pull(token=TOKEN)
    by_server = {server: [r for r in hub.requests if r.server == server] for server in ("endpoint", "store")}
    assert all(r.headers["authorization"] == f"Bearer {TOKEN}" for r in by_server["endpoint"])
    assert by_server["store"]
    assert not any("authorization" in r.headers for r in by_server["store"])


def test_a_renamed_repository(hub, repository, content):
    hub.repositories["org/old"] = type(repository)(repository.files, moved_to=NAME)
    assert pull(LARGE, name="org/old")[0].read_bytes() == content


def test_no_redirect_from_https_to_http():
    _check_redirect("https://a/x", "https://b/x")
    _check_redirect("http://a/x", "https://b/x")
    with pytest.raises(DownloadError, match="expected a redirect to https, got http://a/x"):
        _check_redirect("https://a/x", "http://a/x")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://x/y"])
def test_redirects_to_other_schemes(hub, repository, target):
    hub.faults = [Fault("/lfs/", redirect=target)]
    with pytest.raises(DownloadError, match="expected an address that begins with https://"):
        pull(LARGE)


def test_circles_of_redirects_end(hub, repository):
    hub.faults = [Fault("/lfs/", redirect=f"{hub.store}/lfs/again")]
    with pytest.raises(DownloadError, match="more than 5 redirects"):
        pull(LARGE)


def test_proxies(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://user:p%40ss@proxy.test:3128")
    monkeypatch.setenv("https_proxy", "proxy.test:3128")
    monkeypatch.setenv("no_proxy", "127.0.0.1,inside.test")
    plain = _connect(("http", "models.test", 80))
    assert (plain.connection.host, plain.connection.port) == ("proxy.test", 3128)
    assert plain.target("http://models.test/x?y") == "http://models.test/x?y"
    assert plain.headers == {"Proxy-Authorization": "Basic dXNlcjpwQHNz"}
    tunnel = _connect(("https", "models.test", 443))
    assert (tunnel.connection.host, tunnel.target("https://models.test/x")) == ("proxy.test", "/x")
    assert _connect(("http", "inside.test", 80)).connection.host == "inside.test"


def test_a_proxy_carries_a_download(hub, repository, monkeypatch):
    monkeypatch.setenv("http_proxy", hub.endpoint)  # a server that is asked for whole addresses
    with Connections("http://models.test", None) as connections:
        connections.head("http://models.test/org/name/resolve/main/config.json")
    assert hub.requests[-1].path == "http://models.test/org/name/resolve/main/config.json"


# ---- offline


def test_offline_opens_no_socket(hub, repository, monkeypatch):
    pull()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def no_socket(*_args, **_kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", no_socket)
    monkeypatch.setattr(socket, "create_connection", no_socket)
    monkeypatch.setattr(socket, "getaddrinfo", no_socket)
    with pytest.raises(DownloadError, match="org/name: could not be fetched: HF_HUB_OFFLINE is set"):
        pull()
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set"), Connections(hub.endpoint, None) as connections:
        connections.get(hub.endpoint)


# ---- disk


def test_free_disk_is_checked_first(hub, cache, repository, monkeypatch):
    usage = namedtuple("usage", "total used free")(10, 5, 1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)
    with pytest.raises(
        DownloadError, match=r"expected 0\.0 GiB of free space, got 0\.0 GiB; free some, or set HF_HOME"
    ):
        pull(LARGE)
    assert hub.n_bytes_served() == 0


def test_a_full_disk_keeps_what_came(hub, cache, repository, content, monkeypatch):
    real, n_left = os.pwrite, [2_000_000]

    def pwrite(descriptor, data, at):
        n_left[0] -= len(data)
        if n_left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(DownloadError, match="No space left on device; free some space and pull it again, what has"):
        pull(LARGE)
    monkeypatch.setattr(os, "pwrite", real)
    [(_, n_here)] = partials_in(blobs(cache))
    assert n_here > 1_000_000
    served = hub.n_bytes_served()
    assert pull(LARGE)[0].read_bytes() == content
    assert hub.n_bytes_served() - served == len(content) - n_here


def test_a_cache_that_cannot_be_written(hub, cache, repository):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file")
    with pytest.raises(PaloError, match="could not be made a folder"):
        pull(LARGE)


def test_systems_without_links(hub, cache, repository, content, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    path = pull(LARGE)[0]
    assert path.read_bytes() == content
    assert not path.is_symlink()
    served = hub.n_bytes_served()
    assert pull(LARGE) == [path]
    assert hf_hub_download(NAME, LARGE, local_files_only=True) == str(path)
    assert hub.n_bytes_served() == served
