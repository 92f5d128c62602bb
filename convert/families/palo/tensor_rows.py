"""The table of tensors: name in the checkpoint -> name in GGUF, with the shape it must have.

Names in the checkpoint are canonical, as `names.canonical_name` gives them. GGUF names are upstream's: those of the
`gguf` package for the decoder and of tools/mtmd/clip-impl.h for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ...tensor_spec import Row, TensorSpec, layered
from .files import MMPROJ
from .rope_rows import interleave_rope_rows
from .sizes import Projector, TextSizes, VisionSizes

# (source, gguf, shape). Letters: e n_embd, f n_ff, v vocabulary, q, k, w the widths of all query, key and value heads.
# Where the rows are those of q or k they are reordered head by head. {i} is the layer.
_TEXT_ROWS = (
    ("model.embed_tokens.weight", "token_embd.weight", "ve"),
    ("model.layers.{i}.input_layernorm.weight", "blk.{i}.attn_norm.weight", "e"),
    ("model.layers.{i}.self_attn.q_proj.weight", "blk.{i}.attn_q.weight", "qe"),
    ("model.layers.{i}.self_attn.k_proj.weight", "blk.{i}.attn_k.weight", "ke"),
    ("model.layers.{i}.self_attn.v_proj.weight", "blk.{i}.attn_v.weight", "we"),
    ("model.layers.{i}.self_attn.o_proj.weight", "blk.{i}.attn_output.weight", "eq"),
    ("model.layers.{i}.post_attention_layernorm.weight", "blk.{i}.ffn_norm.weight", "e"),
    ("model.layers.{i}.mlp.gate_proj.weight", "blk.{i}.ffn_gate.weight", "fe"),
    ("model.layers.{i}.mlp.up_proj.weight", "blk.{i}.ffn_up.weight", "fe"),
    ("model.layers.{i}.mlp.down_proj.weight", "blk.{i}.ffn_down.weight", "ef"),
    ("model.norm.weight", "output_norm.weight", "e"),
    ("lm_head.weight", "output.weight", "ve"),
)
# e n_embd, f n_ff, p patch side, n positions (patches + class), 3 colours.
_VISION_ROWS = (
    ("vision_model.embeddings.class_embedding", "v.class_embd", "e"),
    ("vision_model.embeddings.patch_embedding.weight", "v.patch_embd.weight", "e3pp"),
    ("vision_model.embeddings.position_embedding.weight", "v.position_embd.weight", "ne"),
    ("vision_model.pre_layrnorm.weight", "v.pre_ln.weight", "e"),
    ("vision_model.pre_layrnorm.bias", "v.pre_ln.bias", "e"),
    ("vision_model.encoder.layers.{i}.layer_norm1.weight", "v.blk.{i}.ln1.weight", "e"),
    ("vision_model.encoder.layers.{i}.layer_norm1.bias", "v.blk.{i}.ln1.bias", "e"),
    ("vision_model.encoder.layers.{i}.self_attn.q_proj.weight", "v.blk.{i}.attn_q.weight", "ee"),
    ("vision_model.encoder.layers.{i}.self_attn.q_proj.bias", "v.blk.{i}.attn_q.bias", "e"),
    ("vision_model.encoder.layers.{i}.self_attn.k_proj.weight", "v.blk.{i}.attn_k.weight", "ee"),
    ("vision_model.encoder.layers.{i}.self_attn.k_proj.bias", "v.blk.{i}.attn_k.bias", "e"),
    ("vision_model.encoder.layers.{i}.self_attn.v_proj.weight", "v.blk.{i}.attn_v.weight", "ee"),
    ("vision_model.encoder.layers.{i}.self_attn.v_proj.bias", "v.blk.{i}.attn_v.bias", "e"),
    ("vision_model.encoder.layers.{i}.self_attn.out_proj.weight", "v.blk.{i}.attn_out.weight", "ee"),
    ("vision_model.encoder.layers.{i}.self_attn.out_proj.bias", "v.blk.{i}.attn_out.bias", "e"),
    ("vision_model.encoder.layers.{i}.layer_norm2.weight", "v.blk.{i}.ln2.weight", "e"),
    ("vision_model.encoder.layers.{i}.layer_norm2.bias", "v.blk.{i}.ln2.bias", "e"),
    ("vision_model.encoder.layers.{i}.mlp.fc1.weight", "v.blk.{i}.ffn_up.weight", "fe"),
    ("vision_model.encoder.layers.{i}.mlp.fc1.bias", "v.blk.{i}.ffn_up.bias", "f"),
    ("vision_model.encoder.layers.{i}.mlp.fc2.weight", "v.blk.{i}.ffn_down.weight", "ef"),
    ("vision_model.encoder.layers.{i}.mlp.fc2.bias", "v.blk.{i}.ffn_down.bias", "e"),
)
# i width in, o width out, s squeezed width, 1 and 3 sides of convolutions. {b} is the block, 1 or 2.
_LDP_ROWS = (
    ("mm_projector.model.mlp.1.weight", "mm.model.mlp.1.weight", "oi"),
    ("mm_projector.model.mlp.1.bias", "mm.model.mlp.1.bias", "o"),
    ("mm_projector.model.mlp.3.weight", "mm.model.mlp.3.weight", "oo"),
    ("mm_projector.model.mlp.3.bias", "mm.model.mlp.3.bias", "o"),
    ("mm_projector.model.mb_block.{b}.block.0.0.weight", "mm.model.mb_block.{b}.block.0.0.weight", "o133"),
    ("mm_projector.model.mb_block.{b}.block.0.1.weight", "mm.model.mb_block.{b}.block.0.1.weight", "o"),
    ("mm_projector.model.mb_block.{b}.block.0.1.bias", "mm.model.mb_block.{b}.block.0.1.bias", "o"),
    ("mm_projector.model.mb_block.{b}.block.1.fc1.weight", "mm.model.mb_block.{b}.block.1.fc1.weight", "so11"),
    ("mm_projector.model.mb_block.{b}.block.1.fc1.bias", "mm.model.mb_block.{b}.block.1.fc1.bias", "s"),
    ("mm_projector.model.mb_block.{b}.block.1.fc2.weight", "mm.model.mb_block.{b}.block.1.fc2.weight", "os11"),
    ("mm_projector.model.mb_block.{b}.block.1.fc2.bias", "mm.model.mb_block.{b}.block.1.fc2.bias", "o"),
    ("mm_projector.model.mb_block.{b}.block.2.0.weight", "mm.model.mb_block.{b}.block.2.0.weight", "oo11"),
    ("mm_projector.model.mb_block.{b}.block.2.1.weight", "mm.model.mb_block.{b}.block.2.1.weight", "o"),
    ("mm_projector.model.mb_block.{b}.block.2.1.bias", "mm.model.mb_block.{b}.block.2.1.bias", "o"),
)
_LDPV2_ROWS = (
    ("mm_projector.mlp.mlp.0.weight", "mm.model.mlp.0.weight", "oi"),
    ("mm_projector.mlp.mlp.0.bias", "mm.model.mlp.0.bias", "o"),
    ("mm_projector.mlp.mlp.2.weight", "mm.model.mlp.2.weight", "oo"),
    ("mm_projector.mlp.mlp.2.bias", "mm.model.mlp.2.bias", "o"),
    ("mm_projector.peg.peg.0.weight", "mm.model.peg.0.weight", "o133"),
    ("mm_projector.peg.peg.0.bias", "mm.model.peg.0.bias", "o"),
)


def text_specs(sizes: TextSizes) -> list[TensorSpec]:
    """Tensors of the decoder, in the order of the file."""
    heads = {"q": sizes.n_head, "k": sizes.n_head_kv}
    widths = {"e": sizes.n_embd, "f": sizes.n_ff, "v": sizes.n_vocab, "w": sizes.n_head_kv * sizes.head_dim}
    widths |= {letter: n_head * sizes.head_dim for letter, n_head in heads.items()}
    specs = []
    for source, gguf, letters in layered(_TEXT_ROWS, sizes.n_layer):
        if gguf == "output.weight" and sizes.tied_embeddings:
            continue
        shape = tuple(widths[letter] for letter in letters)
        is_reordered = letters[0] in heads
        reorder = partial(interleave_rope_rows, n_head=heads[letters[0]]) if is_reordered else None
        specs.append(TensorSpec(source, gguf, shape, shape, transform=reorder))
    return specs


def vision_specs(sizes: VisionSizes) -> list[TensorSpec]:
    """Tensors of the tower up to the selected layer."""
    widths = {"e": sizes.n_embd, "f": sizes.n_ff, "p": sizes.patch_size, "n": sizes.n_patches + 1, "3": 3}
    return [_spec(row, widths) for row in layered(_VISION_ROWS, sizes.select_layer)]


def projector_specs(projector: Projector) -> list[TensorSpec]:
    """Tensors of the projector."""
    widths = {"i": projector.n_in, "o": projector.n_out, "s": squeezed_width(projector.n_out), "1": 1, "3": 3}
    rows: list[Row] = []
    if projector.kind == "ldp":
        rows = list(_ldp_rows())
    elif projector.kind == "ldpv2":
        rows = list(_LDPV2_ROWS)
    elif projector.kind in ("linear", "mlp"):
        rows = list(_mlp_rows(projector))
    return [_spec(row, widths) for row in rows]


def _mlp_rows(projector: Projector) -> Iterator[Row]:
    """Linear layers stand at 0, 2, 4 ...: the odd places of the nn.Sequential are GELUs. `linear` has no number."""
    for i in range(projector.n_linear):
        number = "" if projector.source_type == "linear" else f"{2 * i}."
        yield f"mm_projector.{number}weight", f"mm.{2 * i}.weight", "oo" if i else "oi"
        yield f"mm_projector.{number}bias", f"mm.{2 * i}.bias", "o"


def squeezed_width(n: int) -> int:
    """Width inside squeeze-and-excitation: a quarter, rounded to a multiple of 8 but not below 90 % of it.

    Source: torchvision, torchvision/models/_utils.py, `_make_divisible`, as MobileVLM calls it.
    """
    quarter = n // 4
    rounded = max(8, (quarter + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * quarter else rounded


def _ldp_rows() -> Iterator[Row]:
    """The two linear layers, then the rows of a block for each block."""
    yield from (row for row in _LDP_ROWS if "{b}" not in row[0])
    for b in (1, 2):
        for source, gguf, letters in _LDP_ROWS:
            if "{b}" in source:
                yield source.format(b=b), gguf.format(b=b), letters


def _spec(row: Row, widths: dict[str, int]) -> TensorSpec:
    source, gguf, letters = row
    shape = tuple(widths[letter] for letter in letters)
    if letters.endswith("11"):
        gguf_shape = shape[:2]  # [n_out, n_in, 1, 1] -> [n_out, n_in]: upstream multiplies by it as a matrix
    elif letters == "o133":
        gguf_shape = (shape[0], 3, 3)  # [C, 1, 3, 3] -> [C, 3, 3], as upstream's files have it
    else:
        gguf_shape = shape
    return TensorSpec(source, gguf, shape, gguf_shape, MMPROJ.precision(gguf, gguf_shape))
