"""The order of rows that ggml's RoPE expects."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def interleave_rope_rows(values: NDArray[np.float32], n_head: int) -> NDArray[np.float32]:
    """Reorder the rows of a q or k matrix [n_head * head_dim, n_embd] for ggml's RoPE.

    transformers rotates row j of a head together with row j + head_dim / 2, ggml rows 2j and 2j + 1.
    Source: llama.cpp, conversion/llama.py, `LlamaModel.permute`.
    """
    n_rows, n_embd = values.shape
    halves = values.reshape(n_head, 2, n_rows // n_head // 2, n_embd)  # [head, half, j, n_embd]
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(n_rows, n_embd)
