"""Logits of stock llama.cpp after a prompt with an image, with a KV cache in f32: what differs is the weights."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stock_llama import loaded_model

from palo_cpp.ggml.llama_library import llama_library

Part = list[int] | NDArray[np.float32]  # token ids, or embeddings [n, n_embd]


def logits_after(path: Path, prompts: list[list[Part]]) -> list[NDArray[np.float32]]:
    """Logits [n_vocab] after the last token of each prompt, which are computed one by one."""
    library = llama_library()
    with loaded_model(path) as model:
        n_vocab = library.llama_vocab_n_tokens(library.llama_model_get_vocab(model))
        parameters = library.llama_context_default_params()
        parameters.n_ctx, parameters.n_threads, parameters.n_threads_batch = 512, 1, 1
        parameters.flash_attn_type = 0
        parameters.type_k = parameters.type_v = 0
        context = library.llama_init_from_model(model, parameters)
        try:
            return [_prompt_logits(library, context, prompt, n_vocab) for prompt in prompts]
        finally:
            library.llama_free(context)


def _prompt_logits(library: Any, context: Any, prompt: list[Part], n_vocab: int) -> NDArray[np.float32]:
    library.llama_memory_clear(library.llama_get_memory(context), True)
    position = 0
    for part in prompt:
        _decode(library, context, part, position)
        position += len(part)
    pointer = library.llama_get_logits_ith(context, -1)
    return np.array(np.ctypeslib.as_array(pointer, (n_vocab,)), dtype=np.float32)


def _decode(library: Any, context: Any, part: Part, position: int) -> None:
    is_embeddings = isinstance(part, np.ndarray)
    batch = library.llama_batch_init(len(part), part.shape[1] if is_embeddings else 0, 1)
    try:
        if is_embeddings:
            ctypes.memmove(batch.embd, np.ascontiguousarray(part).ctypes.data, part.nbytes)
        for i in range(len(part)):
            if not is_embeddings:
                batch.token[i] = part[i]
            batch.pos[i], batch.n_seq_id[i], batch.logits[i] = position + i, 1, i == len(part) - 1
            batch.seq_id[i][0] = 0
        batch.n_tokens = len(part)
        assert library.llama_decode(context, batch) == 0
    finally:
        library.llama_batch_free(batch)
