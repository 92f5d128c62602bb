"""The two files of a model of the family, under upstream's names and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palo_cpp.families.palo.chat_template import VICUNA_V1

from ...file_types import DIRECT_TYPES, LLAMA_TYPES
from ...stored_tensor import Shape
from ...token_table import TokenTable
from ..family import FileKind
from .sizes import Projector, TextSizes, VisionSizes

if TYPE_CHECKING:
    import gguf


def _mmproj_precision(name: str, gguf_shape: Shape) -> str:
    """The encoder adds the embeddings of class and positions as f32; convolutions have types of their own.

    ggml's depthwise convolution multiplies f16 columns and aborts for an f32 kernel: `conv_f16`.
    """
    if name in ("v.class_embd", "v.position_embd.weight"):
        return "f32"
    if name.startswith("v.patch_embd"):
        return "conv"
    return "conv_f16" if len(gguf_shape) > 2 else "any"


TEXT = FileKind("text", "llama", "model", "{name}-{type}.gguf", LLAMA_TYPES, True, lambda *_: "any")
MMPROJ = FileKind("mmproj", "clip", "mmproj", "mmproj-{name}-{type}.gguf", DIRECT_TYPES, False, _mmproj_precision)


def add_text_keys(writer: gguf.GGUFWriter, sizes: TextSizes, tokens: TokenTable) -> None:
    """Keys of the decoder's file: those that llama.cpp reads for architecture `llama`."""
    import gguf

    writer.add_vocab_size(sizes.n_vocab)
    writer.add_context_length(sizes.n_ctx_train)
    if sizes.n_ctx_tuned is not None:
        writer.add_uint32("palo.context_length", sizes.n_ctx_tuned)
    writer.add_embedding_length(sizes.n_embd)
    writer.add_block_count(sizes.n_layer)
    writer.add_feed_forward_length(sizes.n_ff)
    writer.add_head_count(sizes.n_head)
    writer.add_head_count_kv(sizes.n_head_kv)
    writer.add_key_length(sizes.head_dim)
    writer.add_value_length(sizes.head_dim)
    writer.add_layer_norm_rms_eps(sizes.rms_norm_eps)
    writer.add_rope_dimension_count(sizes.head_dim)
    writer.add_rope_freq_base(sizes.rope_theta)
    if sizes.rope_factor is not None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(sizes.rope_factor)
    _add_tokenizer(writer, tokens)


def _add_tokenizer(writer: gguf.GGUFWriter, tokens: TokenTable) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens.tokens)
    writer.add_token_scores(tokens.scores)
    writer.add_token_types(tokens.types)
    writer.add_bos_token_id(tokens.bos_id)
    writer.add_eos_token_id(tokens.eos_id)
    writer.add_unk_token_id(tokens.unk_id)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(tokens.add_space_prefix)
    writer.add_chat_template(VICUNA_V1)
    writer.add_bool("palo.tokenizer_legacy", tokens.legacy)


def add_mmproj_keys(writer: gguf.GGUFWriter, vision: VisionSizes, projector: Projector, preprocess: str) -> None:
    """Keys of the file of tower and projector: those that tools/mtmd/clip.cpp reads."""
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(projector.gguf_type)
    writer.add_vision_use_gelu(vision.hidden_act == "gelu")  # false: quick GELU
    writer.add_vision_image_size(vision.image_size)
    writer.add_vision_patch_size(vision.patch_size)
    writer.add_vision_embedding_length(vision.n_embd)
    writer.add_vision_feed_forward_length(vision.n_ff)
    writer.add_vision_head_count(vision.n_head)
    writer.add_vision_attention_layernorm_eps(vision.layer_norm_eps)
    writer.add_vision_projection_dim(projector.n_out)
    # Without `feature_layer` upstream stops one layer before `block_count`. With it, it stops where we say: the file
    # holds exactly the layers up to the selected hidden state, and none that is never run.
    writer.add_vision_block_count(vision.select_layer)
    writer.add_array("clip.vision.feature_layer", [vision.select_layer])
    writer.add_vision_image_mean(list(vision.image_mean))
    writer.add_vision_image_std(list(vision.image_std))
    writer.add_string("palo.image_preprocess", preprocess)
