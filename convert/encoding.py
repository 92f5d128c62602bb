"""Values of a checkpoint in the types of GGUF files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import ModelFormatError

from .block_types import quantize_rows
from .stored_tensor import to_float32

if TYPE_CHECKING:
    import gguf

# Values are converted in pieces of this many, so that float32 copies of a large matrix stay small.
_PIECE = 16 * 1024**2


def encode(values: NDArray[Any], dtype: str, type_name: str, name: str) -> NDArray[Any]:
    """Convert values of `dtype` (bf16 as bits) to a GGUF type, in pieces of whole rows."""
    _check_finite(values, dtype, name)
    if dtype == type_name:
        return values
    n_columns = values.shape[-1] if values.ndim else 1
    rows = values.reshape(-1, n_columns)
    n_rows = max(1, _PIECE // n_columns)
    first = _encode_rows(rows[:n_rows], dtype, type_name, name)
    encoded = np.empty((len(rows), first.shape[-1]), first.dtype)
    encoded[:n_rows] = first
    for i in range(n_rows, len(rows), n_rows):
        encoded[i : i + n_rows] = _encode_rows(rows[i : i + n_rows], dtype, type_name, name)
    return encoded


def _encode_rows(rows: NDArray[Any], dtype: str, type_name: str, name: str) -> NDArray[Any]:
    from gguf.quants import quantize

    values = to_float32(rows, dtype)
    if type_name in ("F32", "BF16"):
        return quantize(values, ggml_type(type_name))
    if type_name != "F16":
        return quantize_rows(values, type_name, name)
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


def ggml_type(name: str) -> gguf.GGMLQuantizationType:
    """The gguf package's value for a type's name."""
    import gguf

    return gguf.GGMLQuantizationType[name]
