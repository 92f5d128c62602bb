"""Write safetensors files and PyTorch's zip pickles with numpy alone, as the published checkpoints hold them."""

from __future__ import annotations

import json
import math
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[np.generic]]

# dtype name here -> (name in safetensors, storage class in torch)
_DTYPE_NAMES = {
    "f32": ("F32", "FloatStorage"),
    "f16": ("F16", "HalfStorage"),
    "bf16": ("BF16", "BFloat16Storage"),
    "i64": ("I64", "LongStorage"),
}


def to_bf16_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper halves of float32 `values`, rounded to nearest, ties to even: bfloat16, which numpy does not have."""
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def encode_tensor(values: NDArray[np.generic], dtype: str) -> tuple[str, bytes]:
    """The dtype name and the little-endian bytes of a tensor; integers keep their type, floats become `dtype`."""
    if values.dtype.kind in "iu":
        return "i64", np.ascontiguousarray(values, dtype="<i8").tobytes()
    if dtype == "bf16":
        return dtype, to_bf16_bits(np.ascontiguousarray(values, dtype=np.float32)).astype("<u2").tobytes()
    return dtype, np.ascontiguousarray(values, dtype={"f32": "<f4", "f16": "<f2"}[dtype]).tobytes()


def write_safetensors(path: Path, tensors: Tensors, dtype: str) -> int:
    """Write `tensors` as one safetensors file: u64 header length, JSON header, data. Returns the bytes of the data."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    chunks, end = [], 0
    for name, values in tensors.items():
        dtype_name, data = encode_tensor(values, dtype)
        begin, end = end, end + len(data)
        shape = list(values.shape)
        header[name] = {"dtype": _DTYPE_NAMES[dtype_name][0], "shape": shape, "data_offsets": [begin, end]}
        chunks.append(data)
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)  # the data begins on a multiple of 8 bytes, as the format's own writer does
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + b"".join(chunks))
    return end


def write_torch_zip(path: Path, tensors: Tensors, dtype: str) -> int:
    """Write `tensors` as `torch.save(dict, path)` does: a zip of one protocol-2 pickle and one file per storage.

    Returns the bytes of the data. The pickle is put together from opcodes, for pickling torch's classes needs torch.
    """
    root, n_bytes = path.stem, 0
    program = [pickle.PROTO, b"\x02", pickle.EMPTY_DICT, pickle.MARK]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        storages = []
        for key, (name, values) in enumerate(tensors.items()):
            dtype_name, data = encode_tensor(values, dtype)
            program += [_text(name), _rebuild_tensor(str(key), _DTYPE_NAMES[dtype_name][1], values.shape)]
            storages.append((f"{root}/data/{key}", data))
            n_bytes += len(data)
        program += [pickle.SETITEMS, pickle.STOP]
        # ZipInfo's own date (1980) instead of now: the same checkpoint is the same file, byte for byte.
        archive.writestr(zipfile.ZipInfo(f"{root}/data.pkl"), b"".join(program))
        archive.writestr(zipfile.ZipInfo(f"{root}/byteorder"), b"little")
        for entry, data in storages:
            archive.writestr(zipfile.ZipInfo(entry), data)
        archive.writestr(zipfile.ZipInfo(f"{root}/version"), b"3\n")
    return n_bytes


def _rebuild_tensor(key: str, storage: str, shape: tuple[int, ...]) -> bytes:
    """Opcodes of `torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`."""
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    persistent_id = _text("storage"), _global("torch", storage), _text(key), _text("cpu"), _integer(math.prod(shape))
    return b"".join(
        [
            _global("torch._utils", "_rebuild_tensor_v2"),
            pickle.MARK,
            _tuple(*persistent_id) + pickle.BINPERSID,
            _integer(0),
            _tuple(*map(_integer, shape)),
            _tuple(*map(_integer, strides)),
            pickle.NEWFALSE,
            _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE,
            pickle.TUPLE,
            pickle.REDUCE,
        ]
    )


def _text(value: str) -> bytes:
    encoded = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _integer(value: int) -> bytes:
    return pickle.BININT + struct.pack("<i", value)


def _tuple(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE
