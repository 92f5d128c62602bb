"""The tables of tensors and keys of VisCPM-Chat's two GGUF files: what is written, under which name, and from what.

Shapes here are row-major, as torch writes them: [n_out, n_in]. ggml's `ne` is the reverse. Letters: E width of CPM-Bee,
F its feed-forward width, H its heads, L its layers, V tokens; D width of BEiT-3, G its feed-forward width, N layers,
P patches, Q queries, S side of a patch. In the published model E 4096, F 10240, H 32, L 48, V 86583, D 1024, G 4096,
N 24, P 196, Q 64, S 16.

**The language model's file**, `general.architecture` `cpmbee`, `general.type` `model`.

| tensor | shape | type | made from |
|---|---|---|---|
| token_embd.weight | [V, E] | chosen, by default Q6_K or finer | `llm.input_embedding.weight`, as it is: no scale |
| blk.{i}.attn_norm.weight | [E] | F32 | `self_att.layernorm_before_attention.weight` |
| blk.{i}.attn_q.weight, attn_k, attn_v | [E, E] | chosen | `project_q`, `project_k`, `project_v`, times 1/sqrt(E) |
| blk.{i}.attn_output.weight | [E, E] | chosen | `attention_out`, times 1/sqrt(E) |
| blk.{i}.ffn_norm.weight | [E] | F32 | `ffn.layernorm_before_ffn.weight` |
| blk.{i}.ffn_gate.weight | [F, E] | chosen | `w_in.w_0` (what the GELU takes), times 1/sqrt(E) |
| blk.{i}.ffn_up.weight | [F, E] | chosen | `w_in.w_1`, times 1/sqrt(E) |
| blk.{i}.ffn_down.weight | [E, F] | chosen | `w_out`, times 1/sqrt(F) |
| output_norm.weight | [E] | F32 | `llm.encoder.output_layernorm.weight` |
| rel_attn_bias | [512, H], ne = {H, 512} | F16 | `llm.position_bias.relative_attention_bias`, as it is |

Folded, in float32 before anything is rounded: the divisors of the seven matrices of a layer, and nothing else. What a
program that runs the file has yet to do: multiply an embedding by `embedding_scale` (but not an image's), divide by
`residual_divisor` after each of a layer's two additions, scale q.k by 1/sqrt(E/H), and multiply the logits by
`logit_scale`; the matrix of the logits is `token_embd.weight`. Rows 0 to 255 of `rel_attn_bias` are distances within a
segment, row 255 + c is relation c of two segments.

| key | type | value in the published model |
|---|---|---|
| cpmbee.vocab_size | u32 | 86583 |
| cpmbee.context_length | u32 | 3513: 3000 tokens of prompt and 513 of answer, as the official chat takes |
| cpmbee.embedding_length | u32 | 4096 |
| cpmbee.block_count | u32 | 48 |
| cpmbee.feed_forward_length | u32 | 10240 |
| cpmbee.attention.head_count, .head_count_kv | u32 | 32 |
| cpmbee.attention.key_length, .value_length | u32 | 128 |
| cpmbee.attention.layer_norm_rms_epsilon | f32 | 1e-6 |
| cpmbee.position_bias.position_buckets | u32 | 256 |
| cpmbee.position_bias.segment_buckets | u32 | 256 |
| cpmbee.position_bias.max_distance | u32 | 2048 |
| cpmbee.embedding_scale | f32 | 1/64 = 1/sqrt(E) |
| cpmbee.logit_scale | f32 | 1/64 = 1/sqrt(E) |
| cpmbee.residual_divisor | f32 | 1.05 |
| cpmbee.rotary.scale | f32 | 16: an embedding is turned by (16 * sub id) * base^(-2k/E) |
| cpmbee.rotary.base | f32 | 10000 |
| cpmbee.scales_folded | bool | true: the divisors 1/sqrt(fan-in) are in the matrices |
| tokenizer.ggml.model | string | `cpmbee` |
| tokenizer.ggml.tokens | strings | the lines of vocab.txt as they are: 4 is `</n>`, 5 is `</_>` |
| tokenizer.ggml.token_type | i32 | 2 for `<unk>`, 3 for the other specials, else 1 |
| tokenizer.ggml.bos_token_id, eos_, unknown_, padding_, mask_, seperator_ | u32 | 6, 7, 1, 0, 2, 3 |

**The file of eye and mapping**, `general.architecture` `beit3`, `general.type` `mmproj`. `{s}` is `a` (image tokens) or
`b` (queries), `{N}` the layer.

| tensor | shape | type | made from |
|---|---|---|---|
| v.patch.weight, .bias | [D, 3, S, S], [D] | F16 (F32 in f32 files), F32 | `vision_embed.proj` |
| v.cls | [D] | F32 | `cls_token` + row 2 of `embed_positions.A` |
| v.pos | [P, D] | F32 | rows 3 to P+2 of `embed_positions.A`: of the patches, without the class token |
| v.query | [Q, D] | F32 | `query` + rows 2 to Q+1 of `embed_positions.B` |
| v.blk.{N}.{s}.ln1.weight, .bias | [D] | F32 | `self_attn_layer_norm` |
| v.blk.{N}.{s}.attn_q.weight, attn_k, attn_v, attn_out | [D, D] | chosen | `q_proj`, `k_proj`, `v_proj`, `out_proj` |
| v.blk.{N}.{s}.attn_q.bias, attn_k, attn_v, attn_out | [D] | F32 | the same |
| v.blk.{N}.{s}.attn_ln.weight, .bias | [D] | F32 | `inner_attn_ln`: between attention and attn_out |
| v.blk.{N}.{s}.ln2.weight, .bias | [D] | F32 | `final_layer_norm` |
| v.blk.{N}.{s}.ffn_up.weight, .bias | [G, D], [G] | chosen, F32 | `fc1` |
| v.blk.{N}.{s}.ffn_ln.weight, .bias | [G] | F32 | `ffn_layernorm`: between GELU and ffn_down |
| v.blk.{N}.{s}.ffn_down.weight, .bias | [D, G], [D] | chosen, F32 | `fc2` |
| v.post_ln.b.weight, .bias | [D] | F32 | `encoder.layer_norm.B` |
| mm.0.weight, .bias | [E, D], [E] | chosen, F32 | `mapping.0`; a GELU (erf) follows |
| mm.2.weight, .bias | [E, E], [E] | chosen, F32 | `mapping.2` |

Nothing is scaled: the scale of the queries of the attention, 1/sqrt(D/heads), is left to the program.

| key | type | value in the published model |
|---|---|---|
| beit3.image_size, .patch_size | u32 | 224, 16 |
| beit3.embedding_length, .feed_forward_length, .block_count | u32 | 1024, 4096, 24 |
| beit3.attention.head_count | u32 | 16: heads of 64 |
| beit3.attention.layer_norm_epsilon | f32 | 1e-5 |
| beit3.query_count | u32 | 64 |
| beit3.projection_dim | u32 | 4096 |
| beit3.image_mean, .image_std | f32[3] | 0.5 each |
| palo.image_preprocess | string | `stretch`: resized straight to the square, bicubic |

Both files carry `palo.pair_id`, `general.languages` (zh, en) and `general.license.name`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ...tensor_spec import TensorSpec, Transform, layered
from .files import TEXT, VISION
from .sizes import TextSizes, VisionSizes

_Values = NDArray[np.float32]
FIRST_POSITION = 2  # row of the first token in both tables of positions, as fairseq counts

# (source, gguf, shape as letters). Where a matrix has a divisor, it is the square root of its second width.
_TEXT_ROWS = (
    ("llm.input_embedding.weight", "token_embd.weight", "ve"),
    (
        "llm.encoder.layers.{i}.self_att.layernorm_before_attention.weight",
        "blk.{i}.attn_norm.weight",
        "e",
    ),
    ("llm.encoder.layers.{i}.self_att.self_attention.project_q.weight", "blk.{i}.attn_q.weight", "ee"),
    ("llm.encoder.layers.{i}.self_att.self_attention.project_k.weight", "blk.{i}.attn_k.weight", "ee"),
    ("llm.encoder.layers.{i}.self_att.self_attention.project_v.weight", "blk.{i}.attn_v.weight", "ee"),
    ("llm.encoder.layers.{i}.self_att.self_attention.attention_out.weight", "blk.{i}.attn_output.weight", "ee"),
    ("llm.encoder.layers.{i}.ffn.layernorm_before_ffn.weight", "blk.{i}.ffn_norm.weight", "e"),
    ("llm.encoder.layers.{i}.ffn.ffn.w_in.w_0.weight", "blk.{i}.ffn_gate.weight", "fe"),
    ("llm.encoder.layers.{i}.ffn.ffn.w_in.w_1.weight", "blk.{i}.ffn_up.weight", "fe"),
    ("llm.encoder.layers.{i}.ffn.ffn.w_out.weight", "blk.{i}.ffn_down.weight", "ef"),
    ("llm.encoder.output_layernorm.weight", "output_norm.weight", "e"),
    ("llm.position_bias.relative_attention_bias", "rel_attn_bias", "bh"),
)
_SIDES = (("A", "a"), ("B", "b"))  # of image tokens, of queries: in the checkpoint, in the file
_LAYER = "vpm.beit3.encoder.layers.{i}."
# {S} and {s} are the side.
_LAYER_ROWS = (
    (_LAYER + "self_attn_layer_norm.{S}", "v.blk.{i}.{s}.ln1", "d"),
    (_LAYER + "self_attn.q_proj.{S}", "v.blk.{i}.{s}.attn_q", "dd"),
    (_LAYER + "self_attn.k_proj.{S}", "v.blk.{i}.{s}.attn_k", "dd"),
    (_LAYER + "self_attn.v_proj.{S}", "v.blk.{i}.{s}.attn_v", "dd"),
    (_LAYER + "self_attn.inner_attn_ln.{S}", "v.blk.{i}.{s}.attn_ln", "d"),
    (_LAYER + "self_attn.out_proj.{S}", "v.blk.{i}.{s}.attn_out", "dd"),
    (_LAYER + "final_layer_norm.{S}", "v.blk.{i}.{s}.ln2", "d"),
    (_LAYER + "ffn.{S}.fc1", "v.blk.{i}.{s}.ffn_up", "gd"),
    (_LAYER + "ffn.{S}.ffn_layernorm", "v.blk.{i}.{s}.ffn_ln", "g"),
    (_LAYER + "ffn.{S}.fc2", "v.blk.{i}.{s}.ffn_down", "dg"),
)
_AFTER_LAYERS = (
    ("vpm.beit3.encoder.layer_norm.B", "v.post_ln.b", "d"),
    ("mapping.0", "mm.0", "ed"),
    ("mapping.2", "mm.2", "ee"),
)


def text_specs(sizes: TextSizes) -> list[TensorSpec]:
    """Tensors of the language model, in the order of the file."""
    widths = {"v": sizes.n_vocab, "e": sizes.n_embd, "f": sizes.n_ff, "h": sizes.n_head}
    widths["b"] = sizes.n_buckets + sizes.n_segment_buckets
    specs = []
    for source, gguf, letters in layered(_TEXT_ROWS, sizes.n_layer):
        shape = tuple(widths[letter] for letter in letters)
        is_divided = gguf.startswith("blk.") and len(shape) == 2
        fold: Transform | None = partial(divided, divisor=math.sqrt(shape[1])) if is_divided else None
        specs.append(TensorSpec(source, gguf, shape, shape, TEXT.precision(gguf, shape), fold))
    return specs


def divided(values: _Values, *, divisor: float) -> _Values:
    """A matrix with the divisor that the model puts after it, in float32."""
    result: _Values = values * np.float32(1 / divisor)
    return result


def vision_specs(sizes: VisionSizes, n_embd_text: int) -> list[TensorSpec]:
    """Tensors of vision tower and mapping, in the order of the file."""
    d, p = sizes.n_embd, sizes.patch_size
    widths = {"d": d, "g": sizes.n_ff, "e": n_embd_text}
    specs = [
        _plain("vpm.beit3.vision_embed.proj.weight", "v.patch.weight", (d, 3, p, p)),
        _plain("vpm.beit3.vision_embed.proj.bias", "v.patch.bias", (d,)),
        *_sums(sizes),
    ]
    for source, gguf, letters in vision_rows(sizes.n_layer):
        specs.append(_plain(source, gguf, tuple(widths[letter] for letter in letters)))
    return specs


def _plain(source: str, gguf: str, shape: tuple[int, ...]) -> TensorSpec:
    return TensorSpec(source, gguf, shape, shape, VISION.precision(gguf, shape))


def _sums(sizes: VisionSizes) -> Iterator[TensorSpec]:
    """What is the same for every image: class token, positions of the patches, queries."""
    d, n_patches, n_queries = sizes.n_embd, sizes.n_patches, sizes.n_queries
    tables = {side: f"vpm.beit3.encoder.embed_positions.{side}.weight" for side in "AB"}
    of_a, of_b = (tables["A"], (sizes.n_a, d)), (tables["B"], (sizes.n_b, d))
    cls_token = "vpm.beit3.vision_embed.cls_token"
    yield TensorSpec(cls_token, "v.cls", (1, 1, d), (d,), "f32", class_at_its_position, (of_a,))
    yield TensorSpec(tables["A"], "v.pos", (sizes.n_a, d), (n_patches, d), "f32", patch_positions)
    yield TensorSpec("query", "v.query", (n_queries, d), (n_queries, d), "f32", queries_at_their_positions, (of_b,))


def class_at_its_position(cls_token: _Values, positions: _Values) -> _Values:
    """[1, 1, D] and [P + 3, D] -> [D]."""
    result: _Values = cls_token.reshape(-1) + positions[FIRST_POSITION]
    return result


def patch_positions(positions: _Values) -> _Values:
    """[P + 3, D] -> [P, D]: patches come after the class token."""
    return np.ascontiguousarray(positions[FIRST_POSITION + 1 :])


def queries_at_their_positions(query: _Values, positions: _Values) -> _Values:
    """[Q, D] and a longer table [.., D] -> [Q, D]."""
    return query + positions[FIRST_POSITION : FIRST_POSITION + len(query)]


def vision_rows(n_layer: int) -> Iterator[tuple[str, str, str]]:
    """Rows of weights and biases of layers, last norm and mapping; the embeddings before them are sums of several."""
    for i in range(n_layer):
        for source, gguf, letters in _LAYER_ROWS:
            for upper, lower in _SIDES:
                yield from _with_bias(source.format(i=i, S=upper), gguf.format(i=i, s=lower), letters)
    for row in _AFTER_LAYERS:
        yield from _with_bias(*row)


def _with_bias(source: str, gguf: str, letters: str) -> Iterator[tuple[str, str, str]]:
    yield f"{source}.weight", f"{gguf}.weight", letters
    yield f"{source}.bias", f"{gguf}.bias", letters[0]
