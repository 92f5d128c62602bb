"""llama.cpp's model and context: made, warmed up, freed."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

from palo_cpp.errors import ArgumentError, ModelFormatError, OutOfMemoryError
from palo_cpp.forked import ProcessGuard
from palo_cpp.ggml.backend_library import settled_amx
from palo_cpp.ggml.llama_library import recorded_errors
from palo_cpp.machine import n_physical_cores

# One piece of a prefill: 512 rows keep the matrix kernels busy, and Ctrl-C is seen between two pieces.
N_BATCH = 512
# Ten languages and a few more can share one context; an unused sequence costs nothing.
N_SEQ_MIN = 16
# Our kernels take one row of each of so many answers as single rows; of more, as a prompt's (ops/flash_attention.cpp).
N_PARALLEL_MAX = 16
# Rows of logits made at once where all positions are asked for; llama.cpp reserves a buffer of this many.
N_OUTPUTS_MAX = 64


def load_model(llama: Any, path: Path) -> Any:
    """Map a file.

    Raises:
        ModelFormatError: llama.cpp does not load it.
    """
    params = llama.llama_model_default_params()
    params.n_gpu_layers = 0
    params.load_mode = llama.LLAMA_LOAD_MODE_MMAP
    params.use_extra_bufts = settled_amx(llama) != "broken"
    with recorded_errors() as errors:
        model = llama.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        reason = errors[0] if errors else "llama.cpp gave no reason"
        raise ModelFormatError(
            f"{path.name}: expected a LLaMA that llama.cpp loads, got an error ({reason}); make it again"
        )
    return model


def make_context(llama: Any, model: Any, n_cells: int, n_seq: int, n_threads: int) -> Any:
    """A context in which up to `n_seq` sequences share `n_cells` cells.

    Raises:
        OutOfMemoryError: no memory for it; the model was freed.
    """
    params = llama.llama_context_default_params()
    params.n_ctx = n_cells
    params.n_batch = params.n_ubatch = N_BATCH
    params.n_seq_max = n_seq
    params.n_outputs_max = N_OUTPUTS_MAX
    params.kv_unified = True  # sequences share their common prefix: one image, ten questions
    params.n_threads = params.n_threads_batch = n_threads
    params.no_perf = True
    context = llama.llama_init_from_model(model, params)
    if not context:
        llama.llama_model_free(model)
        raise OutOfMemoryError(
            f"n_ctx: expected memory for {n_cells} tokens of context, got none; choose a smaller n_ctx"
        )
    return context


def warm_up(llama: Any, model: Any, context: Any) -> None:
    """Decode one token and forget it: our backend takes whole graphs from a context's second one on, to equal bits.

    No logits are asked for, as with no later token, or llama.cpp would take this very graph again for the first single
    token: a conversation that goes on from a stored state begins with one.
    """
    token = (llama.llama_token * 1)(llama.llama_vocab_bos(llama.llama_model_get_vocab(model)))
    no_logits = (ctypes.c_int8 * 1)(0)
    batch = llama.llama_batch_get_one(token, 1)
    batch.logits = no_logits
    llama.llama_decode(context, batch)
    llama.llama_memory_clear(llama.llama_get_memory(context), True)


def free(guard: ProcessGuard, llama: Any, model: Any, context: Any) -> None:
    """Give both back; a forked child shares its parent's pages, and must not wait for threads that it does not have."""
    if not guard.is_forked:
        llama.llama_free(context)
        llama.llama_model_free(model)


def checked_n_threads(n_threads: int) -> int:
    """The threads that a user asks for; 0 takes the physical cores that this process may use.

    Raises:
        ArgumentError: out of range.
    """
    if not 0 <= n_threads <= 512:  # ggml's GGML_MAX_N_THREADS
        raise ArgumentError(f"n_threads: expected 0 (all physical cores) to 512, got {n_threads}")
    return n_threads or n_physical_cores()


def checked_n_parallel(n_parallel: int) -> int:
    """The answers at once that a user asks for.

    Raises:
        ArgumentError: out of range.
    """
    if not 1 <= n_parallel <= N_PARALLEL_MAX:
        raise ArgumentError(f"n_parallel: expected 1 to {N_PARALLEL_MAX}, got {n_parallel}")
    return n_parallel


def n_sequences(n_parallel: int) -> int:
    """Sequences of a context: one for each answer, two more for each that has ended, and one through which to copy."""
    return max(N_SEQ_MIN, 3 * n_parallel + 1)


def check_seq_id(seq_id: int, n_seq: int) -> None:
    """Refuse a sequence that a context does not have.

    Raises:
        ArgumentError: its number is out of range.
    """
    if not 0 <= seq_id < n_seq:
        raise ArgumentError(f"seq_id: expected 0 to {n_seq - 1}, got {seq_id}")
