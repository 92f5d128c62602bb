"""Write a GGUF file: keys first, then tensor by tensor in any order, so that only one is in memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import ModelFormatError
from palo_cpp.ggml.gguf_header import read_header

from .encoding import encode, ggml_type
from .plan import PlannedTensor
from .stored_tensor import Feed, to_float32

if TYPE_CHECKING:
    import gguf

PAIR_ID_KEY = "palo.pair_id"
_PLACEHOLDER = "0" * 32


class GgufOutput:
    """One file on its way; its pair id is a placeholder until `set_pair_id`.

    Args:
        path: of the file; one that is there was begun before, with the same keys and tensors, and goes on.
        writer: holds the keys.
        tensors: in the order of the file.
    """

    def __init__(self, path: Path, writer: gguf.GGUFWriter, tensors: Sequence[PlannedTensor]) -> None:
        self.path = path
        if not path.exists():
            begin_file(path, writer, tensors)
        self._offsets = {name: tensor.offset for name, tensor in read_header(path).tensors.items()}
        self._file = path.open("r+b")

    def write(self, tensor: PlannedTensor) -> str:
        """Read a tensor and put it where it belongs.

        Returns:
            SHA-256 over name, type, shape and every byte of all that was read for it.

        Raises:
            ModelFormatError: see `tensor_data`.
        """
        digest = hashlib.sha256()
        for source in (tensor.source, *tensor.operands):
            digest.update(f"{tensor.spec.gguf}|{source.dtype}|{list(source.shape)}|".encode())
        data = tensor_data(tensor, digest.update)
        self._file.seek(self._offsets[tensor.spec.gguf])
        self._file.write(np.ascontiguousarray(data).data)
        return digest.hexdigest()

    def sync(self) -> None:
        """Bring what was written to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """End it."""
        self._file.close()


def begin_file(path: Path, writer: gguf.GGUFWriter, tensors: Sequence[PlannedTensor]) -> None:
    """Write everything but the tensors' values, and give the file its size."""
    writer.add_string(PAIR_ID_KEY, _PLACEHOLDER)
    for tensor in tensors:
        writer.add_tensor_info(
            tensor.spec.gguf, tensor.spec.gguf_shape, np.dtype(np.float32), tensor.n_bytes, ggml_type(tensor.type)
        )
    begun = path.with_name(f"{path.name}.begun")  # so that a file that is there has all its keys
    try:
        writer.write_header_to_file(begun)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        sizes = (begun.stat().st_size, *(tensor.n_bytes for tensor in tensors))
        os.truncate(begun, sum(writer.ggml_pad(n, writer.data_alignment) for n in sizes))
        begun.replace(path)
    finally:
        writer.close()
        begun.unlink(missing_ok=True)


def pair_id(digests: Sequence[str]) -> str:
    """The id that both files carry: 128 bits over the digests of all tensors, in the order of the files.

    It depends on the checkpoint's weights alone, not on types: two conversions of one source give one id.
    """
    return hashlib.sha256("".join(digests).encode()).hexdigest()[: len(_PLACEHOLDER)]


def set_pair_id(path: Path, value: str) -> None:
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
        file.write(value.encode())


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
