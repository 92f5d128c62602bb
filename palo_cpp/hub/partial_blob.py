"""The part of a file that has arrived, on disk, so that neither a killed process nor a power cut loses it.

Beside the bytes (a sparse file of the final size) lies a record of them. The file is divided into parts, each filled
from its beginning, and the record holds two numbers for each: `written`, stored after each piece, which is right also
when the process is killed; and `synced`, stored after an fsync of the bytes, which is right also after a power cut.
After a restart of the machine only `synced` counts.
"""

from __future__ import annotations

import json
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType

from palo_cpp.errors import DownloadError

_VERSION = 1
_HEADER_BYTES = 4096
_BOOT_AT = _HEADER_BYTES - 64
_LARGEST_PART = 16 << 20  # small enough that the hash, which goes through parts in order, has little left at the end
_MOST_PARTS_AT_ONCE = 4
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class BlobName:
    """What a file is called on the hub and in the cache.

    Attributes:
        path: its path in the repository.
        etag: the hash that the hub gives: SHA-256 for large files, git's for others; its name among the blobs.
        size: bytes.
    """

    path: str
    etag: str
    size: int


class PartialBlob:
    """Bytes of one file that arrive in parts; one process at a time may have it open.

    Args:
        folder: the cache's folder of blobs.
        blob: which file.
        boot_id: names this run of the machine; "" where it has no name.
    """

    def __init__(self, folder: Path, blob: BlobName, boot_id: str | None = None) -> None:
        self.blob = blob
        self.data_path, self._record_path = paths_of(folder, blob.etag)
        self._boot_id = (current_boot_id() if boot_id is None else boot_id).encode()[:64]
        self.part_bytes = _part_bytes(blob.size)
        self.n_parts = -(-blob.size // self.part_bytes)
        self._write_lock = Lock()
        self._front_part = 0  # those before it are whole
        if not self._is_usable():
            self._create()
        self._record_file = self._record_path.open("r+b")
        self._record = mmap.mmap(self._record_file.fileno(), 0)
        with memoryview(self._record) as whole, whole[_HEADER_BYTES:] as counts, counts.cast("Q") as numbers:
            self._written, self._synced = numbers[: self.n_parts], numbers[self.n_parts :]
        self._trust_what_holds()
        self._data = self.data_path.open("r+b", buffering=0)

    def _is_usable(self) -> bool:
        try:
            text = self._record_path.read_bytes()
            header = json.loads(text[:_BOOT_AT].rstrip(b"\0"))
            is_whole = len(text) == self._record_bytes and self.data_path.stat().st_size == self.blob.size
        except (OSError, ValueError):
            return False
        return is_whole and header == self._header

    @property
    def _record_bytes(self) -> int:
        return _HEADER_BYTES + 16 * self.n_parts

    @property
    def _header(self) -> dict[str, object]:
        blob = self.blob
        return {"version": _VERSION, "path": blob.path, "etag": blob.etag, "size": blob.size, "part": self.part_bytes}

    def _create(self) -> None:
        """Bytes first, then the record under its name: a record never describes a file that is not there."""
        self._record_path.unlink(missing_ok=True)
        with self.data_path.open("wb") as data:
            data.truncate(self.blob.size)
        header = json.dumps(self._header).encode().ljust(_BOOT_AT, b"\0") + self._boot_id.ljust(64, b"\0")
        new = self._record_path.with_suffix(".new")
        with new.open("wb") as record:
            record.write(header + bytes(16 * self.n_parts))
            record.flush()
            os.fsync(record.fileno())
        new.replace(self._record_path)

    def _trust_what_holds(self) -> None:
        boot = bytes(self._record[_BOOT_AT:_HEADER_BYTES]).rstrip(b"\0")
        for part in range(self.n_parts):
            if not boot or boot != self._boot_id:
                self._written[part] = self._synced[part]
            self._written[part] = min(self._written[part], self._length(part))
        self._record[_BOOT_AT:_HEADER_BYTES] = self._boot_id.ljust(64, b"\0")

    # ---- what is there

    def _length(self, part: int) -> int:
        return min(self.part_bytes, self.blob.size - part * self.part_bytes)

    def missing(self, part: int) -> tuple[int, int]:
        """First and last+1 byte that a part lacks; equal where it is whole."""
        start = part * self.part_bytes
        return start + self._written[part], start + self._length(part)

    def n_written(self) -> int:
        """Bytes that are there."""
        return sum(self._written)

    def front(self) -> int:
        """Bytes that are there from the beginning without a gap."""
        while self._front_part < self.n_parts and self._written[self._front_part] == self._length(self._front_part):
            self._front_part += 1
        if self._front_part == self.n_parts:
            return self.blob.size
        return self._front_part * self.part_bytes + self._written[self._front_part]

    # ---- what comes

    def write(self, part: int, piece: bytes) -> None:
        """Append to a part; from several threads, each with a part of its own."""
        at, end = self.missing(part)
        if len(piece) > end - at:
            raise DownloadError(f"{self.blob.path}: expected {end - at} more bytes, got {len(piece)}; pull it again")
        self._write_at(piece, at)
        self._written[part] += len(piece)

    def _write_at(self, data: bytes, at: int) -> None:
        view = memoryview(data)
        while view:
            if hasattr(os, "pwrite"):
                n = os.pwrite(self._data.fileno(), view, at)
            else:  # Windows
                with self._write_lock:
                    self._data.seek(at)
                    n = self._data.write(view)
            view, at = view[n:], at + n

    def sync(self) -> None:
        """Bring to the disk what is there, so that it survives a power cut."""
        written = list(self._written)
        if written == list(self._synced):
            return
        os.fsync(self._data.fileno())
        for part, n in enumerate(written):
            self._synced[part] = n
        self._record.flush()

    def publish(self, path: Path) -> None:
        """Give the whole, verified file its name."""
        os.fsync(self._data.fileno())
        self.close()
        self.data_path.replace(path)
        sync_folder(path.parent)
        self._record_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove it all."""
        self.close()
        remove_partial(self.data_path.parent, self.blob.etag)

    def close(self) -> None:
        """Close the files, which stay as they are."""
        self._written.release()
        self._synced.release()
        self._data.close()
        self._record.close()
        self._record_file.close()

    def __enter__(self) -> PartialBlob:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def paths_of(folder: Path, etag: str) -> tuple[Path, Path]:
    """Where the bytes and the record of a file lie."""
    return folder / f"{etag}.palo.incomplete", folder / f"{etag}.palo.parts"


def remove_partial(folder: Path, etag: str) -> None:
    """Forget what has arrived of a file; first the record, for it must not outlive the bytes."""
    data, record = paths_of(folder, etag)
    record.unlink(missing_ok=True)
    data.unlink(missing_ok=True)


def partials_in(folder: Path) -> list[tuple[BlobName, int]]:
    """Files that have arrived in part, with the bytes that are there."""
    found = []
    for record in sorted(folder.glob("*.palo.parts")):
        try:
            data = record.read_bytes()
            header = json.loads(data[:_BOOT_AT].rstrip(b"\0"))
            blob = BlobName(str(header["path"]), str(header["etag"]), int(header["size"]))
            numbers = memoryview(data[_HEADER_BYTES:]).cast("Q")
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged; the next download of the file replaces it
        if paths_of(folder, blob.etag)[1] == record:
            found.append((blob, sum(numbers[: len(numbers) // 2])))
    return found


def _part_bytes(size: int) -> int:
    """Small files have one part; larger ones enough for all connections."""
    quarter = -(-size // _MOST_PARTS_AT_ONCE)
    return max(1, min(size, min(_LARGEST_PART, max(1 << 20, quarter))))


def sync_folder(folder: Path) -> None:
    """Bring a folder's table of names to the disk; Windows opens no folders and needs none of it."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def current_boot_id() -> str:
    """A name for this run of the machine; "" where the system has none, and then only synced bytes count."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
