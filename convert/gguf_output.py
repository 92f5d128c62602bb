"""Write a GGUF file tensor by tensor: keys first, then each tensor as it is read, so that only one is in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import ModelFormatError

from .plan import PlannedTensor
from .progress import ProgressCounter
from .stored_tensor import Feed, to_float32

if TYPE_CHECKING:
    import gguf

PAIR_ID_KEY = "palo.pair_id"
_PLACEHOLDER = "0" * 32
# Values are converted in pieces of this many, so that float32 copies of a large matrix stay small.
_PIECE = 16 * 1024**2


class PairHash:
    """The pair id: SHA-256 over name, type, shape and every byte of all source tensors used, cut to 128 bits.

    It is computed while the tensors stream through, so it costs no second reading; both files carry it, whatever
    types they are written in, and two conversions of one source give one id.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def begin(self, tensor: PlannedTensor) -> Feed:
        """Take the tensor's description; returns the function that takes its bytes."""
        for source in (tensor.source, *tensor.operands):
            self._hash.update(f"{tensor.spec.gguf}|{source.dtype}|{list(source.shape)}|".encode())
        return self._hash.update

    def hexdigest(self) -> str:
        """The id, 32 hexadecimal digits."""
        return self._hash.hexdigest()[: len(_PLACEHOLDER)]


def write_tensors(
    path: Path,
    writer: gguf.GGUFWriter,
    tensors: Iterable[PlannedTensor],
    pair_hash: PairHash,
    progress: ProgressCounter,
) -> None:
    """Write keys and tensors.

    Args:
        path: file to write; its pair id is a placeholder until `set_pair_id`.
        writer: holds the keys.
        tensors: in the order of the file.
        pair_hash: takes every source tensor.
        progress: called with every tensor.
    """
    planned = list(tensors)
    writer.add_string(PAIR_ID_KEY, _PLACEHOLDER)
    for tensor in planned:
        writer.add_tensor_info(
            tensor.spec.gguf, tensor.spec.gguf_shape, np.dtype(np.float32), tensor.n_bytes, _ggml_type(tensor.type)
        )
    try:
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in planned:
            writer.write_tensor_data(tensor_data(tensor, pair_hash.begin(tensor)))
            progress.add(1, tensor.n_bytes, tensor.spec.gguf)
    finally:
        writer.close()


def set_pair_id(path: Path, pair_id: str) -> None:
    """Put the pair id in the place that was kept for it: the same length, so nothing moves."""
    length = len(_PLACEHOLDER)
    key = PAIR_ID_KEY.encode()
    # key length, key, type 8 (string), value length, value: ggml/include/gguf.h
    before = len(key).to_bytes(8, "little") + key + (8).to_bytes(4, "little") + length.to_bytes(8, "little")
    with path.open("r+b") as file:
        header = file.read(64 * 1024**2)  # a vocabulary of 256,000 tokens takes 10 MB
        at = header.find(before + _PLACEHOLDER.encode())
        if at < 0:
            raise ModelFormatError(f"{path}: expected a place for {PAIR_ID_KEY}")
        file.seek(at + len(before))
        file.write(pair_id.encode())


def tensor_data(tensor: PlannedTensor, feed: Feed | None = None) -> NDArray[Any]:
    """Read a source tensor and give it the values, layout and type it has in the file.

    Args:
        tensor: what is planned for it.
        feed: takes the bytes of everything that is read.

    Raises:
        ModelFormatError: a value is not finite, or too large for the type.
    """
    source, spec = tensor.source, tensor.spec
    values, dtype = source.read(feed), source.dtype
    if spec.transform is not None:
        values, dtype = _transformed(tensor, values, feed), "F32"
    return encode(values.reshape(spec.gguf_shape), dtype, tensor.type, source.name)


def _transformed(tensor: PlannedTensor, values: NDArray[Any], feed: Feed | None) -> NDArray[np.float32]:
    """The values that the spec's transformation computes, f32 in the shape of the GGUF file."""
    spec, inputs = tensor.spec, [to_float32(values, tensor.source.dtype)]
    inputs += [to_float32(operand.read(feed), operand.dtype) for operand in tensor.operands]
    assert spec.transform is not None
    result = spec.transform(*inputs)
    if result.shape != spec.gguf_shape or result.dtype != np.float32:
        raise ModelFormatError(
            f"tensor {spec.gguf}: expected its transformation to give float32 {list(spec.gguf_shape)}, "
            f"got {result.dtype} {list(result.shape)}; this is a fault of the converter's table"
        )
    return result


def encode(values: NDArray[Any], dtype: str, type_name: str, name: str) -> NDArray[Any]:
    """Convert values of `dtype` (bf16 as bits) to a GGUF type, in pieces of whole rows."""
    _check_finite(values, dtype, name)
    if dtype == type_name:
        return values
    n_columns = values.shape[-1] if values.ndim else 1
    rows = values.reshape(-1, n_columns)
    n_rows = max(1, _PIECE // n_columns)
    pieces = [_encode_rows(rows[i : i + n_rows], dtype, type_name, name) for i in range(0, len(rows), n_rows)]
    return np.concatenate(pieces)


def _encode_rows(rows: NDArray[Any], dtype: str, type_name: str, name: str) -> NDArray[Any]:
    from gguf.quants import quantize

    values = to_float32(rows, dtype)
    if type_name != "F16":
        return quantize(values, _ggml_type(type_name))
    if np.abs(values).max(initial=0) >= 65520:  # rounds to infinity in f16
        raise ModelFormatError(f"tensor {name}: a value is too large for f16; use --outtype bf16 or f32")
    return values.astype(np.float16)


def _check_finite(values: NDArray[Any], dtype: str, name: str) -> None:
    """NaN and infinity have all bits of the exponent set."""
    exponent = {"F32": (np.uint32, 0x7F800000), "F16": (np.uint16, 0x7C00), "BF16": (np.uint16, 0x7F80)}[dtype]
    bits = values.reshape(-1).view(exponent[0])
    for i in range(0, bits.size, _PIECE):
        if np.any((bits[i : i + _PIECE] & exponent[1]) == exponent[1]):
            raise ModelFormatError(f"tensor {name}: a value is not finite; the checkpoint is damaged, fetch it again")


def _ggml_type(name: str) -> gguf.GGMLQuantizationType:
    import gguf

    return gguf.GGMLQuantizationType[name]
