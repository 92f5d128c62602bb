"""Which type each matrix of CPM-Bee gets: llama.cpp's quantizer does not know the architecture, so the rule is ours.

The embedding is also the matrix of the logits, and no longer answer survives coarse ones: it is never below Q6_K. In
the mixtures `attn_v` and `ffn_down` get Q6_K in the layers that llama.cpp gives it to in a LLaMA (llama-quant.cpp,
`use_more_bits`: the first and the last eighth, and every third between).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from palo_cpp.errors import ArgumentError

from ...block_types import block_size
from ...file_types import UNQUANTIZED
from ...tensor_spec import TensorSpec

TYPES = (*UNQUANTIZED, "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0")
EMBEDDING = "token_embd.weight"
_MAIN = {"q8_0": "Q8_0", "q6_k": "Q6_K", "q5_k_m": "Q5_K", "q4_k_m": "Q4_K", "q4_0": "Q4_0"}
_MIXED = ("q5_k_m", "q4_k_m")
_FINER = re.compile(r"blk\.(\d+)\.(attn_v|ffn_down)\.weight")
# Where rows are no whole blocks of 256: the next finer type with blocks of 32, or none.
_FALLBACKS = ("Q8_0", "F16")


def cpm_bee_types(specs: Sequence[TensorSpec], outtype: str) -> dict[str, str]:
    """Types of the matrices in a file of type `outtype`, by their names; empty where all have that type.

    Raises:
        ArgumentError: no such mixture.
    """
    if outtype in UNQUANTIZED:
        return {}
    if outtype not in _MAIN:
        raise ArgumentError(f"type: expected one of {', '.join(TYPES)}, got {outtype!r}; choose one of them")
    matrices = [spec for spec in specs if spec.precision == "any" and len(spec.gguf_shape) == 2]
    n_layer = 1 + max((int(match[1]) for spec in matrices if (match := _FINER.fullmatch(spec.gguf))), default=0)
    return {spec.gguf: _fitting(_type(spec.gguf, outtype, n_layer), spec) for spec in matrices}


def _type(name: str, outtype: str, n_layer: int) -> str:
    if name == EMBEDDING:
        return "Q8_0" if outtype == "q8_0" else "Q6_K"
    match = _FINER.fullmatch(name)
    return "Q6_K" if match and outtype in _MIXED and has_more_bits(int(match[1]), n_layer) else _MAIN[outtype]


def has_more_bits(layer: int, n_layer: int) -> bool:
    """Whether a layer is one of the first or last eighth, or every third between."""
    eighth = n_layer // 8
    return layer < eighth or layer >= 7 * n_layer // 8 or (layer - eighth) % 3 == 2


def _fitting(type_name: str, spec: TensorSpec) -> str:
    return next(each for each in (type_name, *_FALLBACKS) if spec.gguf_shape[-1] % block_size(each)[0] == 0)
