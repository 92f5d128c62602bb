"""Read the table of contents of a safetensors file: an 8-byte length, a JSON header, then the values.

The format is that of huggingface/safetensors, README.md, "Format".
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import IO, Any

from palo_cpp.errors import ModelFormatError

from .stored_tensor import DTYPE_SIZE, Shape, StoredTensor, n_elements

_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library itself


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """List the tensors of a safetensors file, without reading their values.

    Raises:
        ModelFormatError: damaged, cut short, or a type that no checkpoint of ours has.
    """
    with path.open("rb") as file:
        return _read(file, path, path.stat().st_size)


def read_safetensors_shapes(file: IO[bytes], path: Path, n_bytes: int) -> dict[str, tuple[str, Shape]]:
    """List type and shape of each tensor, which the header says; no values are needed.

    Args:
        file: the file, perhaps one that is far away.
        path: its name, for messages.
        n_bytes: its size.

    Raises:
        ModelFormatError: as for `read_safetensors`.
    """
    return {name: (tensor.dtype, tensor.shape) for name, tensor in _read(file, path, n_bytes).items()}


def _read(file: IO[bytes], path: Path, size: int) -> dict[str, StoredTensor]:
    prefix = file.read(8)
    n_header = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
    if not 2 <= n_header <= min(_MAX_HEADER_BYTES, size - 8):
        raise ModelFormatError(f"{path}: expected a safetensors header, got a length of {n_header} bytes")
    header = _parse(path, file.read(n_header))
    header.pop("__metadata__", None)
    tensors = {name: _entry(path, name, entry, 8 + n_header, size) for name, entry in header.items()}
    _refuse_overlaps(path, list(tensors.values()))
    return tensors


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{path}: damaged safetensors header ({type(error).__name__}); fetch it again") from None
    if not isinstance(header, dict):
        raise ModelFormatError(f"{path}: expected a dictionary as safetensors header, got {type(header).__name__}")
    return header


def _entry(path: Path, name: str, entry: Any, data_start: int, file_size: int) -> StoredTensor:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise ModelFormatError(f"{path}: tensor {name}: damaged header entry")
    if dtype not in DTYPE_SIZE or len(shape) > 8 or any(type(d) is not int or not 0 <= d < 2**48 for d in shape):
        raise ModelFormatError(f"{path}: tensor {name}: unknown type or shape ({dtype}, {shape})"[:300])
    n_bytes = n_elements(tuple(shape)) * DTYPE_SIZE[dtype]
    if not 0 <= begin <= end <= file_size - data_start or end - begin != n_bytes:
        raise ModelFormatError(f"{path}: tensor {name}: expected {n_bytes} bytes inside the file; fetch it again")
    return StoredTensor(name, tuple(shape), dtype, path, data_start + begin)


def _refuse_overlaps(path: Path, tensors: list[StoredTensor]) -> None:
    end = 0
    for tensor in sorted(tensors, key=lambda t: t.offset):
        n_bytes = n_elements(tensor.shape) * DTYPE_SIZE[tensor.dtype]
        if n_bytes and tensor.offset < end:
            raise ModelFormatError(f"{path}: tensor {tensor.name} overlaps another one; fetch the file again")
        end = max(end, tensor.offset + n_bytes)
