"""One row of a family's table: which tensor of a checkpoint becomes which tensor of a GGUF file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .stored_tensor import Shape

# Name in the checkpoint, name in the GGUF file, and the shape as letters; `{i}` in the names is the layer.
Row = tuple[str, str, str]
# Values of `source`, then of each operand, f32 -> values f32 in the shape of the GGUF file.
Transform = Callable[..., NDArray[np.float32]]


@dataclass(frozen=True)
class TensorSpec:
    """One tensor that must be there.

    Attributes:
        source: canonical name in the checkpoint.
        gguf: name in the GGUF file.
        shape: in the checkpoint, row-major.
        gguf_shape: in the GGUF file, row-major; differs where 1x1 convolutions become matrices.
        precision: `any` (the chosen type), `f32` (always), `conv_f16` (always f16), `conv` (f16, or f32 in f32 files).
        transform: computes the file's values, such as rows in another order, a folded scale or a sum with `operands`;
            None where they are the checkpoint's own.
        operands: canonical names and shapes of further tensors that `transform` takes.
    """

    source: str
    gguf: str
    shape: Shape
    gguf_shape: Shape
    precision: str = "any"
    transform: Transform | None = None
    operands: tuple[tuple[str, Shape], ...] = ()

    @property
    def sources(self) -> tuple[tuple[str, Shape], ...]:
        """Names and shapes of everything that is read for it."""
        return ((self.source, self.shape), *self.operands)


def layered(rows: tuple[Row, ...], n_layer: int) -> Iterator[Row]:
    """Repeat the rows of a layer for each layer, where they are."""
    first = next(i for i, row in enumerate(rows) if "{i}" in row[0])
    last = max(i for i, row in enumerate(rows) if "{i}" in row[0])
    yield from rows[:first]
    for i in range(n_layer):
        for source, gguf, letters in rows[first : last + 1]:
            yield source.format(i=i), gguf.format(i=i), letters
    yield from rows[last + 1 :]
