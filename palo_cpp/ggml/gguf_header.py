"""The header of a GGUF file: metadata and tensor table, read by llama.cpp's own parser.

The `gguf` package parses a vocabulary of 32000 entries in Python, which takes longer than loading the model does, and
trusts the file: a count of 2**60 makes it loop until memory is gone. The C parser needs milliseconds, checks every
length, count and offset against the file, and never touches the tensors' data.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from palo_cpp.errors import ModelFormatError, ModelNotFoundError
from palo_cpp.ggml.llama_library import llama_library, recorded_errors

Scalar = str | int | float | bool

_TYPE_BOOL, _TYPE_STRING, _TYPE_ARRAY = 7, 8, 9
# Longer arrays are the vocabulary's; only their length is read.
_MAX_NUMBERS = 64
_MAX_STRINGS, _MAX_STRING_BYTES = 256, 256
_LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4}")  # BCP 47: `hi`, `zh-Hans`
_SAMPLE_BYTES = 4096
# gguf_type -> (ending of gguf_get_val_*, its C type)
_SCALARS: dict[int, tuple[str, Any]] = {
    0: ("u8", ctypes.c_uint8),
    1: ("i8", ctypes.c_int8),
    2: ("u16", ctypes.c_uint16),
    3: ("i16", ctypes.c_int16),
    4: ("u32", ctypes.c_uint32),
    5: ("i32", ctypes.c_int32),
    6: ("f32", ctypes.c_float),
    7: ("bool", ctypes.c_bool),
    8: ("str", ctypes.c_char_p),
    10: ("u64", ctypes.c_uint64),
    11: ("i64", ctypes.c_int64),
    12: ("f64", ctypes.c_double),
}


@dataclass(frozen=True)
class TensorInfo:
    """One entry of the tensor table.

    Attributes:
        name: its name, such as `blk.0.attn_q.weight`.
        shape: dimensions in ggml's order, innermost first.
        type: ggml_type, 0 = f32, 1 = f16, ...
        n_bytes: size of its data.
        offset: where its data begin in the file.
    """

    name: str
    shape: tuple[int, ...]
    type: int
    n_bytes: int
    offset: int


@dataclass(frozen=True)
class GgufHeader:
    """Metadata and tensor table of one GGUF file.

    Attributes:
        path: the file.
        size_bytes: its size.
        metadata: key -> value, for the keys that hold a single value.
        arrays: key -> number of elements, for the keys that hold an array.
        numbers: key -> elements, for short arrays of numbers.
        tokens: `tokenizer.ggml.tokens` as bytes; empty where the file has none.
        tensors: name -> entry of the tensor table.
        strings: key -> elements, for short arrays of short strings.
    """

    path: Path
    size_bytes: int
    metadata: dict[str, Scalar]
    arrays: dict[str, int]
    numbers: dict[str, list[int | float]]
    tokens: list[bytes] = field(repr=False)
    tensors: dict[str, TensorInfo] = field(repr=False)
    strings: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def languages(self) -> tuple[str, ...]:
        """The tags of `general.languages`, in the file's order; whatever is no language tag is left out."""
        return tuple(tag for tag in self.strings.get("general.languages", ()) if _LANGUAGE_TAG.fullmatch(tag))

    @property
    def is_mmproj(self) -> bool:
        """True for the file of vision tower and projector."""
        return self.metadata.get("general.architecture") == "clip" or self.metadata.get("general.type") == "mmproj"

    @property
    def pair_id(self) -> str | None:
        """The id that both files of one conversion share; None in files that others wrote."""
        value = self.metadata.get("palo.pair_id")
        return value if isinstance(value, str) else None

    def weights_id(self) -> str:
        """What distinguishes the file from others, wherever it is: 64 hexadecimal digits, in 3 ms.

        A digest of its size, its header and the first 4 KiB of every tensor: one that was trained further or quantized
        otherwise differs there. Reading all of PALO-7B's vision tower would take half a second.
        """
        digest = hashlib.sha256(f"{self.size_bytes}\n".encode())
        with self.path.open("rb") as file:
            digest.update(file.read(min((tensor.offset for tensor in self.tensors.values()), default=-1)))
            for sample in self._samples(file, self.tensors.values()):
                digest.update(sample)
        return digest.hexdigest()

    def tensors_id(self, prefix: str) -> str:
        """What distinguishes the tensors whose names begin so from another file's, in any order; as in `weights_id`."""
        tensors = [self.tensors[name] for name in sorted(self.tensors) if name.startswith(prefix)]
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            for tensor, sample in zip(tensors, self._samples(file, tensors), strict=True):
                digest.update(f"{tensor.name} {tensor.shape} {tensor.type}\n".encode() + sample)
        return digest.hexdigest()

    @staticmethod
    def _samples(file: BinaryIO, tensors: Iterable[TensorInfo]) -> Iterator[bytes]:
        for tensor in tensors:
            file.seek(tensor.offset)
            yield file.read(min(tensor.n_bytes, _SAMPLE_BYTES))


def read_header(path: Path) -> GgufHeader:
    """Read metadata and tensor table of a GGUF file.

    Args:
        path: the file.

    Returns:
        The header; every tensor named in it lies within the file.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelFormatError: it is not GGUF, damaged, or shorter than its tensor table says.
    """
    _check_magic(path)
    gguf = _functions()
    with recorded_errors() as errors:
        context = gguf.gguf_init_from_file(os.fsencode(path), _InitParams(no_alloc=True, ctx=None))
        if not context:
            reason = _printable(errors[0]) if errors else "its header cannot be read"
            raise ModelFormatError(
                f"{path.name}: expected a whole GGUF file, got a damaged one ({reason}); copy or convert it again"
            )
    try:
        return _header(gguf, context, path)
    finally:
        gguf.gguf_free(context)


def _check_magic(path: Path) -> None:
    if not path.is_file():
        raise ModelNotFoundError(f"{path}: expected a GGUF file, got no file there; check the path")
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != b"GGUF":
        raise ModelFormatError(
            f"{path.name}: expected a GGUF file, got one that begins with {magic!r}; "
            "`palo-cpp convert FOLDER -o OUT` makes GGUF files from a checkpoint"
        )


def _printable(text: str) -> str:
    """What may be part of a message of one line: names in a file may hold escape sequences."""
    return text if text.isprintable() else ascii(text)


def _header(gguf: Any, context: Any, path: Path) -> GgufHeader:
    metadata: dict[str, Scalar] = {}
    arrays: dict[str, int] = {}
    numbers: dict[str, list[int | float]] = {}
    strings: dict[str, tuple[str, ...]] = {}
    tokens: list[bytes] = []
    for i in range(gguf.gguf_get_n_kv(context)):
        key = gguf.gguf_get_key(context, i).decode("utf-8", "replace")
        kind = gguf.gguf_get_kv_type(context, i)
        if kind != _TYPE_ARRAY:
            value = getattr(gguf, f"gguf_get_val_{_SCALARS[kind][0]}")(context, i)
            metadata[key] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            continue
        arrays[key] = n = gguf.gguf_get_arr_n(context, i)
        kind = gguf.gguf_get_arr_type(context, i)
        if key == "tokenizer.ggml.tokens" and kind == _TYPE_STRING:
            tokens = [gguf.gguf_get_arr_str(context, i, j) for j in range(n)]
        elif kind == _TYPE_STRING and (elements := _short_strings(gguf, context, i, n)) is not None:
            strings[key] = elements
        elif kind not in (_TYPE_BOOL, _TYPE_STRING) and 0 < n <= _MAX_NUMBERS:
            data = ctypes.cast(gguf.gguf_get_arr_data(context, i), ctypes.POINTER(_SCALARS[kind][1]))
            numbers[key] = data[:n]
    size_bytes = path.stat().st_size
    tensors = _tensors(gguf, context, path, size_bytes)
    return GgufHeader(path, size_bytes, metadata, arrays, numbers, tokens, tensors, strings)


def _short_strings(gguf: Any, context: Any, i: int, n: int) -> tuple[str, ...] | None:
    """The strings of an array; None where they are many or one is long, so that no file makes us hold it twice."""
    if n > _MAX_STRINGS:
        return None
    elements: list[str] = []
    for j in range(n):
        element = gguf.gguf_get_arr_str(context, i, j)
        if len(element) > _MAX_STRING_BYTES:
            return None
        elements.append(element.decode("utf-8", "replace"))
    return tuple(elements)


def _tensors(gguf: Any, context: Any, path: Path, size_bytes: int) -> dict[str, TensorInfo]:
    data_offset = gguf.gguf_get_data_offset(context)
    tensors = {}
    for i in range(gguf.gguf_get_n_tensors(context)):
        name = gguf.gguf_get_tensor_name(context, i).decode("utf-8", "replace")
        n_bytes = gguf.gguf_get_tensor_size(context, i)
        offset = data_offset + gguf.gguf_get_tensor_offset(context, i)
        if (end := offset + n_bytes) > size_bytes:
            raise ModelFormatError(
                f"{path.name}: expected at least {end} bytes, got {size_bytes}: cut short; copy or convert it again"
            )
        shape = tuple(gguf.gguf_get_tensor_ne(context, i)[:4])
        tensors[name] = TensorInfo(name, shape, gguf.gguf_get_tensor_type(context, i), n_bytes, offset)
    return tensors


class _InitParams(ctypes.Structure):
    """`struct gguf_init_params` of ggml's gguf.h."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


@cache
def _functions() -> Any:
    """Declare the functions of ggml's gguf.h on the library that llama.cpp itself uses."""
    library = llama_library()._lib  # a handle finds the symbols of what it links to: libggml-base
    context, index, size = ctypes.c_void_p, ctypes.c_int64, ctypes.c_size_t
    signatures: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "init_from_file": (context, (ctypes.c_char_p, _InitParams)),
        "free": (None, (context,)),
        "get_n_kv": (index, (context,)),
        "get_key": (ctypes.c_char_p, (context, index)),
        "get_kv_type": (ctypes.c_int, (context, index)),
        "get_arr_type": (ctypes.c_int, (context, index)),
        "get_arr_n": (size, (context, index)),
        "get_arr_data": (context, (context, index)),
        "get_arr_str": (ctypes.c_char_p, (context, index, size)),
        "get_data_offset": (size, (context,)),
        "get_n_tensors": (index, (context,)),
        "get_tensor_name": (ctypes.c_char_p, (context, index)),
        "get_tensor_ne": (ctypes.POINTER(index), (context, index)),
        "get_tensor_type": (ctypes.c_int, (context, index)),
        "get_tensor_offset": (size, (context, index)),
        "get_tensor_size": (size, (context, index)),
    }
    signatures |= {f"get_val_{name}": (c_type, (context, index)) for name, c_type in _SCALARS.values()}
    for name, (result, arguments) in signatures.items():
        function = getattr(library, f"gguf_{name}")
        function.restype, function.argtypes = result, arguments
    return library
