"""What a GGUF file of random weights holds: a family's own tensors and keys, as its converter writes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from palo_cpp.convert.families.family import FileKind
from palo_cpp.convert.tensor_spec import TensorSpec

if TYPE_CHECKING:
    import gguf

TypeOf = Callable[[TensorSpec], str]
# Standard deviation and mean of a tensor's values.
Spread = Callable[[TensorSpec], tuple[float, float]]


def even_spread(spec: TensorSpec) -> tuple[float, float]:
    """Norms stay near one, and a matrix keeps the variance of what it multiplies."""
    shape = spec.gguf_shape
    if len(shape) == 1:
        return (0.1, 1.0) if spec.gguf.endswith(".weight") else (0.02, 0.0)
    return float(np.prod(shape[1:])) ** -0.5, 0.0


@dataclass(frozen=True)
class RandomFile:
    """One file.

    Attributes:
        kind: which of the family's files it is.
        specs: its tensors, in this order.
        type_of: type of a tensor, by the gguf package's names.
        add_keys: writes its keys: sizes, and a made-up vocabulary where it has one.
        spread: of a tensor's values.
    """

    kind: FileKind
    specs: list[TensorSpec]
    type_of: TypeOf
    add_keys: Callable[[gguf.GGUFWriter], None]
    spread: Spread = even_spread


class ModelSizes(Protocol):
    """One model on paper.

    Attributes:
        name: what users call it.
    """

    @property
    def name(self) -> str:
        """What users call it."""

    def text_file(self, outtype: str) -> RandomFile:
        """The language model's.

        Raises:
            ArgumentError: an unknown type.
        """

    def mmproj_file(self, outtype: str) -> RandomFile:
        """The vision tower's and the projector's, of a type that was checked."""

    def stub(self) -> ModelSizes:
        """The same model with next to no language model, where images alone are encoded."""
