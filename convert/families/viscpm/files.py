"""The two files of a model of the family; `tensor_rows` has a table of their tensors and keys."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from palo_cpp.families.viscpm.published import GENERAL_MODEL_LICENSE
from palo_cpp.families.viscpm.tokenizer import BOS_ID, EOS_ID, MASK_ID, PAD_ID, SEP_ID, UNK_ID, BeeTokenizer

from ...file_types import DIRECT_TYPES
from ...stored_tensor import Shape
from ...token_table import CONTROL, NORMAL, UNKNOWN
from ..family import FileKind
from .mixtures import TYPES, cpm_bee_types
from .sizes import TextSizes, VisionSizes

if TYPE_CHECKING:
    import gguf

RESIDUAL_DIVISOR = 1.05
ROTARY_SCALE, ROTARY_BASE = 16.0, 10000.0
N_CTX = 3000 + 513  # what the published chat takes of a prompt, and of an answer with its end
LAYER_NORM_EPS = 1e-5
_MEAN = _STD = [0.5, 0.5, 0.5]


def _text_precision(name: str, _: Shape) -> str:
    """The bias is added to f16 masks; it is exact there, for the checkpoint holds halves."""
    return "conv_f16" if name == "rel_attn_bias" else "any"


def _vision_precision(name: str, _: Shape) -> str:
    """Embeddings are added, not multiplied."""
    if name in ("v.cls", "v.pos", "v.query"):
        return "f32"
    return "conv" if name == "v.patch.weight" else "any"


TEXT = FileKind("text", "cpmbee", "model", "{name}-{type}.gguf", TYPES, False, _text_precision, own_types=cpm_bee_types)
VISION = FileKind("mmproj", "beit3", "mmproj", "mmproj-{name}-{type}.gguf", DIRECT_TYPES, False, _vision_precision)


def _add_terms(writer: gguf.GGUFWriter) -> None:
    """The authors' terms stand in their README's text, where no program finds them."""
    writer.add_license_name(GENERAL_MODEL_LICENSE)


def add_text_keys(writer: gguf.GGUFWriter, sizes: TextSizes, tokenizer: BeeTokenizer) -> None:
    """Keys of the language model's file."""
    _add_terms(writer)
    writer.add_vocab_size(sizes.n_vocab)
    writer.add_context_length(N_CTX)
    writer.add_embedding_length(sizes.n_embd)
    writer.add_block_count(sizes.n_layer)
    writer.add_feed_forward_length(sizes.n_ff)
    writer.add_head_count(sizes.n_head)
    writer.add_head_count_kv(sizes.n_head)
    writer.add_key_length(sizes.head_dim)
    writer.add_value_length(sizes.head_dim)
    writer.add_layer_norm_rms_eps(sizes.eps)
    writer.add_uint32("cpmbee.position_bias.position_buckets", sizes.n_buckets)
    writer.add_uint32("cpmbee.position_bias.segment_buckets", sizes.n_segment_buckets)
    writer.add_uint32("cpmbee.position_bias.max_distance", sizes.max_distance)
    writer.add_float32("cpmbee.embedding_scale", 1 / math.sqrt(sizes.n_embd))
    writer.add_float32("cpmbee.logit_scale", 1 / math.sqrt(sizes.n_embd))
    writer.add_float32("cpmbee.residual_divisor", RESIDUAL_DIVISOR)
    writer.add_float32("cpmbee.rotary.scale", ROTARY_SCALE)
    writer.add_float32("cpmbee.rotary.base", ROTARY_BASE)
    writer.add_bool("cpmbee.scales_folded", True)
    writer.add_tokenizer_model("cpmbee")
    writer.add_token_list(tokenizer.lines)
    types = [NORMAL] * tokenizer.n_vocab
    for token in tokenizer.specials.values():
        types[token] = UNKNOWN if token == UNK_ID else CONTROL
    writer.add_token_types(types)
    writer.add_bos_token_id(BOS_ID)
    writer.add_eos_token_id(EOS_ID)
    writer.add_unk_token_id(UNK_ID)
    writer.add_pad_token_id(PAD_ID)
    writer.add_mask_token_id(MASK_ID)
    writer.add_sep_token_id(SEP_ID)


def add_vision_keys(writer: gguf.GGUFWriter, vision: VisionSizes, n_embd_text: int) -> None:
    """Keys of the file of vision tower and mapping."""
    _add_terms(writer)
    writer.add_uint32("beit3.image_size", vision.image_size)
    writer.add_uint32("beit3.patch_size", vision.patch_size)
    writer.add_embedding_length(vision.n_embd)
    writer.add_feed_forward_length(vision.n_ff)
    writer.add_block_count(vision.n_layer)
    writer.add_head_count(vision.n_head)
    writer.add_layer_norm_eps(LAYER_NORM_EPS)
    writer.add_uint32("beit3.query_count", vision.n_queries)
    writer.add_uint32("beit3.projection_dim", n_embd_text)
    writer.add_array("beit3.image_mean", _MEAN)
    writer.add_array("beit3.image_std", _STD)
    writer.add_string("palo.image_preprocess", "stretch")
