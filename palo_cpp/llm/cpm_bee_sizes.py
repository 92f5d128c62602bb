"""What a GGUF file of CPM-Bee must say before it is loaded, and what it will take, from its header alone.

Keys and tensors: convert/families/viscpm/tensor_rows.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from palo_cpp.errors import ArgumentError, ModelFormatError
from palo_cpp.ggml.gguf_header import GgufHeader
from palo_cpp.llm.text_sizes import TextSizes

ARCHITECTURE = "cpmbee"
N_PATHS_MAX = 16  # csrc/cpm_bee/path_cells.h
N_PROMPT_MAX = 1 << 14  # csrc/cpm_bee/cpm_bee.cpp
# What the official chat lets an answer take: 512 tokens and the one that ends it.
N_ANSWER = 513
_N_LAYER_MAX = 512
_MIB = 1 << 20
# What the core is built with -> key of the file, without the architecture.
_SIZES = {
    "n_vocab": "vocab_size",
    "n_embd": "embedding_length",
    "n_head": "attention.head_count",
    "n_layer": "block_count",
    "n_ff": "feed_forward_length",
    "n_position_buckets": "position_bias.position_buckets",
    "n_segment_buckets": "position_bias.segment_buckets",
    "max_distance": "position_bias.max_distance",
}
_NUMBERS = {
    "eps": "attention.layer_norm_rms_epsilon",
    "embedding_scale": "embedding_scale",
    "logit_scale": "logit_scale",
    "residual_divisor": "residual_divisor",
    "rotary_scale": "rotary.scale",
    "rotary_base": "rotary.base",
}


def check_cpm_bee(header: GgufHeader) -> None:
    """Refuse a GGUF file that is no CPM-Bee; its tensors are checked as they are loaded.

    Raises:
        ModelFormatError: says what is wrong with it.
    """
    core_settings(header)
    n_vocab, n_layer = int(_value(header, "vocab_size")), int(_value(header, "block_count"))
    if len(header.tokens) != n_vocab:
        raise _wrong(header, f"{n_vocab} tokens", str(len(header.tokens)))
    if n_layer > _N_LAYER_MAX:
        raise _wrong(header, f"at most {_N_LAYER_MAX} layers", str(n_layer))
    n_head, n_embd = int(_value(header, "attention.head_count")), int(_value(header, "embedding_length"))
    if _value(header, "attention.head_count_kv", n_head) != n_head:
        raise _wrong(header, f"{n_head} heads of keys", repr(_value(header, "attention.head_count_kv")))
    for key in ("attention.key_length", "attention.value_length"):
        if _value(header, key, n_embd // n_head) != n_embd // n_head:
            raise _wrong(header, f"{ARCHITECTURE}.{key} {n_embd // n_head}", repr(_value(header, key)))
    n_ctx = _value(header, "context_length")
    if isinstance(n_ctx, bool) or not isinstance(n_ctx, int) or not 0 < n_ctx < 2**31:
        raise _wrong(header, f"a positive {ARCHITECTURE}.context_length", repr(n_ctx))
    if _value(header, "scales_folded") is not True:
        raise _wrong(header, "matrices that hold their divisors (scales_folded)", repr(_value(header, "scales_folded")))


def core_settings(header: GgufHeader) -> dict[str, int | float]:
    """Sizes and numbers of a model, by the names under which the core takes them.

    Raises:
        ModelFormatError: one is absent or cannot be true.
    """
    if header.metadata.get("general.architecture") != ARCHITECTURE:
        raise _wrong(header, f"the architecture {ARCHITECTURE}", repr(header.metadata.get("general.architecture")))
    settings: dict[str, int | float] = {}
    for name, key in _SIZES.items():
        value = _value(header, key)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
            raise _wrong(header, f"a positive {ARCHITECTURE}.{key}", repr(value))
        settings[name] = value
    for name, key in _NUMBERS.items():
        value = _value(header, key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise _wrong(header, f"a positive number in {ARCHITECTURE}.{key}", repr(value))
        settings[name] = float(value)
    return settings


def cpm_bee_sizes(header: GgufHeader) -> TextSizes:
    """The sizes of a file that was checked."""
    return TextSizes.of(header, ARCHITECTURE)


def n_cells_of(n_ctx: int, n_paths: int) -> int:
    """Tokens that a prompt and all paths of its answer may take together.

    Args:
        n_ctx: tokens of the prompt and one path.
        n_paths: paths of a search.

    Returns:
        Room for a prompt and answers of `N_ANSWER` tokens that share nothing.
    """
    return n_ctx + (n_paths - 1) * min(n_ctx, N_ANSWER)


def checked_n_paths(n_paths: int) -> int:
    """The paths that a search may follow.

    Raises:
        ArgumentError: out of range.
    """
    if not 1 <= n_paths <= N_PATHS_MAX:
        raise ArgumentError(f"n_paths: expected 1 to {N_PATHS_MAX}, got {n_paths}")
    return n_paths


@dataclass(frozen=True)
class CpmBeeMemory:
    """What a model will take at most, in bytes; what a short conversation never touches is never taken.

    Attributes:
        weights: of the file.
        kv_cache: keys and values of the context, f16.
        compute: buffers for a prompt that fills the context, above all the bias of each two tokens.
    """

    weights: int
    kv_cache: int
    compute: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv_cache + self.compute


def estimate_cpm_bee_memory(
    header: GgufHeader, *, n_ctx: int, n_paths: int = 3, n_prompt: int | None = None
) -> CpmBeeMemory:
    """What a model will take, from the header of its file alone.

    Args:
        header: it was checked.
        n_ctx: tokens of context.
        n_paths: paths of a search.
        n_prompt: tokens of the longest prompt; None for one that fills the context.
    """
    sizes = cpm_bee_sizes(header)
    n_rows = min(n_ctx, N_PROMPT_MAX) if n_prompt is None else n_prompt
    # The mask in f16; f32 activations: the residual stream, what is normalized, queries, keys, values, and the two
    # halves of the feed-forward part, each with its quantized copy; logits and attention's work space.
    mask = 2 * sizes.n_head * n_rows * n_rows
    activations = 4 * n_rows * (8 * sizes.n_embd + 4 * sizes.n_ff)
    compute = mask + activations + 4 * n_paths * sizes.n_vocab + 32 * _MIB
    weights = sum(tensor.n_bytes for tensor in header.tensors.values())
    return CpmBeeMemory(weights, n_cells_of(n_ctx, n_paths) * sizes.n_cell_bytes, compute)


def _value(header: GgufHeader, key: str, default: Any = None) -> Any:
    return header.metadata.get(f"{ARCHITECTURE}.{key}", default)


def _wrong(header: GgufHeader, expected: str, got: str) -> ModelFormatError:
    return ModelFormatError(f"{header.path.name}: expected {expected}, got {got}; convert the checkpoint again")
