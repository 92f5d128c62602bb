"""How fast the hub sends at the moment, from the beginning of a file."""

from __future__ import annotations

import http.client
import time
from typing import TYPE_CHECKING

from palo_cpp.errors import DownloadError
from palo_cpp.hub.remote_file import RemoteFile

if TYPE_CHECKING:
    from palo_cpp.hub.repository import Repository

_MOST_BYTES = 1 << 20
_LONGEST_S = 1.0
_PIECE_BYTES = 1 << 16


def measured_speed(repository: Repository, path: str) -> float | None:
    """Bytes per second over one connection, which a download with several may exceed; None where it cannot be told.

    At most a mebibyte is read, for a second, and dropped.
    """
    remote = RemoteFile(repository.name, repository.commit, path, repository.token)
    last = min(_MOST_BYTES, repository.files[path].size) - 1
    if last <= 0:
        return None
    try:
        with remote.connections() as connections:
            reply = connections.get(remote.address, 0, last)
            begun_at, n_bytes = time.perf_counter(), 0
            while piece := reply.read_some(_PIECE_BYTES):
                n_bytes += len(piece)
                if time.perf_counter() - begun_at > _LONGEST_S:
                    break
    except (DownloadError, OSError, http.client.HTTPException):
        return None  # the download itself will say what is wrong
    elapsed_s = time.perf_counter() - begun_at
    return n_bytes / elapsed_s if n_bytes > _PIECE_BYTES and elapsed_s > 0 and reply.status in (200, 206) else None
