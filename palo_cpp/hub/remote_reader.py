"""Reads a file on the hub here and there, without fetching it: a header, a directory at its end."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import TYPE_CHECKING

from palo_cpp.errors import DownloadError
from palo_cpp.hub.refusals import check_status
from palo_cpp.hub.remote_file import RemoteFile, with_retries

if TYPE_CHECKING:
    from typing_extensions import Buffer

_BLOCK_BYTES = 1 << 18
_MOST_BLOCKS = 64


class RemoteReader(io.RawIOBase):
    """A file on the hub, to read at any place; blocks that were read are kept for a while.

    Args:
        remote: the file.
        n_bytes: its size.

    Raises:
        DownloadError: of each read: the hub refuses or fails, or does not send parts of files.
    """

    def __init__(self, remote: RemoteFile, n_bytes: int) -> None:
        super().__init__()
        self._remote, self._n_bytes, self._at = remote, n_bytes, 0
        self._connections = remote.connections()
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go there."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._n_bytes}[whence]
        if start + offset < 0:
            raise ValueError("a place before the file")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Buffer) -> int:
        """Read to the end of a block."""
        view = memoryview(buffer)
        if self._at >= self._n_bytes:
            return 0
        index, start = divmod(self._at, _BLOCK_BYTES)
        piece = self._block(index)[start : start + len(view)]
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def close(self) -> None:
        """Close the connection."""
        self._connections.close()
        super().close()

    def _block(self, index: int) -> bytes:
        if index not in self._blocks:
            if len(self._blocks) == _MOST_BLOCKS:
                self._blocks.popitem(last=False)
            self._blocks[index] = with_retries(str(self._remote), lambda: self._fetch(index * _BLOCK_BYTES))
        self._blocks.move_to_end(index)
        return self._blocks[index]

    def _fetch(self, first: int) -> bytes:
        n_wanted = min(_BLOCK_BYTES, self._n_bytes - first)
        reply = self._connections.get(self._remote.address, first, first + n_wanted - 1)
        try:
            check_status(reply.status, reply.headers.get("Retry-After"), str(self._remote))
            if reply.status >= 400:
                raise self._remote.refused(reply)
            if reply.status != 206 and n_wanted != self._n_bytes:
                raise DownloadError(f"{self._remote}: expected a part of it, got all; check HF_ENDPOINT, or the proxy")
            data = reply.body.read(n_wanted)
        finally:
            if not reply.body.isclosed():  # something is left to be read
                self._connections.drop(reply.url)
        if len(data) != n_wanted:
            raise ConnectionError("cut off")
        return data
