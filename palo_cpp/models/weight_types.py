"""Which type llama.cpp's quantizer gives each tensor of a decoder, and what a decoder of given sizes weighs so.

Source: llama.cpp at our pin, src/llama-quant.cpp, `llama_tensor_get_type_impl`; a test of `bench` compares with the
quantizer.
"""

from __future__ import annotations

import math
import re

from palo_cpp.errors import ArgumentError
from palo_cpp.llm.text_sizes import TextSizes

# outtype -> type of most matrices
MAIN_TYPES = {
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


def checked_outtype(outtype: str, what: str = "outtype") -> str:
    """The type in lower case.

    Raises:
        ArgumentError: a type whose mixture is not known.
    """
    if outtype.lower() not in MAIN_TYPES:
        raise ArgumentError(f"{what}: expected one of {', '.join(MAIN_TYPES)}, got {outtype!r}")
    return outtype.lower()


def matrix_type(name: str, outtype: str, n_layer: int) -> str:
    """Type of one matrix, by the gguf package's names.

    Args:
        name: of the tensor in a GGUF file.
        outtype: of the whole file, in lower case.
        n_layer: layers of the decoder.
    """
    main = MAIN_TYPES[outtype]
    if outtype in _UNQUANTIZED:
        return main
    if name == "output.weight":  # or "token_embd.weight" where that is it: see `decoder_bytes`
        return "Q6_K"
    match = re.fullmatch(r"blk\.(\d+)\.(attn_v|ffn_down)\.weight", name)
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


def decoder_bytes(sizes: TextSizes, outtype: str) -> dict[str, int]:
    """Bytes of a decoder's tensors as that type, by their names in a GGUF file.

    Args:
        sizes: of a decoder built as LLaMA.
        outtype: as `checked_outtype` gives it.
    """
    found = {}
    for name, shape in _shapes(sizes).items():
        role = "output.weight" if sizes.is_tied and name == "token_embd.weight" else name
        kind = "F32" if len(shape) == 1 else matrix_type(role, outtype, sizes.n_layer)
        found[name] = _n_bytes(math.prod(shape), kind)
    return found


def _shapes(sizes: TextSizes) -> dict[str, tuple[int, ...]]:
    n_embd, n_query = sizes.n_embd, sizes.n_head * sizes.n_key
    layer = {
        "attn_norm": (n_embd,),
        "attn_q": (n_query, n_embd),
        "attn_k": (sizes.n_head_kv * sizes.n_key, n_embd),
        "attn_v": (sizes.n_head_kv * sizes.n_value, n_embd),
        "attn_output": (n_embd, sizes.n_head * sizes.n_value),
        "ffn_norm": (n_embd,),
        "ffn_gate": (sizes.n_ff, n_embd),
        "ffn_up": (sizes.n_ff, n_embd),
        "ffn_down": (n_embd, sizes.n_ff),
    }
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (sizes.n_vocab, n_embd)}
    for i in range(sizes.n_layer):
        shapes |= {f"blk.{i}.{name}.weight": shape for name, shape in layer.items()}
    output = {} if sizes.is_tied else {"output.weight": (sizes.n_vocab, n_embd)}
    return shapes | {"output_norm.weight": (n_embd,)} | output


def n_products_per_token(sizes: TextSizes) -> int:
    """Multiplications of one token of a prompt.

    llama.cpp drops all rows but the last before the last layer's feed-forward part, and so before the output matrix.
    """
    last = sizes.n_layer - 1
    matrices = {name: shape for name, shape in _shapes(sizes).items() if len(shape) == 2 and name.startswith("blk.")}
    return sum(math.prod(shape) for name, shape in matrices.items() if not name.startswith(f"blk.{last}.ffn_"))


def _n_bytes(n_values: int, kind: str) -> int:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    n_values_per_block, n_bytes_per_block = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    return n_values // n_values_per_block * n_bytes_per_block
