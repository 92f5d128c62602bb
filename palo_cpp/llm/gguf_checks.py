"""What must hold before anything is handed to llama.cpp, which asserts (and ends the process) where we raise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import ArgumentError, ModelFormatError
from palo_cpp.ggml.gguf_header import GgufHeader

_N_LAYER_MAX = 512  # LLAMA_MAX_LAYERS, src/llama-hparams.h
_N_VOCAB_MIN = 3  # <unk>, <s>, </s>: llama.cpp's defaults for their ids
_SIZES = ("context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count")
_TYPE_F32 = 0
# ggml types that are no weights: q8_1 and q8_K are activations', 24 to 28 are integers and f64.
_NO_WEIGHTS = frozenset({9, 15, 24, 25, 26, 27, 28})


def check_language_model(header: GgufHeader) -> None:
    """Refuse a GGUF file that is no LLaMA or would trip one of llama.cpp's assertions.

    Raises:
        ModelFormatError: says what is wrong with it.
    """
    if header.is_mmproj:
        raise ModelFormatError(
            f"{header.path.name}: expected the text model, got the mmproj file of vision tower and projector; "
            "give the folder that holds both"
        )
    architecture = header.metadata.get("general.architecture")
    if architecture != "llama":
        raise _wrong(header, "the architecture llama", repr(architecture))
    _check_sizes(header)
    _check_vocabulary(header)
    _check_tensors(header)


def _wrong(header: GgufHeader, expected: str, got: str) -> ModelFormatError:
    return ModelFormatError(f"{header.path.name}: expected {expected}, got {got}; convert the checkpoint again")


def _check_sizes(header: GgufHeader) -> None:
    sizes = {key: header.metadata.get(f"llama.{key}") for key in _SIZES}
    for key, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
            raise _wrong(header, f"a positive llama.{key}", repr(value))
    n_embd, n_head, n_layer = (int(header.metadata[f"llama.{key}"]) for key in (_SIZES[1], _SIZES[4], _SIZES[2]))
    n_head_kv = header.metadata.get("llama.attention.head_count_kv", n_head)
    if not isinstance(n_head_kv, int) or n_head_kv <= 0 or n_head % n_head_kv != 0:
        raise _wrong(header, f"a head_count_kv that divides {n_head}", repr(n_head_kv))
    if n_embd % n_head != 0 or (n_embd // n_head) % 2 != 0:
        raise _wrong(header, f"an embedding_length of {n_head} heads of even width", str(n_embd))
    if n_layer > _N_LAYER_MAX:
        raise _wrong(header, f"at most {_N_LAYER_MAX} layers", str(n_layer))
    if header.metadata.get("llama.expert_count", 0) != 0:
        raise _wrong(header, "a model without experts", f"{header.metadata['llama.expert_count']} experts")


def _check_vocabulary(header: GgufHeader) -> None:
    kind, n_vocab = header.metadata.get("tokenizer.ggml.model"), len(header.tokens)
    if kind != "llama":
        raise _wrong(header, "the SentencePiece tokenizer 'llama'", repr(kind))
    if n_vocab < _N_VOCAB_MIN:
        raise _wrong(header, f"at least {_N_VOCAB_MIN} tokens", str(n_vocab))
    named = {token or b"[EMPTY_%d]" % i for i, token in enumerate(header.tokens)}  # llama.cpp's name for an empty one
    if len(named) != n_vocab:
        raise _wrong(header, "tokens that differ from each other", f"{n_vocab - len(named)} repeated ones")
    for key in ("bos_token_id", "eos_token_id"):
        token = header.metadata.get(f"tokenizer.ggml.{key}", 0)
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < n_vocab:
            raise _wrong(header, f"a {key} from 0 to {n_vocab - 1}", repr(token))


def _check_tensors(header: GgufHeader) -> None:
    for tensor in header.tensors.values():
        if 0 in tensor.shape or tensor.type in _NO_WEIGHTS:
            raise _wrong(header, f"numbers in {tensor.name}", f"type {tensor.type}, shape {list(tensor.shape)}")
        if tensor.name.endswith("norm.weight") and tensor.type != _TYPE_F32:
            raise _wrong(header, f"f32 in {tensor.name}", f"type {tensor.type}")


def checked_tokens(tokens: Sequence[int] | NDArray[Any], n_vocab: int) -> NDArray[np.int32]:
    """Token ids [n] as i32, each in range.

    Raises:
        ArgumentError: none at all, no whole numbers, or one out of range.
    """
    ids = np.asarray(tokens)
    if ids.ndim != 1 or len(ids) == 0 or not np.issubdtype(ids.dtype, np.integer):
        raise ArgumentError(f"tokens: expected a list of at least one id, got shape {list(ids.shape)} of {ids.dtype}")
    if ids.min() < 0 or ids.max() >= n_vocab:
        wrong = ids[(ids < 0) | (ids >= n_vocab)][0]
        raise ArgumentError(f"tokens: expected ids from 0 to {n_vocab - 1}, got {wrong}")
    return np.ascontiguousarray(ids, dtype=np.int32)


def checked_embeddings(embeddings: NDArray[Any], n_embd: int) -> NDArray[np.float32]:
    """Embeddings [n, n_embd] as contiguous f32, all of them numbers.

    Raises:
        ArgumentError: another shape or type, or NaN or infinity among them.
    """
    if embeddings.ndim != 2 or embeddings.shape[1] != n_embd or len(embeddings) == 0:
        raise ArgumentError(
            f"embeddings: expected shape [n, {n_embd}], got {list(embeddings.shape)}; "
            "the mmproj file must belong to this language model"
        )
    if not np.issubdtype(embeddings.dtype, np.floating):
        raise ArgumentError(f"embeddings: expected float32, got {embeddings.dtype}")
    if not np.isfinite(embeddings).all():
        raise ArgumentError(
            "embeddings: expected finite numbers, got NaN or infinity; the image or the mmproj is damaged"
        )
    return np.ascontiguousarray(embeddings, dtype=np.float32)
