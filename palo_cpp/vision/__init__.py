"""From a picture to image embeddings.

In: a path, bytes or pixels; out: float32 [n_image_tokens, n_embd]. Imports `ggml` and the leaves.
"""
