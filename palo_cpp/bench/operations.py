"""What an image and a prompt cost in operations, of which a multiply-add is two: for shares of a machine's peak."""

from __future__ import annotations

from palo_cpp.llm.text_sizes import TextSizes
from palo_cpp.models.weight_types import n_products_per_token


def prefill_operations(sizes: TextSizes, n_tokens: int, *, is_causal: bool) -> int:
    """Operations of a prompt's products: with weights, of queries with keys, of weights of attention with values.

    Args:
        sizes: of the language model.
        n_tokens: of the prompt.
        is_causal: a token sees only those before it; else all see each other.
    """
    n_seen = n_tokens * (n_tokens + 1) // 2 if is_causal else n_tokens**2
    attention = sizes.n_layer * sizes.n_head * (sizes.n_key + sizes.n_value) * n_seen
    logits = sizes.n_vocab * sizes.n_embd  # of the last token alone
    last = _feed_forward(sizes)  # of the last token alone, too
    return 2 * (n_tokens * n_products_per_token(sizes) + attention + logits + last)


def _feed_forward(sizes: TextSizes) -> int:
    return 3 * sizes.n_embd * sizes.n_ff
