"""Image embeddings of images seen before: in memory, and in a folder where the user names one.

    Pixels.content_hash + encoder_id --embedding_key--> key --EmbeddingCache.get_or_encode--> ImageEmbeddings

An entry on disk is a file `KEY.features`: a header of 128 bytes, then the embeddings as raw little-endian f32, row by
row. An entry that is not exactly what it should be is ignored and written again; nothing that happens to the folder is
an error, for the images can always be encoded again. Several processes may use one folder: an entry appears whole or
not at all. The folder is trusted as the model's is: a checksum finds damage, not intent.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import struct
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import ArgumentError
from palo_cpp.ggml.gguf_header import GgufHeader
from palo_cpp.segments import ImageEmbeddings
from palo_cpp.vision.image_encoder import ImageEncoder

logger = logging.getLogger(__name__)

DEFAULT_MEMORY_MIB = 64  # six images of PALO-7B, 58 of MobilePALO
DEFAULT_DISK_MIB = 4096  # 455 images of PALO-7B

# magic, version of the format, dtype, rows, columns, key, checksum of the data; these are aligned to 64 bytes.
_HEADER = struct.Struct("<8sIIII32s16s56x")
_MAGIC, _FORMAT_VERSION, _F32 = b"PALOFEAT", 1, 0
# Only files with these names are ever counted or removed: the folder may hold others.
_ENTRY = re.compile(r"[0-9a-f]{64}\.features")
_PARTIAL = re.compile(r"\.[0-9a-f]{64}\..*\.part")
# A writer needs milliseconds; a partial file as old as this was left by one that died.
_PARTIAL_LIFE_S = 3600.0
_CHECKSUM_ROW_BYTES = 8192

Embeddings = NDArray[np.float32]


def encoder_id(file: GgufHeader, encoder: ImageEncoder) -> bytes:
    """What distinguishes encoders that may give different embeddings for the same pixels.

    Beside the weights the file's time counts: a tensor may differ after the samples that `weights_id` takes. So does
    the instruction set: kernels differ in the last bits.

    Args:
        file: header of the encoder's file.
        encoder: loaded from it.

    Returns:
        A digest, 32 bytes.
    """
    modified_ns = file.path.stat().st_mtime_ns
    identity = f"{encoder.version} {encoder.precision} {encoder.isa} {modified_ns} {file.weights_id()}"
    return hashlib.sha256(identity.encode()).digest()


def embedding_key(encoder: bytes, content_hash: str) -> str:
    """The name under which the embeddings of an image are kept.

    Args:
        encoder: what `encoder_id` returned.
        content_hash: `Pixels.content_hash`; it covers the pixels and how the image was made square.

    Returns:
        64 hexadecimal digits.
    """
    return hashlib.sha256(encoder + content_hash.encode()).hexdigest()


class EmbeddingCache:
    """Embeddings by key, in memory and on disk. Several threads may use one.

    Args:
        folder: where entries are kept on disk; made when the first is written. None keeps them in memory only.
        memory_mib: at most so much memory; the entries used least recently go first. 0 keeps none.
        disk_mib: at most so much of the disk, likewise.

    Raises:
        ArgumentError: a folder's name that none can have, or a negative size.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        memory_mib: float = DEFAULT_MEMORY_MIB,
        disk_mib: float = DEFAULT_DISK_MIB,
    ) -> None:
        for what, size in (("embedding_cache_mib", memory_mib), ("embedding_cache_disk_mib", disk_mib)):
            if not size >= 0:
                raise ArgumentError(f"{what}: expected 0 or more, got {size}")
        if folder is not None and ("\0" in str(folder) or not str(folder)):
            raise ArgumentError(f"embedding_cache_dir: expected the name of a folder, got {str(folder)!r}")
        self._memory = _Memory(int(memory_mib * 2**20))
        self._disk = _Disk(Path(folder).expanduser().absolute(), int(disk_mib * 2**20)) if folder is not None else None
        # One image is encoded at a time: the encoder keeps all cores busy, and a second thread that wants the same
        # image finds it when its turn comes.
        self._encoding = threading.Lock()

    def get_or_encode(self, key: str, shape: tuple[int, int], encode: Callable[[], Embeddings]) -> ImageEmbeddings:
        """The embeddings of an image: known ones, or fresh ones, which are kept.

        Args:
            key: what `embedding_key` returned.
            shape: (n_image_tokens, n_embd) that they have.
            encode: makes them.
        """
        if (known := self._memory.get(key)) is not None:
            return ImageEmbeddings(known, is_cached=True)
        return self.get_or_encode_all([key], shape, lambda _: [encode()])[0]

    def get_or_encode_all(
        self, keys: Sequence[str], shape: tuple[int, int], encode: Callable[[list[int]], Iterable[Embeddings]]
    ) -> list[ImageEmbeddings]:
        """The embeddings of several images, those that are not known made together.

        Args:
            keys: one for each image; images that are the same have the same.
            shape: (n_image_tokens, n_embd) of each.
            encode: makes those of the images with these indices.

        Returns:
            In the order of the keys.
        """
        with self._encoding:
            found = {key: ImageEmbeddings(known, True) for key in keys if (known := self.get(key, shape)) is not None}
            fresh = [key for key in dict.fromkeys(keys) if key not in found]
            if fresh:
                for key, made in zip(fresh, encode([keys.index(key) for key in fresh]), strict=True):
                    embeddings = np.array(made, dtype="<f4", order="C")  # a row of a batch would keep the whole batch
                    self.put(key, embeddings)
                    found[key] = ImageEmbeddings(embeddings, is_cached=False)
        return [found[key] for key in keys]

    def get(self, key: str, shape: tuple[int, int]) -> Embeddings | None:
        """Known embeddings; None where there are none. Arguments as in `get_or_encode`."""
        known = self._memory.get(key)
        if known is None and self._disk is not None:
            known = self._disk.read(key, shape)
            if known is not None:
                self._memory.put(key, known)
        return known

    def put(self, key: str, embeddings: Embeddings) -> None:
        """Keep embeddings; the array is made read-only."""
        embeddings.setflags(write=False)
        self._memory.put(key, embeddings)
        if self._disk is not None:
            self._disk.write(key, embeddings)

    def clear_memory(self) -> None:
        """Forget what is in memory; entries on disk stay."""
        self._memory.clear()


class _Memory:
    """Arrays up to a number of bytes, the least recently used first to go."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._n_bytes = 0
        self._entries: OrderedDict[str, Embeddings] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Embeddings | None:
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: str, embeddings: Embeddings) -> None:
        with self._lock:
            self._drop(key)
            if embeddings.nbytes > self._max_bytes:
                return
            self._entries[key] = embeddings
            self._n_bytes += embeddings.nbytes
            while self._n_bytes > self._max_bytes:
                self._drop(next(iter(self._entries)))

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._n_bytes = 0

    def _drop(self, key: str) -> None:
        dropped = self._entries.pop(key, None)
        self._n_bytes -= dropped.nbytes if dropped is not None else 0


class _Disk:
    """Entries in a folder, up to a number of bytes, the least recently used first to go."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._n_bytes_free = 0  # may be written before the folder is looked at again
        self._has_warned = False

    def read(self, key: str, shape: tuple[int, int]) -> Embeddings | None:
        """The entry, where it is there and whole."""
        path = self._path(key)
        try:
            # Compared before anything is opened: it may be a pipe, or huge.
            is_plausible = path.stat().st_size == _n_entry_bytes(shape)
            embeddings = _decoded(path.read_bytes(), key, shape) if is_plausible else None
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn("read", error)
            return None
        if embeddings is None:
            logger.debug("%s is damaged, its image is encoded again", path)
            return None
        with suppress(OSError):  # only the order of removal depends on it
            os.utime(path)
        return embeddings

    def write(self, key: str, embeddings: Embeddings) -> None:
        """Write the entry, and remove others where the folder gets too large."""
        if _n_entry_bytes(embeddings.shape) > self._max_bytes:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # embeddings tell what the images showed
            self._write_whole(key, embeddings)
            self._n_bytes_free -= _n_entry_bytes(embeddings.shape)
            if self._n_bytes_free < 0:
                self._trim()
        except OSError as error:
            self._warn("written", error)

    def _write_whole(self, key: str, embeddings: Embeddings) -> None:
        descriptor, partial = tempfile.mkstemp(prefix=f".{key}.", suffix=".part", dir=self._folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_header(key, embeddings))
                file.write(embeddings.data)
            # Not synced: what a power failure leaves is found by the checksum.
            os.replace(partial, self._path(key))  # noqa: PTH105 - mkstemp gives a string
        except BaseException:
            with suppress(OSError):
                os.unlink(partial)  # noqa: PTH108 - mkstemp gives a string
            raise

    def _trim(self) -> None:
        """Look at the whole folder, and remove the entries used least recently where it is too large."""
        entries = sorted(self._entries(), key=lambda entry: entry.used_at)
        n_bytes = sum(entry.n_bytes for entry in entries)
        # Not to the last byte, for a look at 3000 entries takes 50 ms and need not come with every write.
        wanted_bytes = self._max_bytes * 7 // 8 if n_bytes > self._max_bytes else n_bytes
        abandoned = time.time() - _PARTIAL_LIFE_S
        for entry in entries:
            if entry.used_at < abandoned if entry.is_partial else n_bytes > wanted_bytes:
                with suppress(FileNotFoundError):  # another process was first
                    (self._folder / entry.name).unlink()
                n_bytes -= entry.n_bytes
        # Half of what is free, so that two processes together stay within the bound until they look again.
        self._n_bytes_free = (self._max_bytes - n_bytes) // 2

    def _entries(self) -> Iterator[_DiskEntry]:
        with os.scandir(self._folder) as files:
            for file in files:
                is_partial = _PARTIAL.fullmatch(file.name) is not None
                if not (is_partial or _ENTRY.fullmatch(file.name)):
                    continue
                with suppress(FileNotFoundError):
                    if file.is_file(follow_symlinks=False):
                        stat = file.stat(follow_symlinks=False)
                        yield _DiskEntry(file.name, stat.st_mtime, stat.st_size, is_partial)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.features"

    def _warn(self, what: str, error: OSError) -> None:
        """Once in a process's life: what cannot be kept today cannot be kept a second later either."""
        log = logger.debug if self._has_warned else logger.warning
        self._has_warned = True
        reason = error.strerror or str(error)
        log("embedding cache: %s cannot be %s (%s); images are encoded again each time", self._folder, what, reason)


@dataclass(frozen=True)
class _DiskEntry:
    """A file of ours in the folder."""

    name: str
    used_at: float
    n_bytes: int
    is_partial: bool


def _n_entry_bytes(shape: tuple[int, ...]) -> int:
    return _HEADER.size + 4 * shape[0] * shape[1]


def _header(key: str, embeddings: Embeddings) -> bytes:
    checksum = _checksum(embeddings.reshape(-1).view(np.uint8))
    return _HEADER.pack(_MAGIC, _FORMAT_VERSION, _F32, *embeddings.shape, bytes.fromhex(key), checksum)


def _decoded(entry: bytes, key: str, shape: tuple[int, int]) -> Embeddings | None:
    """The embeddings of an entry as it is in the file; None where anything is not as it should be."""
    if len(entry) != _n_entry_bytes(shape):
        return None
    embeddings: Embeddings = np.frombuffer(entry, "<f4", offset=_HEADER.size).reshape(shape)
    return embeddings if entry[: _HEADER.size] == _header(key, embeddings) else None


def _checksum(data: NDArray[np.uint8]) -> bytes:
    """BLAKE2b over the sums, modulo 2**64, of the rows and of the columns of the data as a table of 64-bit words.

    Any change within one row or one column changes a sum; other damage would have to cancel in every row and every
    column at once. 0.4 ms for 9 MiB, where zlib 1.2.13's crc32 takes 2.6, adler32 3.1 and BLAKE2b over all 12.
    """
    n_whole = data.size // _CHECKSUM_ROW_BYTES * _CHECKSUM_ROW_BYTES
    words = data[:n_whole].view("<u8").reshape(-1, _CHECKSUM_ROW_BYTES // 8)
    digest = hashlib.blake2b(digest_size=16)
    for part in (data[n_whole:], words.sum(axis=0), words.sum(axis=1)):
        digest.update(np.ascontiguousarray(part).data)
    return digest.digest()
