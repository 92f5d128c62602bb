"""Walks the header of a GGUF file before the `gguf` package reads it.

`gguf.GGUFReader` trusts the file: a count of 2**60 makes it loop until memory is gone, an overflowing shape wraps
around, a tensor beyond the end of the file becomes a shorter one. So every length, count and offset is checked first.
Format: docs/gguf.md of ggml-org/ggml.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from palo_cpp.errors import ModelFormatError, ModelNotFoundError

if TYPE_CHECKING:
    from gguf import GGUFReader

_UINT32, _STRING, _ARRAY = 4, 8, 9
_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
# Far above any published file (a few thousand tensors, 256k vocabulary entries in three arrays), and few enough that
# GGUFReader, which makes Python objects of each, stays within seconds and some hundred MiB.
_MAX_COUNT = 1 << 16
_MAX_ARRAY_ELEMENTS = 1 << 20
_MAX_ELEMENTS = 1 << 48
_MAX_ALIGNMENT = 1 << 16


def open_gguf(path: Path) -> GGUFReader:
    """Open a GGUF file after checking that its header describes what the file holds.

    Args:
        path: the file.

    Returns:
        The reader; the data of its tensors are views of the memory-mapped file.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelFormatError: it is not GGUF, damaged, cut short or hostile.
    """
    if not path.is_file():
        raise ModelNotFoundError(f"{path}: expected a GGUF file, got no file there; check the path")
    try:
        with path.open("rb") as file:
            _check(file.fileno(), path.stat().st_size)
        from gguf import GGUFReader

        return GGUFReader(path)
    except _DamageError as error:
        raise ModelFormatError(f"{path.name}: {error}; copy or convert the file anew") from None
    except Exception as error:  # GGUFReader's ways to fail are many, and all mean the same to the user
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelFormatError(f"{path.name}: expected a readable GGUF file, got: {reason}; convert it anew") from error


class _DamageError(Exception):
    """What is wrong with the file, as `<what>: expected X, got Y`."""


def _printable(name: str) -> str:
    """A name as it may stand in a message of one line; names that people write stay as they are."""
    text = name if name.isprintable() else ascii(name)
    return text if len(text) <= 80 else text[:77] + "..."


def _check(file: int, n_bytes: int) -> None:
    if n_bytes < 24:
        raise _DamageError(f"header: expected at least 24 bytes, got {n_bytes}")
    with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as data:
        _Walk(data, n_bytes).check()


class _Walk:
    """One pass over the header."""

    def __init__(self, data: mmap.mmap, n_bytes: int) -> None:
        self._data = data
        self._n_bytes = n_bytes
        self._at = 0
        self._alignment = 32
        self._n_array_elements = 0

    def check(self) -> None:
        """Walk magic, version, counts, metadata and tensor table; then compare the table with the file's size."""
        magic = self._take(4)
        if magic != b"GGUF":
            raise _DamageError(f"magic: expected b'GGUF', got {magic!r}")
        version = self._u32()
        if version not in (2, 3):
            raise _DamageError(f"GGUF version: expected 2 or 3 in little-endian order, got {version}")
        n_tensors, n_keys = self._u64(), self._u64()
        for what, count in (("tensors", n_tensors), ("metadata keys", n_keys)):
            if count > _MAX_COUNT:
                raise _DamageError(f"number of {what}: expected at most {_MAX_COUNT}, got {count}")
        for _ in range(n_keys):
            self._key_and_value()
        ends = [self._tensor() for _ in range(n_tensors)]
        data_start = -(-self._at // self._alignment) * self._alignment
        for name, end in ends:
            if data_start + end > self._n_bytes:
                raise _DamageError(f"tensor {name}: expected data up to byte {data_start + end}, got {self._n_bytes}")

    def _take(self, n: int) -> bytes:
        if n > self._n_bytes - self._at:
            raise _DamageError(f"header: expected {n} more bytes at {self._at}, got {self._n_bytes - self._at}")
        self._at += n
        return self._data[self._at - n : self._at]

    def _skip(self, n: int) -> None:
        if n > self._n_bytes - self._at:
            raise _DamageError(f"header: expected {n} more bytes at {self._at}, got {self._n_bytes - self._at}")
        self._at += n

    def _u32(self) -> int:
        return int(struct.unpack("<I", self._take(4))[0])

    def _u64(self) -> int:
        return int(struct.unpack("<Q", self._take(8))[0])

    def _string(self) -> str:
        length = self._u64()
        if length > _MAX_COUNT:
            raise _DamageError(f"name: expected at most {_MAX_COUNT} bytes, got {length}")
        return _printable(self._take(length).decode("utf-8", "replace"))

    def _key_and_value(self) -> None:
        key, kind = self._string(), self._u32()
        if kind == _ARRAY:
            self._array(key)
        elif key == "general.alignment":  # decides where the data begin
            self._read_alignment(kind)
        else:
            self._value(key, kind)

    def _value(self, key: str, kind: int) -> None:
        if kind == _STRING:
            self._skip(self._u64())
        elif kind in _SCALAR_BYTES:
            self._skip(_SCALAR_BYTES[kind])
        else:
            raise _DamageError(f"{key}: expected a GGUF value type, got {kind}")

    def _array(self, key: str) -> None:
        kind, count = self._u32(), self._u64()
        self._n_array_elements += count
        if self._n_array_elements > _MAX_ARRAY_ELEMENTS:
            raise _DamageError(f"{key}: expected at most {_MAX_ARRAY_ELEMENTS} array elements, got {count}")
        if kind == _STRING:
            for _ in range(count):
                self._skip(self._u64())
        elif kind in _SCALAR_BYTES:
            self._skip(count * _SCALAR_BYTES[kind])
        else:
            raise _DamageError(f"{key}: expected an array of numbers or strings, got type {kind}")

    def _read_alignment(self, kind: int) -> None:
        if kind != _UINT32:
            raise _DamageError(f"general.alignment: expected type {_UINT32}, got {kind}")
        self._alignment = self._u32()
        if not 1 <= self._alignment <= _MAX_ALIGNMENT or self._alignment & (self._alignment - 1):
            raise _DamageError(f"general.alignment: expected a power of two, got {self._alignment}")

    def _tensor(self) -> tuple[str, int]:
        """One entry of the tensor table: its name, and where its data end, counted from the start of all data."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        name, n_dims = self._string(), self._u32()
        if not 1 <= n_dims <= 4:
            raise _DamageError(f"tensor {name}: expected 1 to 4 dimensions, got {n_dims}")
        shape = [self._u64() for _ in range(n_dims)]
        kind, offset = self._u32(), self._u64()
        if math.prod(shape) > _MAX_ELEMENTS:
            raise _DamageError(f"tensor {name}: expected fewer than 2^48 elements, got shape {shape}")
        try:
            block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        except (ValueError, KeyError):
            raise _DamageError(f"tensor {name}: expected a ggml type, got {kind}") from None
        if shape[0] % block:
            raise _DamageError(f"tensor {name}: expected rows of whole blocks of {block}, got {shape[0]} values")
        return name, offset + math.prod(shape) // block * block_bytes
