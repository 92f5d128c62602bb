"""Types of tensors in GGUF files: which one, how large, and rows quantized by ggml's own functions."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import ModelFormatError
from palo_cpp.ggml.llama_library import llama_library
from palo_cpp.machine import n_physical_cores

from .file_types import FILE_TYPES
from .stored_tensor import n_elements
from .tensor_spec import TensorSpec

_TASK_VALUES = 1 << 20  # of one thread at a time
_LARGEST = 1e9  # no block's scale holds such values, and with 1e15 ggml's search for iq3_s ends the process


def block_size(type_name: str) -> tuple[int, int]:
    """Values in a block, and its bytes."""
    import gguf

    n_values, n_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[type_name]]
    return n_values, n_bytes


def tensor_bytes(shape: tuple[int, ...], type_name: str) -> int:
    """Size of a tensor's data."""
    n_values, n_bytes = block_size(type_name)
    return n_elements(shape) // n_values * n_bytes


def estimated_bytes(shapes: list[tuple[int, ...]], outtype: str) -> int:
    """About how large tensors of these shapes become; llama.cpp keeps some at a finer type, hence the margin."""
    bits = FILE_TYPES[outtype][1] * 1.08
    return int(sum(n_elements(shape) * (32 if len(shape) == 1 else bits) / 8 for shape in shapes))


def output_type(spec: TensorSpec, outtype: str) -> str:
    """Type of one tensor in a file of type `outtype` (f32, f16, bf16 or q8_0)."""
    if spec.precision == "f32" or len(spec.gguf_shape) == 1:
        return "F32"
    if spec.precision == "conv_f16" or (spec.precision == "conv" and outtype != "f32"):
        return "F16"
    chosen = outtype.upper()
    return "F16" if spec.gguf_shape[-1] % block_size(chosen)[0] else chosen


def quantize_rows(rows: NDArray[np.float32], type_name: str, name: str, n_threads: int = 0) -> NDArray[np.uint8]:
    """Quantize as llama.cpp's quantizer does, in threads: the same function for the same rows.

    Args:
        rows: [n_rows, n_columns] f32, finite; whole blocks in a row.
        type_name: by ggml's name in capitals.
        name: of the tensor, for messages.
        n_threads: 0 for the physical cores this process may use.

    Returns:
        [n_rows, bytes of a row].

    Raises:
        ModelFormatError: values that the type cannot hold.
    """
    import gguf

    ggml, number = _functions(), int(gguf.GGMLQuantizationType[type_name])
    n_rows, n_columns = rows.shape
    rows, quantized = np.ascontiguousarray(rows), np.empty((n_rows, tensor_bytes((n_columns,), type_name)), np.uint8)
    step = max(1, _TASK_VALUES // n_columns)
    ggml.ggml_quantize_init(number)  # tables that some types need; two threads must not make them at once

    def quantize(start: int) -> bool:
        end = min(start + step, n_rows)
        target = quantized[start:end]
        if np.abs(rows[start:end]).max() > _LARGEST:
            return False
        ggml.ggml_quantize_chunk(number, _floats(rows[start:end]), target.ctypes.data, 0, end - start, n_columns, None)
        return bool(ggml.ggml_validate_row_data(number, target.ctypes.data, target.nbytes))

    with ThreadPoolExecutor(n_threads or n_physical_cores()) as threads:
        if not all(threads.map(quantize, range(0, n_rows, step))):
            raise ModelFormatError(
                f"tensor {name}: expected values that fit {type_name}, got larger ones; choose f16, bf16 or f32"
            )
    return quantized


def _floats(values: NDArray[np.float32]) -> Any:
    return values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


@cache
def _functions() -> Any:
    """The functions of ggml.h, declared on the library that llama.cpp itself uses."""
    library = llama_library()._lib  # a handle finds the symbols of what it links to: libggml-base
    floats, index, size = ctypes.POINTER(ctypes.c_float), ctypes.c_int64, ctypes.c_size_t
    signatures: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "ggml_quantize_init": (None, (ctypes.c_int,)),
        "ggml_quantize_chunk": (size, (ctypes.c_int, floats, ctypes.c_void_p, index, index, index, floats)),
        "ggml_validate_row_data": (ctypes.c_bool, (ctypes.c_int, ctypes.c_void_p, size)),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
