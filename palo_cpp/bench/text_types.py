"""Which type llama.cpp's quantizer would give each tensor of a decoder, so that random files have the true mixture."""

from __future__ import annotations

from collections.abc import Callable

from palo_cpp.convert.tensor_spec import TensorSpec
from palo_cpp.models.weight_types import checked_outtype, matrix_type


def check_text_type(outtype: str) -> str:
    """The type in lower case.

    Raises:
        ArgumentError: a type that no random weights are made for.
    """
    return checked_outtype(outtype, "--outtype")


def text_type(spec: TensorSpec, outtype: str, n_layer: int) -> str:
    """Type of one tensor, by the gguf package's names."""
    return "F32" if len(spec.gguf_shape) == 1 else matrix_type(spec.gguf, outtype, n_layer)


TypeOf = Callable[[TensorSpec], str]
