"""A repository on the hub: its files at one commit, and bringing some of them into the cache."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from palo_cpp.errors import DownloadError
from palo_cpp.hub.cache import DEFAULT_REVISION, CachedRepository, check_commit, check_path, check_revision, check_room
from palo_cpp.hub.download import download
from palo_cpp.hub.hashing import is_hash
from palo_cpp.hub.partial_blob import partials_in, remove_partial
from palo_cpp.hub.refusals import TemporaryFailureError, check_status, refusal
from palo_cpp.hub.remote_file import FileChangedError, Located, RemoteFile, with_retries
from palo_cpp.hub.settings import cache_folder, check_online, endpoint, timeout_s, token_or_none

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

_log = logging.getLogger("palo_cpp")
_MOST_RESTARTS = 3
_MARGIN_BYTES = 16 << 20

# Nothing has begun yet, and perhaps a folder was meant: somebody waits for the sentence.
_TRIES_AT_FIRST = 3


@dataclass(frozen=True)
class FileInfo:
    """A file as the hub lists it.

    Attributes:
        path: in the repository.
        size: bytes.
        etag: its hash: SHA-256 of large files, git's of others; "" where the list has none.
    """

    path: str
    size: int
    etag: str


@dataclass(frozen=True)
class Repository:
    """A repository at one commit.

    Attributes:
        cached: its place in the cache.
        revision: what was asked for.
        commit: what that is now.
        files: by path.
        token: of the user, if any.
    """

    cached: CachedRepository
    revision: str
    commit: str
    files: dict[str, FileInfo]
    token: str | None

    @property
    def name(self) -> str:
        """ORG/NAME."""
        return self.cached.name

    def n_bytes_missing(self, paths: Iterable[str]) -> int:
        """Bytes that are still to be fetched for these files."""
        here = {blob.etag: n for blob, n in partials_in(self.cached.blobs)}
        wanted = (self.files[path] for path in paths)
        return sum(each.size - here.get(each.etag, 0) for each in wanted if not self.has(each.path))

    def has(self, path: str) -> bool:
        """Whether the cache has a file of this commit."""
        etag = self.files[path].etag
        return self.cached.path(self.commit, path).exists() or bool(etag and self.cached.blob(etag).exists())


@dataclass(frozen=True)
class DownloadProgress:
    """How far a download of several files is.

    Attributes:
        path: the file that comes now.
        n_bytes_file: of it.
        n_bytes_file_done: of it.
        n_bytes: of all files, those that were there before included.
        n_bytes_done: of all files.
    """

    path: str
    n_bytes_file: int
    n_bytes_file_done: int
    n_bytes: int
    n_bytes_done: int


DownloadCallback = Callable[[DownloadProgress], None]


def open_repository(
    name: str,
    revision: str | None = None,
    *,
    download_root: str | Path | None = None,
    token: str | bool | None = None,
) -> Repository:
    """List the files of a repository.

    Args:
        name: ORG/NAME.
        revision: branch, tag or commit; None is `main`.
        download_root: folder of the cache; None is the hub's own.
        token: of the user; None takes the one of HF_TOKEN or `hf auth login`, False none.

    Raises:
        ArgumentError: the name or the revision has not the form of one.
        DownloadError: offline, or the hub refuses or cannot be reached.
    """
    cached = CachedRepository(cache_folder(download_root), name)
    revision = revision or DEFAULT_REVISION
    check_revision(revision)
    check_online(name)
    token = token_or_none(token)
    info = with_retries(name, lambda: _ask(name, revision, token))
    check_commit(info.sha or "")
    return Repository(cached, revision, info.sha or "", _files(info), token)


def _ask(name: str, revision: str, token: str | None) -> ModelInfo:
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api = HfApi(endpoint=endpoint(), token=token or False)
        return api.model_info(name, revision=revision, files_metadata=True, timeout=timeout_s())
    except HfHubHTTPError as error:
        headers, status = error.response.headers, error.response.status_code
        check_status(status, headers.get("Retry-After"), name)
        raise refusal(status, headers.get("X-Error-Code"), name, name, has_token=token is not None) from error
    except (httpx2.HTTPError, OSError) as error:
        raise TemporaryFailureError(
            f"{endpoint()} cannot be reached ({error})",
            most_tries=_TRIES_AT_FIRST,
            fix="check the connection, or the path if a folder was meant",
        ) from error


def _files(info: ModelInfo) -> dict[str, FileInfo]:
    files = {}
    for each in info.siblings or ():
        check_path(each.rfilename)
        etag = (each.lfs.sha256 if each.lfs else each.blob_id) or ""
        files[each.rfilename] = FileInfo(each.rfilename, each.size or 0, etag if is_hash(etag) else "")
    return files


def fetch(repository: Repository, paths: Iterable[str], progress: DownloadCallback | None = None) -> list[Path]:
    """Bring files of a repository into the cache; those that are there are left alone.

    Args:
        repository: from `open_repository`.
        paths: of its files.
        progress: is called several times a second.

    Returns:
        Where the files have their names in the cache.

    Raises:
        DownloadError: the hub refuses, fails too often or sends something else than it promised, or the disk is full.
    """
    files = [repository.files[path] for path in paths]
    cached, commit = repository.cached, repository.commit
    cached.prepare(commit)
    check_room(cached.folder, repository.n_bytes_missing([each.path for each in files]) + _MARGIN_BYTES)
    n_bytes, n_before = sum(each.size for each in files), 0
    found = []
    for each in files:

        def report(n: int, each: FileInfo = each, n_before: int = n_before) -> None:
            if progress:
                progress(DownloadProgress(each.path, each.size, n, n_bytes, n_before + n))

        found.append(_fetch_one(repository, each, report))
        report(each.size)
        n_before += each.size
    cached.set_commit(repository.revision, commit)
    return found


def _fetch_one(repository: Repository, file: FileInfo, report: Callable[[int], None]) -> Path:
    cached, commit = repository.cached, repository.commit
    target = cached.path(commit, file.path)
    if target.exists():
        return target
    remote = RemoteFile(repository.name, commit, file.path, repository.token)
    for _ in range(_MOST_RESTARTS):
        located = _locate(remote)
        _forget_other_states(cached, remote, located)
        try:
            _fetch_content(cached, remote, located, report)
        except FileChangedError:
            continue  # the next turn says so
        return cached.link(commit, file.path, located.etag)
    raise DownloadError(f"{remote}: could not be fetched: it changes on the hub again and again; try again later")


def _locate(remote: RemoteFile) -> Located:
    with remote.connections() as connections:
        return with_retries(str(remote), lambda: remote.locate(connections))


def _forget_other_states(cached: CachedRepository, remote: RemoteFile, located: Located) -> None:
    """Drop what has arrived of another content under the same name."""
    for blob, n_here in partials_in(cached.blobs):
        if blob.path == remote.path and blob.etag != located.etag:
            _log.warning("%s has changed on the hub: its download starts again, %d bytes are dropped", remote, n_here)
            with cached.lock(blob.etag):
                remove_partial(cached.blobs, blob.etag)


def _fetch_content(
    cached: CachedRepository, remote: RemoteFile, located: Located, report: Callable[[int], None]
) -> None:
    blob = cached.blob(located.etag)
    if blob.exists():
        return
    with cached.lock(located.etag):
        if not blob.exists():  # another process may have fetched it while this one waited
            download(remote, located, cached.blobs, report)
