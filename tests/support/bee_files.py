"""Small random CPM-Bees: weights by the names of the checkpoint, and the GGUF file that the converter makes of them.

Below conversion on purpose: what the language model reads is written here a second time, from the table in
convert/families/viscpm/tensor_rows.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from tiny_gguf import add_value, finish

State = dict[str, NDArray[np.float32]]

BOS, EOS, UNK = 6, 7, 1


@dataclass(frozen=True)
class BeeSize:
    """Sizes of a small model."""

    n_embd: int = 64
    n_ff: int = 96
    n_layer: int = 3
    n_head: int = 4
    n_vocab: int = 200


TINY = BeeSize()
WIDE = BeeSize(n_embd=256, n_ff=512, n_layer=2, n_head=2, n_vocab=320)  # rows of 256, for K types; heads of 128


def draw_state(size: BeeSize = TINY, seed: int = 0) -> State:
    """Random weights in f32 whose values f16 holds too, by the checkpoint's names; matrices not divided yet."""
    random = np.random.default_rng(seed)

    def draw(*shape: int, std: float = 1.0, mean: float = 0.0) -> NDArray[np.float32]:
        values = mean + std * random.standard_normal(shape)
        return values.astype(np.float16).astype(np.float32)

    e, f = size.n_embd, size.n_ff
    state = {
        "llm.input_embedding.weight": draw(size.n_vocab, e, std=3.0),
        "llm.position_bias.relative_attention_bias": draw(512, size.n_head),
        "llm.encoder.output_layernorm.weight": draw(e),
    }
    for i in range(size.n_layer):
        layer = f"llm.encoder.layers.{i}."
        state[layer + "self_att.layernorm_before_attention.weight"] = draw(e, std=0.1, mean=1.0)
        for part in ("project_q", "project_k", "project_v", "attention_out"):
            state[f"{layer}self_att.self_attention.{part}.weight"] = draw(e, e)
        state[layer + "ffn.layernorm_before_ffn.weight"] = draw(e, std=0.1, mean=1.0)
        state[layer + "ffn.ffn.w_in.w_0.weight"] = draw(f, e)
        state[layer + "ffn.ffn.w_in.w_1.weight"] = draw(f, e)
        state[layer + "ffn.ffn.w_out.weight"] = draw(e, f)
    return state


_LAYER = {
    "attn_norm": "self_att.layernorm_before_attention",
    "attn_q": "self_att.self_attention.project_q",
    "attn_k": "self_att.self_attention.project_k",
    "attn_v": "self_att.self_attention.project_v",
    "attn_output": "self_att.self_attention.attention_out",
    "ffn_norm": "ffn.layernorm_before_ffn",
    "ffn_gate": "ffn.ffn.w_in.w_0",
    "ffn_up": "ffn.ffn.w_in.w_1",
    "ffn_down": "ffn.ffn.w_out",
}


def folded(state: State) -> State:
    """The tensors of the file in f32: matrices of the layers over the root of what each output sums."""
    tensors = {
        "token_embd.weight": state["llm.input_embedding.weight"],
        "output_norm.weight": state["llm.encoder.output_layernorm.weight"],
        "rel_attn_bias": state["llm.position_bias.relative_attention_bias"],
    }
    i = 0
    while f"llm.encoder.layers.{i}.ffn.ffn.w_out.weight" in state:
        for name, source in _LAYER.items():
            values = state[f"llm.encoder.layers.{i}.{source}.weight"]
            divisor = np.float32(math.sqrt(values.shape[1]) if values.ndim == 2 else 1.0)
            tensors[f"blk.{i}.{name}.weight"] = values / divisor
        i += 1
    return tensors


def metadata_of(size: BeeSize) -> dict[str, Any]:
    """Keys of the file."""
    specials = ["<pad>", "<unk>", "<mask>", "<sep>", "</n>", "</_>", "<s>", "</s>", "<root>", "<ans>", "<option>"]
    tokens = specials + [f"w{i}" for i in range(len(specials), size.n_vocab)]
    return {
        "cpmbee.vocab_size": size.n_vocab,
        "cpmbee.context_length": 3513,
        "cpmbee.embedding_length": size.n_embd,
        "cpmbee.block_count": size.n_layer,
        "cpmbee.feed_forward_length": size.n_ff,
        "cpmbee.attention.head_count": size.n_head,
        "cpmbee.attention.head_count_kv": size.n_head,
        "cpmbee.attention.key_length": size.n_embd // size.n_head,
        "cpmbee.attention.value_length": size.n_embd // size.n_head,
        "cpmbee.attention.layer_norm_rms_epsilon": 1e-6,
        "cpmbee.position_bias.position_buckets": 256,
        "cpmbee.position_bias.segment_buckets": 256,
        "cpmbee.position_bias.max_distance": 2048,
        "cpmbee.embedding_scale": 1 / math.sqrt(size.n_embd),
        "cpmbee.logit_scale": 1 / math.sqrt(size.n_embd),
        "cpmbee.residual_divisor": 1.05,
        "cpmbee.rotary.scale": 16.0,
        "cpmbee.rotary.base": 10000.0,
        "cpmbee.scales_folded": True,
        "tokenizer.ggml.model": "cpmbee",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.bos_token_id": BOS,
        "tokenizer.ggml.eos_token_id": EOS,
    }


def write_bee(
    path: Path,
    size: BeeSize = TINY,
    *,
    seed: int = 0,
    type_name: str = "f32",
    tensors: dict[str, NDArray[Any]] | None = None,
    changes: dict[str, Any] | None = None,
) -> Path:
    """Write the file.

    Args:
        path: where to.
        size: sizes of the model.
        seed: of all weights.
        type_name: of matrices: f32, f16, bf16, or a block type such as q4_0 or q6_K.
        tensors: other ones than the whole model's, in f32.
        changes: keys with other values; None leaves one out.
    """
    writer = gguf.GGUFWriter(path, "cpmbee")
    writer.add_string("general.type", "model")
    for key, value in (metadata_of(size) | (changes or {})).items():
        add_value(writer, key, value)
    for name, values in (folded(draw_state(size, seed)) if tensors is None else tensors).items():
        add_tensor(writer, name, values, type_name)
    finish(writer)
    return path


def add_tensor(writer: gguf.GGUFWriter, name: str, values: NDArray[Any], type_name: str) -> None:
    """Add a tensor in the type that its kind has in the file."""
    if name == "rel_attn_bias":
        writer.add_tensor(name, values.astype(np.float16))
    elif values.ndim < 2 or type_name == "f32":
        writer.add_tensor(name, values.astype(np.float32))
    elif type_name == "f16":
        writer.add_tensor(name, values.astype(np.float16))
    else:
        blocks, kind = quantized(values, type_name)
        writer.add_tensor(name, blocks, raw_dtype=kind)


def quantized(values: NDArray[Any], type_name: str) -> tuple[NDArray[np.uint8], gguf.GGMLQuantizationType]:
    """Rows of blocks, by llama.cpp's own quantizer, and their type."""
    import ctypes

    from palo_cpp.ggml.llama_library import llama_library

    kind = {q.name.lower(): q for q in gguf.GGMLQuantizationType}[type_name.lower()]
    rows = np.ascontiguousarray(values, np.float32)
    block, n_block_bytes = gguf.GGML_QUANT_SIZES[kind]
    out = np.empty((rows.shape[0], rows.shape[1] // block * n_block_bytes), np.uint8)
    quantize = llama_library()._lib.ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    quantize.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    assert quantize(int(kind), rows.ctypes.data, out.ctypes.data, 0, *rows.shape, None) == out.nbytes
    return out, kind
