"""A tiny random LLaMA as a text GGUF file, straight from the `gguf` package: for tests below conversion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import sentencepiece

DATA = Path(__file__).parents[1] / "data"
N_EMBD, N_FF, N_LAYER, N_HEAD, N_HEAD_KV = 64, 128, 2, 4, 2


def pieces() -> tuple[list[bytes], list[float], list[int]]:
    """Tokens, scores and GGUF token types of the committed SentencePiece model."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(DATA / "tokenizer.model"))
    kinds = [(model.is_unknown, 2), (model.is_control, 3), (model.is_unused, 5), (model.is_byte, 6)]
    tokens, scores, types = [], [], []
    for i in range(model.vocab_size()):
        tokens.append(model.id_to_piece(i).encode())
        scores.append(model.get_score(i))
        types.append(next((kind for test, kind in kinds if test(i)), 1))
    return tokens, scores, types


def weights(n_vocab: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape) * 1.5 / np.sqrt(shape[-1])).astype(np.float32)

    head = N_EMBD // N_HEAD
    tensors = {
        "token_embd.weight": draw(n_vocab, N_EMBD) * 8,
        "output_norm.weight": np.ones(N_EMBD, np.float32),
        "output.weight": draw(n_vocab, N_EMBD) * 2,
    }
    for i in range(N_LAYER):
        block = f"blk.{i}."
        tensors |= {
            block + "attn_norm.weight": np.ones(N_EMBD, np.float32),
            block + "ffn_norm.weight": np.ones(N_EMBD, np.float32),
            block + "attn_q.weight": draw(N_EMBD, N_EMBD),
            block + "attn_k.weight": draw(N_HEAD_KV * head, N_EMBD),
            block + "attn_v.weight": draw(N_HEAD_KV * head, N_EMBD),
            block + "attn_output.weight": draw(N_EMBD, N_EMBD),
            block + "ffn_gate.weight": draw(N_FF, N_EMBD),
            block + "ffn_up.weight": draw(N_FF, N_EMBD),
            block + "ffn_down.weight": draw(N_EMBD, N_FF),
        }
    return tensors


def write_text_gguf(path: Path, *, arch: str = "llama", tensors: dict[str, Any] | None = None, **changes: Any) -> Path:
    """Write the file; `changes` are metadata to set otherwise; None leaves one out."""
    tokens, scores, types = pieces()
    values: dict[str, Any] = {
        "llama.context_length": 512,
        "llama.embedding_length": N_EMBD,
        "llama.block_count": N_LAYER,
        "llama.feed_forward_length": N_FF,
        "llama.attention.head_count": N_HEAD,
        "llama.attention.head_count_kv": N_HEAD_KV,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": N_EMBD // N_HEAD,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_space_prefix": True,
    }
    values |= {key.replace("__", "."): value for key, value in changes.items()}
    writer = gguf.GGUFWriter(path, arch)
    for key, value in values.items():
        add_value(writer, key, value)
    for name, array in (tensors if tensors is not None else weights(len(tokens))).items():
        writer.add_tensor(name, array)
    finish(writer)
    return path


def add_value(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """Add a key with the type that the value has; nothing for None."""
    if value is None:
        return
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        (writer.add_uint32 if value >= 0 else writer.add_int32)(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def finish(writer: gguf.GGUFWriter) -> None:
    """Write the whole file."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
