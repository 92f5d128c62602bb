"""The language model: tokens or embeddings in, logits out, and what its context holds.

In: segments of a prompt; out: logits. Imports `ggml` and the leaves.
"""
