"""A tensor that still lies in a file: where it is, and how its values are read when they are wanted.

Values are read with plain `readinto`, not through a memory map: a map of a 10 GB shard counts as resident memory page
by page, and a file that is cut short while mapped ends the process with SIGBUS instead of an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import ModelFormatError

DTYPE_SIZE = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
FLOAT_DTYPES = ("F32", "F16", "BF16")
_NUMPY = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # NumPy has no bfloat16: its bits travel as uint16

Shape = tuple[int, ...]
Feed = Callable[[bytes | bytearray], None]  # takes the bytes of a tensor as they are read


def n_elements(shape: Shape) -> int:
    """Number of values in a tensor of this shape."""
    return math.prod(shape)


class SourceTensor(Protocol):
    """What the converter needs of a tensor: a stored one, or one that is computed from several (LoRA)."""

    @property
    def name(self) -> str:
        """Name in the checkpoint."""

    @property
    def shape(self) -> Shape:
        """Row-major, outermost first."""

    @property
    def dtype(self) -> str:
        """`F32`, `F16`, `BF16`, or an integer type of `DTYPE_SIZE`."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """Files that it is read from."""

    def read(self, feed: Feed | None = None) -> NDArray[Any]:
        """Values in `shape`; bf16 as its bits in uint16. `feed` also receives the bytes (for the pair id)."""


Tensors = dict[str, SourceTensor]  # by their names


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of one file.

    Attributes:
        name: its name in the checkpoint.
        shape: row-major, outermost first.
        dtype: a key of `DTYPE_SIZE`.
        path: the file.
        offset: of its first value, in bytes from the start of the file; inside the file (its reader has checked).
        strides: in elements, as PyTorch writes them; None means row-major without gaps.
    """

    name: str
    shape: Shape
    dtype: str
    path: Path
    offset: int
    strides: Shape | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file that it is read from."""
        return (self.path,)

    def read(self, feed: Feed | None = None) -> NDArray[Any]:
        """Read the values.

        Raises:
            ModelFormatError: the tensor holds no floating-point weights, or the file ends early.
        """
        if self.dtype not in _NUMPY:
            raise ModelFormatError(f"{self.path}: tensor {self.name}: expected F32, F16 or BF16, got {self.dtype}")
        data = bytearray(self._span() * DTYPE_SIZE[self.dtype])
        with self.path.open("rb") as file:
            file.seek(self.offset)
            if file.readinto(data) != len(data):
                raise ModelFormatError(f"{self.path}: the file ends inside tensor {self.name}; fetch it again")
        if feed is not None:
            feed(data)
        values: NDArray[Any] = np.frombuffer(data, dtype=_NUMPY[self.dtype])
        if self._is_contiguous():
            return values.reshape(self.shape)
        strides = [s * values.itemsize for s in self.strides or ()]
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(values, self.shape, strides, writeable=False))

    def _span(self) -> int:
        """Elements between the first value and the last, both included."""
        if self._is_contiguous() or n_elements(self.shape) == 0:
            return n_elements(self.shape)
        return 1 + sum((d - 1) * s for d, s in zip(self.shape, self.strides or (), strict=True))

    def _is_contiguous(self) -> bool:
        return self.strides is None or self.strides == row_major_strides(self.shape)


def row_major_strides(shape: Shape) -> Shape:
    """Strides in elements of a row-major tensor without gaps."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


@dataclass(frozen=True)
class LoraTensor:
    """A weight with its low-rank update: W = W_base + scale * B A (arXiv 2106.09685, section 4.1), in float32.

    Attributes:
        base: W_base [n_out, n_in].
        a: A [r, n_in].
        b: B [n_out, r].
        scale: alpha / r.
    """

    base: SourceTensor
    a: SourceTensor
    b: SourceTensor
    scale: float

    @property
    def name(self) -> str:
        """Name of the weight that is updated."""
        return self.base.name

    @property
    def shape(self) -> Shape:
        """Shape of the weight that is updated."""
        return self.base.shape

    @property
    def dtype(self) -> str:
        """The sum is float32 whatever its parts are."""
        return "F32"

    @property
    def paths(self) -> tuple[Path, ...]:
        """Files of the weight and of both matrices."""
        return (*self.base.paths, *self.a.paths, *self.b.paths)

    def read(self, feed: Feed | None = None) -> NDArray[np.float32]:
        """Compute the merged weight [n_out, n_in]."""
        a, b = (to_float32(t.read(feed), t.dtype) for t in (self.a, self.b))
        weight = to_float32(self.base.read(feed), self.base.dtype)
        weight += (b * np.float32(self.scale)) @ a
        return weight


def to_float32(values: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """Widen f16 or bf16 (as bits in uint16) to float32; every such value is exact in float32."""
    if dtype == "BF16":
        wide = values.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    return values.astype(np.float32, copy=False)
