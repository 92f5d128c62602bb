"""Hashes as the hub gives them, computed while the bytes arrive."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

_BLOCK_BYTES = 1 << 20
_WAIT_S = 0.02
_SHA256 = re.compile("[0-9a-f]{64}")
_GIT = re.compile("[0-9a-f]{40}")


def is_hash(etag: str) -> bool:
    """Whether an ETag is a hash of the content: SHA-256 of a large file, or git's of another."""
    return bool(_SHA256.fullmatch(etag) or _GIT.fullmatch(etag))


def hasher_for(etag: str, size: int) -> Any:
    """The hash, with nothing of the content in it, whose value is to be `etag`."""
    if _SHA256.fullmatch(etag):
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)  # git's hash of a blob


def hash_of(path: Path, etag: str) -> str:
    """Hash of a file, of the kind that `etag` is."""
    hasher = hasher_for(etag, path.stat().st_size)
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK_BYTES):
            hasher.update(block)
    return str(hasher.hexdigest())


class FollowingHash:
    """Hashes a file that is still being written, in a thread.

    Args:
        path: the file.
        etag: of which kind the hash is.
        size: bytes of the whole file.
        front: bytes that are there without a gap.
    """

    def __init__(self, path: Path, etag: str, size: int, front: Callable[[], int]) -> None:
        self._path, self._size, self._front = path, size, front
        self._hasher = hasher_for(etag, size)
        self._stopped = Event()
        self._error: OSError | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._follow()
        except OSError as error:
            self._error = error

    def _follow(self) -> None:
        at = 0
        with self._path.open("rb", buffering=0) as file:
            while at < self._size and not self._stopped.is_set():
                block = file.read(min(_BLOCK_BYTES, self._front() - at))
                if not block:
                    self._stopped.wait(_WAIT_S)
                self._hasher.update(block)
                at += len(block)

    def result(self) -> str:
        """The hash, once the file is whole.

        Raises:
            OSError: the file could not be read.
        """
        self._thread.join()
        if self._error:
            raise self._error
        return str(self._hasher.hexdigest())

    def stop(self) -> None:
        """End the thread early."""
        self._stopped.set()
        self._thread.join()
