"""The sizes of a language model, read from its header once and in one place."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from palo_cpp.errors import ArgumentError
from palo_cpp.ggml.gguf_header import GgufHeader

logger = logging.getLogger(__name__)

# A KV cache for more than this is not taken without being asked for: 4096 tokens of PALO-7B are 2 GiB.
DEFAULT_N_CTX_MAX = 4096
N_CTX_MIN, N_CTX_MAX = 16, 1 << 20


@dataclass(frozen=True)
class TextSizes:
    """Sizes of a decoder.

    Attributes:
        n_embd, n_ff, n_layer: width, width of the feed-forward part, layers.
        n_head, n_head_kv: heads of queries, and of keys and values.
        n_key, n_value: width of one head's key and value.
        n_vocab: tokens.
        n_ctx_train: tokens of context that the base was trained with.
        n_ctx: tokens of context that a model gets where the user names no number.
        is_tied: the matrix of the logits is that of the embeddings.
    """

    n_embd: int
    n_ff: int
    n_layer: int
    n_head: int
    n_head_kv: int
    n_key: int
    n_value: int
    n_vocab: int
    n_ctx_train: int
    n_ctx: int
    is_tied: bool = False

    @classmethod
    def of(cls, header: GgufHeader, architecture: str = "llama") -> TextSizes:
        """Read them.

        Args:
            header: of a file that was checked: all sizes are there and plausible.
            architecture: what the keys begin with.
        """

        def size(key: str, default: int | None = None) -> int:
            return int(header.metadata.get(f"{architecture}.{key}", default))  # type: ignore[arg-type]  # it was checked

        n_embd, n_head = size("embedding_length"), size("attention.head_count")
        return cls(
            n_embd=n_embd,
            n_ff=size("feed_forward_length"),
            n_layer=size("block_count"),
            n_head=n_head,
            n_head_kv=size("attention.head_count_kv", n_head),
            n_key=size("attention.key_length", n_embd // n_head),
            n_value=size("attention.value_length", n_embd // n_head),
            n_vocab=len(header.tokens),
            n_ctx_train=size("context_length"),
            n_ctx=_default_n_ctx(header, architecture),
            is_tied="output.weight" not in header.tensors,
        )

    @property
    def n_cell_bytes(self) -> int:
        """Bytes of keys and values of one position, in f16."""
        return 2 * self.n_layer * self.n_head_kv * (self.n_key + self.n_value)


def checked_n_ctx(n_ctx: int, sizes: TextSizes) -> int:
    """The tokens of context that a user asks for; a warning where the model was trained with fewer.

    Args:
        n_ctx: 0 takes what the model was trained with.
        sizes: of the model.

    Raises:
        ArgumentError: out of range.
    """
    if n_ctx != 0 and not N_CTX_MIN <= n_ctx <= N_CTX_MAX:
        raise ArgumentError(f"n_ctx: expected 0 (the model's) or {N_CTX_MIN} to {N_CTX_MAX}, got {n_ctx}")
    if n_ctx > sizes.n_ctx_train:
        logger.warning(
            "n_ctx is %d but the model was trained with %d: answers far into it will suffer", n_ctx, sizes.n_ctx_train
        )
    return n_ctx or sizes.n_ctx


def _default_n_ctx(header: GgufHeader, architecture: str) -> int:
    """What PALO was trained with (`palo.context_length`), else what its base was."""
    lengths = [header.metadata.get(f"{prefix}.context_length") for prefix in ("palo", architecture)]
    trained = next((n for n in lengths if isinstance(n, int) and n >= N_CTX_MIN), DEFAULT_N_CTX_MAX)
    return min(trained, DEFAULT_N_CTX_MAX)
