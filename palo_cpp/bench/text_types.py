"""Which type llama.cpp's quantizer would give each tensor of a decoder, so that random files have the true mixture.

Source: llama.cpp at our pin, src/llama-quant.cpp, `llama_tensor_get_type_impl`; a test compares with the quantizer.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from palo_cpp.convert.tensor_spec import TensorSpec
from palo_cpp.errors import ArgumentError

# outtype -> type of most matrices
TEXT_TYPES = {
    "f32": "F32",
    "f16": "F16",
    "bf16": "BF16",
    "q8_0": "Q8_0",
    "q6_k": "Q6_K",
    "q5_0": "Q5_0",
    "q5_1": "Q5_1",
    "q5_k_s": "Q5_K",
    "q5_k_m": "Q5_K",
    "q4_0": "Q4_0",
    "q4_1": "Q4_1",
    "q4_k_s": "Q4_K",
    "q4_k_m": "Q4_K",
}
_UNQUANTIZED = ("f32", "f16", "bf16", "q8_0")


def check_text_type(outtype: str) -> str:
    """The type in lower case.

    Raises:
        ArgumentError: a type that no random weights are made for.
    """
    if outtype.lower() not in TEXT_TYPES:
        raise ArgumentError(f"--outtype: expected one of {', '.join(TEXT_TYPES)}, got {outtype!r}")
    return outtype.lower()


def text_type(spec: TensorSpec, outtype: str, n_layer: int) -> str:
    """Type of one tensor, by the gguf package's names."""
    if len(spec.gguf_shape) == 1:
        return "F32"
    main = TEXT_TYPES[outtype]
    if outtype in _UNQUANTIZED:
        return main
    if spec.gguf == "output.weight":
        return "Q6_K"
    match = re.fullmatch(r"blk\.(\d+)\.(attn_v|ffn_down)\.weight", spec.gguf)
    return _finer(outtype, match[2], int(match[1]), n_layer) or main if match else main


def _finer(outtype: str, part: str, layer: int, n_layer: int) -> str | None:
    """The finer type of a matrix that errors hurt most, or None."""
    if outtype in ("q4_k_m", "q5_k_m"):
        return "Q6_K" if _gets_more_bits(layer, n_layer) else None
    if outtype == "q4_k_s":
        n_first = 4 if part == "attn_v" else n_layer // 8
        return "Q5_K" if layer < n_first else None
    return None


def _gets_more_bits(layer: int, n_layer: int) -> bool:
    first = n_layer // 8
    return layer < first or layer >= 7 * n_layer // 8 or (layer - first) % 3 == 2


TypeOf = Callable[[TensorSpec], str]
