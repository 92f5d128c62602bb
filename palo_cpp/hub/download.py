"""One file from the hub into the cache: in parallel ranges, resumed, verified."""

from __future__ import annotations

import errno
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event, Lock, get_ident
from time import monotonic

from palo_cpp.errors import DownloadError
from palo_cpp.hub.connection import Connections, Reply
from palo_cpp.hub.hashing import FollowingHash
from palo_cpp.hub.partial_blob import BlobName, PartialBlob
from palo_cpp.hub.refusals import Retries, TemporaryFailureError, check_status
from palo_cpp.hub.remote_file import Address, Located, RemoteFile, lost_as_temporary

N_CONNECTIONS = 4
_PIECE_BYTES = 1 << 20
_REPORT_EVERY_S = 0.1
# A power cut costs what came since the last sync: a few seconds of a slow link. On a fast one the bytes go to the disk
# while others come, so that little is left to wait for at the end.
_SYNC_EVERY_S = 5.0
_SYNC_EVERY_BYTES = 64 << 20

Report = Callable[[int], None]


def download(remote: RemoteFile, located: Located, blobs: Path, report: Report) -> None:
    """Bring one file into the folder of blobs, under the name of its hash; goes on with what is there.

    Args:
        remote: the file.
        located: what the hub says about it.
        blobs: the folder; the caller holds the lock of this file.
        report: is called several times a second with the bytes that are there.

    Raises:
        DownloadError: the hub refuses, fails too often, or sends something else than it promised.
        FileChangedError: the hub has another file there now.
        OSError: the disk is full or fails; what has arrived is kept.
    """
    blob = BlobName(remote.path, located.etag, located.size)
    with PartialBlob(blobs, blob) as partial:
        try:
            _fetch_and_verify(remote, located, partial, report)
        except WrongContentError:
            partial.discard()
            raise
        partial.publish(blobs / blob.etag)


def _fetch_and_verify(remote: RemoteFile, located: Located, partial: PartialBlob, report: Report) -> None:
    hashing = FollowingHash(partial.data_path, located.etag, located.size, partial.front)
    try:
        _Transfer(remote, located, partial).run(report)
        digest = hashing.result()
    finally:
        hashing.stop()
    if digest != located.etag:
        raise WrongContentError(
            f"{remote}: expected content with hash {located.etag}, got {digest}; what came was removed, pull it again"
        )


class WrongContentError(DownloadError):
    """What came is not what the hub promised; nothing of it is of use."""


class _Transfer:
    """Fills a partial blob over several connections."""

    def __init__(self, remote: RemoteFile, located: Located, partial: PartialBlob) -> None:
        self._remote, self._size = remote, located.size
        self._address = Address(remote, located)
        self._partial = partial
        self._stopped = Event()
        self._todo = [n for n in range(partial.n_parts) if _is_open(partial, n)]
        self._lock = Lock()
        self._only_worker: int | None = None  # where the hub knows no ranges

    def run(self, report: Report) -> None:
        """Fetch what is missing."""
        n_workers = min(N_CONNECTIONS, len(self._todo))
        if n_workers == 0:
            return
        with ThreadPoolExecutor(n_workers, thread_name_prefix="palo-download") as pool:
            workers = [pool.submit(self._work) for _ in range(n_workers)]
            try:
                self._watch(workers, report)
            finally:
                self._stopped.set()

    def _watch(self, workers: list[Future[None]], report: Report) -> None:
        n_synced, synced_at = self._partial.n_written(), monotonic()
        pending = set(workers)
        while pending:
            done, pending = wait(pending, timeout=_REPORT_EVERY_S, return_when=FIRST_EXCEPTION)
            for worker in done:
                worker.result()
            n_written = self._partial.n_written()
            report(n_written)
            if monotonic() - synced_at > _SYNC_EVERY_S or n_written - n_synced > _SYNC_EVERY_BYTES:
                self._partial.sync()
                n_synced, synced_at = n_written, monotonic()

    def _work(self) -> None:
        with self._remote.connections() as connections:
            while (part := self._next_part()) is not None:
                self._fill(connections, part)

    def _next_part(self) -> int | None:
        with self._lock:
            return self._todo.pop(0) if self._todo and self._may_go_on() else None

    def _may_go_on(self) -> bool:
        return not self._stopped.is_set() and self._only_worker in (None, get_ident())

    def _fill(self, connections: Connections, part: int) -> None:
        retries = Retries(str(self._remote))
        while _is_open(self._partial, part) and self._may_go_on():
            before, _ = self._partial.missing(part)
            try:
                self._try_part(connections, part)
            except TemporaryFailureError as failure:
                if self._partial.missing(part)[0] > before:
                    retries.n_failed = 0
                self._stopped.wait(retries.wait_s(failure))

    def _try_part(self, connections: Connections, part: int) -> None:
        url = self._address.url
        first, end = self._partial.missing(part)
        is_range = (first, end) != (0, self._size)
        reply = lost_as_temporary(lambda: connections.get(url, first, end - 1 if is_range else None))
        try:
            self._check(connections, reply, url)
            if is_range and reply.status == 200:
                self._copy_all(reply)
            else:
                self._copy(reply, part)
        finally:
            if not reply.is_whole:
                connections.drop(reply.url)

    def _check(self, connections: Connections, reply: Reply, url: str) -> None:
        """Let pass only an answer whose bytes are those asked for."""
        check_status(reply.status, reply.headers.get("Retry-After"), str(self._remote))
        if reply.status in (401, 403, 404, 410) and not reply.is_endpoint:
            lost_as_temporary(lambda: self._address.renew(connections, url))
            raise TemporaryFailureError(f"the store of the hub answers with {reply.status}")
        if reply.status == 416 or reply.status in (200, 206):
            self._check_size(reply)
            return
        raise self._remote.refused(reply)

    def _check_size(self, reply: Reply) -> None:
        told = reply.headers.get("Content-Length") if reply.status == 200 else None
        told = told or (reply.headers.get("Content-Range") or "").rpartition("/")[2]
        if reply.status == 416 or (told.isdigit() and int(told) != self._size):
            raise WrongContentError(
                f"{self._remote}: expected {self._size} bytes as the hub says, got a file of {told or 'fewer'}; "
                "what came was removed, pull it again or tell who publishes it"
            )

    def _copy(self, reply: Reply, part: int) -> None:
        """Write the body into the part."""
        while self._may_go_on():
            first, end = self._partial.missing(part)
            if first == end:
                return
            self._write(part, _read(reply, min(_PIECE_BYTES, end - first)))

    def _copy_all(self, reply: Reply) -> None:
        """The hub knows no ranges and sends the file from its beginning: one worker takes what is missing from that."""
        with self._lock:
            if self._only_worker not in (None, get_ident()):
                return
            self._only_worker = get_ident()
            self._todo = [n for n in range(self._partial.n_parts) if _is_open(self._partial, n)]
        at = 0
        while at < self._size and not self._stopped.is_set():
            part = at // self._partial.part_bytes
            first, end = self._partial.missing(part)
            is_new = at == first < end
            piece = _read(reply, min(_PIECE_BYTES, (end if is_new else first) - at))
            if is_new:
                self._write(part, piece)
            at += len(piece)

    def _write(self, part: int, piece: bytes) -> None:
        try:
            self._partial.write(part, piece)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DownloadError(
                    f"{self._remote}: could not be written: {error.strerror}; free some space and pull it again, what "
                    "has arrived is kept"
                ) from error
            raise


def _read(reply: Reply, n_bytes: int) -> bytes:
    """What has arrived, so many bytes at most: a killed process loses no more than one piece."""
    piece: bytes = lost_as_temporary(lambda: reply.read_some(n_bytes))
    if not piece:
        raise TemporaryFailureError("the connection was lost before the end")
    return piece


def _is_open(partial: PartialBlob, part: int) -> bool:
    first, end = partial.missing(part)
    return first < end
