"""Small random VisCPM-Chat checkpoints in the published layout: a zip pickle of halves, config.json and vocab.txt.

The published vocabulary is not ours to ship, so the tests have one of their own: the specials stand at the published
ids, and the pieces of the worked examples of the specification are there, so that texts fall apart as they do there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from random_model import _norm, _Plan, _Tensor, draw
from tensor_files import write_torch_zip

SPECIALS = ["<pad>", "<unk>", "<mask>", "<sep>", "</n>", "</_>", "<s>", "</s>", "<root>", "<ans>", "<option>"]
BOS, EOS, UNK = 6, 7, 1
# Pieces of the worked examples, in order.
ENGLISH = ["What", " is", " in", " the", " picture", "?"]
CHINESE = ["这幅", "图像", "是", "在", "哪个", "节日", "拍摄", "的", "？"]
HISTORY = ["User", ":", "</_>", "这是", "什么", "？", "</n>", "AI", ":", "</_>", "一只", "猫", "。", "</n>"]
SHORT = ["图中", "有", "什么", "？"]
KEYS = ["image", "context", "question", "input", "objects"]  # "caption" is two pieces
_MORE = [" a", " cat", " dog", " on", " and", " red", " blue", " it", " It", " I", " see", " two", " house", " of"]
_HAN = (
    "一二三人大小中国天日月水火山木花草红黄蓝绿白黑狗鸟鱼车房子树上下左右里面"
    "看见有没不很多少他她它们我你这那个只和了着吗呢。，！、《》"
)
LONGEST = "abcdefghijklmnopqrstuvwxyz012345"  # 32 characters


def vocabulary() -> list[str]:
    """The lines of the tests' vocab.txt."""
    pieces = [*ENGLISH, *CHINESE, *HISTORY, *SHORT, *KEYS, "capt", "ion", "cap", *_MORE, LONGEST, LONGEST[:20]]
    singles = [chr(code) for code in range(0x21, 0x7F)] + [*_HAN, "ü", "Ü"]
    lines = dict.fromkeys([*SPECIALS, *pieces, *singles])
    return [*lines, "<eod>", "末尾"]


@dataclass(frozen=True)
class VisCpmSize:
    """Sizes of a small model. Heads of the vision tower are 64 wide, as in every BEiT-3."""

    n_embd: int = 64
    n_ff: int = 96
    n_layer: int = 3
    n_head: int = 4
    image_size: int = 48
    patch_size: int = 16
    n_queries: int = 8
    vision_n_embd: int = 128
    vision_n_ff: int = 256
    vision_n_layer: int = 2

    @property
    def n_patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2


TINY = VisCpmSize()
WIDE = replace(TINY, n_embd=256, n_ff=512, n_layer=8, vision_n_layer=1)  # rows of 256: k-quants


def plan_text(size: VisCpmSize, n_vocab: int, prefix: str = "llm.") -> _Plan:
    """CPM-Bee. Matrices are divided by sqrt(fan-in) when they are used, so they are drawn with variance 1."""
    e, f = size.n_embd, size.n_ff
    # Wide rows: logits of random weights are flat otherwise, and answers hang on the last bit.
    yield f"{prefix}input_embedding.weight", _Tensor((n_vocab, e), 3.0)
    yield f"{prefix}position_bias.relative_attention_bias", _Tensor((512, size.n_head), 1.0)
    for i in range(size.n_layer):
        name = f"{prefix}encoder.layers.{i}"
        yield from _norm(f"{name}.self_att.layernorm_before_attention", e, bias=False)
        # Sharp attention: with a flat one the same token follows for ever.
        for part, std in (("project_q", 2.0), ("project_k", 2.0), ("project_v", 1.0), ("attention_out", 2.0)):
            yield f"{name}.self_att.self_attention.{part}.weight", _Tensor((e, e), std)
        yield from _norm(f"{name}.ffn.layernorm_before_ffn", e, bias=False)
        yield f"{name}.ffn.ffn.w_in.w_0.weight", _Tensor((f, e), 1.0)
        yield f"{name}.ffn.ffn.w_in.w_1.weight", _Tensor((f, e), 1.0)
        yield f"{name}.ffn.ffn.w_out.weight", _Tensor((e, f), 1.0)
    # Of mean 0: the matrix of the logits is that of the embeddings, and every token would be followed by itself.
    yield f"{prefix}encoder.output_layernorm.weight", _Tensor((e,), 1.0)


def plan_vision(size: VisCpmSize) -> _Plan:
    """BEiT-3 with everything that is not needed, queries and mapping."""
    d, g, e, p = size.vision_n_embd, size.vision_n_ff, size.n_embd, size.patch_size
    yield "query", _Tensor((size.n_queries, d), 0.5)
    yield from _matrix("mapping.0", e, d)
    yield from _matrix("mapping.2", e, e)
    yield from _matrix("vpm.mim_head", 24, d)
    beit3 = "vpm.beit3"
    yield f"{beit3}.text_embed.weight", _Tensor((16, d), 1.0)
    yield f"{beit3}.vision_embed.mask_token", _Tensor((1, 1, d), 1.0)
    yield f"{beit3}.vision_embed.cls_token", _Tensor((1, 1, d), 0.5)
    yield f"{beit3}.vision_embed.proj.weight", _Tensor((d, 3, p, p), (3 * p * p) ** -0.5)
    yield f"{beit3}.vision_embed.proj.bias", _Tensor((d,), 0.1)
    yield f"{beit3}.encoder.embed_positions.A.weight", _Tensor((size.n_patches + 3, d), 0.3)
    yield f"{beit3}.encoder.embed_positions.B.weight", _Tensor((size.n_queries + 7, d), 0.3)
    for i in range(size.vision_n_layer):
        name = f"{beit3}.encoder.layers.{i}"
        for side in "AB":
            for part in "qkv":
                yield from _matrix(f"{name}.self_attn.{part}_proj.{side}", d, d)
            yield from _matrix(f"{name}.self_attn.out_proj.{side}", d, d)
            yield from _norm(f"{name}.self_attn.inner_attn_ln.{side}", d)
            yield from _norm(f"{name}.self_attn_layer_norm.{side}", d)
            yield from _norm(f"{name}.final_layer_norm.{side}", d)
            yield from _matrix(f"{name}.ffn.{side}.fc1", g, d)
            yield from _norm(f"{name}.ffn.{side}.ffn_layernorm", g)
            yield from _matrix(f"{name}.ffn.{side}.fc2", d, g)
    for side in "AB":
        yield from _norm(f"{beit3}.encoder.layer_norm.{side}", d)


def _matrix(name: str, n_out: int, n_in: int) -> Iterator[tuple[str, _Tensor]]:
    yield f"{name}.weight", _Tensor((n_out, n_in), n_in**-0.5)
    yield f"{name}.bias", _Tensor((n_out,), 0.1)


def viscpm_tensors(size: VisCpmSize = TINY, seed: int = 0) -> dict[str, NDArray[Any]]:
    """All weights of VisCPM-Chat, by their published names."""
    return draw(plan_vision(size), seed) | _loud_end(draw(plan_text(size, len(vocabulary())), seed), "llm.")


def cpm_bee_tensors(size: VisCpmSize = TINY, seed: int = 0, prefix: str = "") -> dict[str, NDArray[Any]]:
    """All weights of a text-only CPM-Bee, as OpenBMB/CPM-Bee saves them."""
    return _loud_end(draw(plan_text(size, len(vocabulary()), prefix), seed), prefix)


def _loud_end(tensors: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """A row for </s> that is likely now and then, so that answers end."""
    tensors[f"{prefix}input_embedding.weight"][EOS] *= 2  # exact in every type
    return tensors


def write_vocabulary(folder: Path, lines: list[str] | None = None) -> Path:
    """Write vocab.txt."""
    path = folder / "vocab.txt"
    path.write_bytes("".join(f"{line}\n" for line in lines or vocabulary()).encode())
    return path


def viscpm_config(size: VisCpmSize) -> dict[str, Any]:
    """config.json with the published keys."""
    return {
        "_name_or_path": "openbmb/viscpmchat-bee-10b",
        "architectures": ["VisCpmBeeForCausalLM"],
        "vocab_size": len(vocabulary()),
        "hidden_size": size.n_embd,
        "dim_ff": size.n_ff,
        "num_hidden_layers": size.n_layer,
        "num_attention_heads": size.n_head,
        "dim_head": size.n_embd // size.n_head,
        "position_bias_num_buckets": 256,
        "position_bias_num_segment_buckets": 256,
        "position_bias_max_distance": 2048,
        "vision_dim": size.vision_n_embd,
        "query_num": size.n_queries,
        "eps": 1e-6,
        "half": True,
        "model_type": "viscpmchatbee",
    }


def write_viscpm_checkpoint(
    folder: Path,
    size: VisCpmSize = TINY,
    *,
    seed: int = 0,
    weights: str = "pytorch_model.bin",
    tensors: dict[str, NDArray[Any]] | None = None,
    config: bool = True,
) -> Path:
    """Write one checkpoint.

    Args:
        folder: where to; made if missing.
        size: sizes of the model.
        seed: of all weights.
        weights: name of the file of weights.
        tensors: other ones than the whole model's.
        config: whether there is a config.json, as on the hub; a lone file that was downloaded has none.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_torch_zip(folder / weights, viscpm_tensors(size, seed) if tensors is None else tensors, "f16")
    write_vocabulary(folder)
    if config:
        (folder / "config.json").write_text(json.dumps(viscpm_config(size)))
    return folder
