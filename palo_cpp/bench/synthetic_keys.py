"""Metadata of random models: all that stock llama.cpp wants, and a name that nobody takes for a real one."""

from __future__ import annotations

import itertools
import string
from typing import TYPE_CHECKING

from palo_cpp.bench.sizes import ModelSizes
from palo_cpp.bench.text_types import TEXT_TYPES

if TYPE_CHECKING:
    import gguf

SYNTHETIC_KEY = "palo.synthetic"
_MMPROJ_FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}
_UNKNOWN, _CONTROL, _BYTE, _NORMAL = 2, 3, 6, 1
_N_SPECIAL, _N_BYTES = 3, 256


def text_keys(sizes: ModelSizes, outtype: str, seed: int) -> gguf.GGUFWriter:
    """Keys of the decoder's file."""
    import gguf

    text = sizes.text
    writer = gguf.GGUFWriter(None, "llama")
    _add_general(writer, sizes, "model", seed)
    writer.add_file_type(TEXT_TYPES[outtype][0])
    writer.add_vocab_size(text.n_vocab)
    writer.add_context_length(text.n_ctx_train)
    writer.add_embedding_length(text.n_embd)
    writer.add_block_count(text.n_layer)
    writer.add_feed_forward_length(text.n_ff)
    writer.add_head_count(text.n_head)
    writer.add_head_count_kv(text.n_head_kv)
    writer.add_layer_norm_rms_eps(text.rms_norm_eps)
    writer.add_rope_dimension_count(text.head_dim)
    writer.add_rope_freq_base(text.rope_theta)
    _add_vocabulary(writer, text.n_vocab)
    return writer


def mmproj_keys(sizes: ModelSizes, outtype: str, seed: int) -> gguf.GGUFWriter:
    """Keys of the file of tower and projector."""
    import gguf

    vision = sizes.vision
    writer = gguf.GGUFWriter(None, "clip")
    _add_general(writer, sizes, "mmproj", seed)
    writer.add_file_type(_MMPROJ_FILE_TYPES[outtype])
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(sizes.projector.gguf_type)
    writer.add_vision_use_gelu(False)  # quick GELU
    writer.add_vision_image_size(vision.image_size)
    writer.add_vision_patch_size(vision.patch_size)
    writer.add_vision_embedding_length(vision.n_embd)
    writer.add_vision_feed_forward_length(vision.n_ff)
    writer.add_vision_head_count(vision.n_head)
    writer.add_vision_attention_layernorm_eps(vision.layer_norm_eps)
    writer.add_vision_projection_dim(sizes.projector.n_out)
    writer.add_vision_block_count(vision.select_layer)
    writer.add_array("clip.vision.feature_layer", [vision.select_layer])
    writer.add_vision_image_mean(list(vision.image_mean))
    writer.add_vision_image_std(list(vision.image_std))
    return writer


def _add_general(writer: gguf.GGUFWriter, sizes: ModelSizes, kind: str, seed: int) -> None:
    writer.add_type(kind)
    writer.add_name(f"synthetic {sizes.name} (random weights, seed {seed})")
    writer.add_description("Random weights of the true shapes, to measure speed; answers are noise.")
    writer.add_bool(SYNTHETIC_KEY, True)
    writer.add_string("palo.pair_id", f"synthetic-{sizes.name}-{seed}")
    writer.add_string("palo.version", "synthetic")


def _add_vocabulary(writer: gguf.GGUFWriter, n_vocab: int) -> None:
    tokens, types = vocabulary(n_vocab)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(i) for i in range(n_vocab)])
    writer.add_token_types(types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)


def vocabulary(n_vocab: int) -> tuple[list[bytes], list[int]]:
    """A vocabulary laid out like LLaMA's: three special pieces, 256 bytes, then made-up pieces.

    Args:
        n_vocab: at least 259.

    Returns:
        Pieces, all different, and their types.
    """
    special = [b"<unk>", b"<s>", b"</s>"]
    in_bytes = [f"<0x{value:02X}>".encode() for value in range(_N_BYTES)]
    letters = string.ascii_lowercase
    words = ("".join(word) for n in range(1, 5) for word in itertools.product(letters, repeat=n))
    # "\u2581" is SentencePiece's space; each word with and without one.
    pieces = itertools.chain(["\u2581"], (space + word for word in words for space in ("", "\u2581")))
    made_up = [piece.encode() for piece in itertools.islice(pieces, n_vocab - _N_SPECIAL - _N_BYTES)]
    types = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * _N_BYTES, *[_NORMAL] * len(made_up)]
    return special + in_bytes + made_up, types
