"""Stock llama.cpp and libmtmd through llama-cpp-python: do they load our files, and what do they make of them."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palo_cpp.ggml.llama_library import llama_library


@contextmanager
def loaded_model(path: Path) -> Iterator[Any]:
    """A llama_model; asserts that stock llama.cpp loads the file."""
    library = llama_library()
    parameters = library.llama_model_default_params()
    parameters.n_gpu_layers = 0
    model = library.llama_model_load_from_file(str(path).encode(), parameters)
    assert model, f"stock llama.cpp does not load {path.name}"
    try:
        yield model
    finally:
        library.llama_model_free(model)


def logits(path: Path, tokens: list[int]) -> NDArray[np.float32]:
    """Logits [n_tokens, n_vocab] of one prompt."""
    library = llama_library()
    with loaded_model(path) as model:
        parameters = library.llama_context_default_params()
        parameters.n_ctx, parameters.n_threads, parameters.n_threads_batch = 128, 1, 1
        parameters.flash_attn_type = 0
        parameters.type_k = parameters.type_v = 0  # f32 cache: differences are the weights'
        context = library.llama_init_from_model(model, parameters)
        batch = library.llama_batch_init(len(tokens), 0, 1)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
            batch.seq_id[i][0] = 0
        batch.n_tokens = len(tokens)
        assert library.llama_decode(context, batch) == 0
        n_vocab = library.llama_vocab_n_tokens(library.llama_model_get_vocab(model))
        rows = [np.ctypeslib.as_array(library.llama_get_logits_ith(context, i), (n_vocab,)) for i in range(len(tokens))]
        result = np.array(rows, dtype=np.float32)
        library.llama_batch_free(batch)
        library.llama_free(context)
    return result


def image_embeddings(model_path: Path, mmproj_path: Path, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """libmtmd's image embeddings [n_image_tokens, n_embd] of an RGB image [S, S, 3]."""
    mtmd = _libmtmd()
    with loaded_model(model_path) as model:
        parameters = mtmd.mtmd_context_params_default()
        parameters.use_gpu, parameters.print_timings, parameters.n_threads, parameters.warmup = False, False, 1, False
        parameters.flash_attn_type = 0
        context = mtmd.mtmd_init_from_file(str(mmproj_path).encode(), model, parameters)
        assert context, f"stock libmtmd does not load {mmproj_path.name}"
        try:
            return _encode(mtmd, context, model, image)
        finally:
            mtmd.mtmd_free(context)


@functools.cache
def _libmtmd() -> Any:
    from llama_cpp import mtmd_cpp as mtmd

    mtmd.palo_silent_log = llama_library().llama_log_callback(lambda *_: None)  # must outlive every call
    mtmd.mtmd_log_set(mtmd.palo_silent_log, None)
    mtmd.mtmd_helper_log_set(mtmd.palo_silent_log, None)
    return mtmd


def _encode(mtmd: Any, context: Any, model: Any, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    library = llama_library()
    data = np.ascontiguousarray(image)
    pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
    bitmap = mtmd.mtmd_bitmap_init(data.shape[1], data.shape[0], pointer)
    chunks = mtmd.mtmd_input_chunks_init()
    marker = mtmd.mtmd_default_marker()
    text = mtmd.mtmd_input_text(text=marker, text_len=len(marker), add_special=False, parse_special=True)
    bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
    try:
        assert mtmd.mtmd_tokenize(context, chunks, ctypes.byref(text), bitmaps, 1) == 0
        n_chunks = mtmd.mtmd_input_chunks_size(chunks)
        all_chunks = [mtmd.mtmd_input_chunks_get(chunks, i) for i in range(n_chunks)]
        (chunk,) = [c for c in all_chunks if mtmd.mtmd_input_chunk_get_type(c) == 1]
        assert mtmd.mtmd_encode_chunk(context, chunk) == 0
        shape = (mtmd.mtmd_input_chunk_get_n_tokens(chunk), library.llama_model_n_embd(model))
        return np.array(np.ctypeslib.as_array(mtmd.mtmd_get_output_embd(context), shape), dtype=np.float32)
    finally:
        mtmd.mtmd_input_chunks_free(chunks)
        mtmd.mtmd_bitmap_free(bitmap)
