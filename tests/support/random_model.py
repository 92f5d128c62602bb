"""A small random PALO model: the tensors under their published names, drawn by numpy from a seed.

Each tensor has its own generator, seeded by the model's seed and the tensor's name, so one seed is one model in every
layout. Every value is exact in float32, float16 and bfloat16 alike, so that one model is also the same in every dtype.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Size:
    """The sizes of a small model; the defaults are the least that llama.cpp's k-quants (rows of 256) accept."""

    n_vocab: int = 960  # rows of the embedding matrix; tests/data/tokenizer.model has 960 pieces
    n_embd: int = 256
    n_ff: int = 512
    n_layer: int = 2
    n_head: int = 4
    n_head_kv: int = 2
    n_ctx: int = 2048
    image_size: int = 56
    patch_size: int = 14
    vision_n_embd: int = 64
    vision_n_ff: int = 128
    vision_n_layer: int = 3
    vision_n_head: int = 4

    @property
    def n_patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    def for_projector(self, projector: str) -> Size:
        """The same size where the projector allows it: `identity` needs a tower as wide as the decoder."""
        return replace(self, vision_n_embd=self.n_embd) if projector == "identity" else self


SMALL = Size()  # a grid of 4 x 4 patches
ODD = replace(SMALL, image_size=70)  # 5 x 5 patches, 3 x 3 after LDP's stride
ODD9 = replace(SMALL, image_size=126)  # 9 x 9 patches, 5 x 5 after LDP's stride


@dataclass(frozen=True)
class _Tensor:
    """How to draw one tensor: `mean` + `std` * normal."""

    shape: tuple[int, ...]
    std: float
    mean: float = 0.0


_Plan = Iterator[tuple[str, _Tensor]]


def draw(plan: _Plan, seed: int) -> dict[str, Array]:
    """Draw every tensor of `plan`."""
    return {name: _draw_tensor(name, tensor, seed) for name, tensor in plan}


def _draw_tensor(name: str, tensor: _Tensor, seed: int) -> Array:
    generator = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
    values = tensor.mean + tensor.std * generator.standard_normal(tensor.shape)
    if name == "lm_head.weight":
        values *= _output_gains(len(values))[:, None]
    return round_to_shared_values(values.astype(np.float32))


def _output_gains(n_vocab: int) -> Array:
    """What scales each piece's logit [n_vocab], so that greedy text looks like an answer and not like an accident.

    `<unk>`, `<s>` and control characters never come, raw bytes rarely (with them broken characters, which must be dealt
    with), and `</s>` about once in 30 tokens. Pieces 3 to 258 of tests/data/tokenizer.model are the bytes.
    """
    gains = np.ones(n_vocab, dtype=np.float32)
    gains[:2] = 0
    gains[2] = 1.35
    gains[3:259] = 0.8
    gains[3 : 3 + 0x20] = gains[3 + 0x7F] = 0
    return gains


def round_to_shared_values(values: Array) -> Array:
    """The nearest values that bfloat16 and float16 both hold: 8 significant bits, and nothing under 2^-14."""
    bits = np.atleast_1d(values).view(np.uint32)
    rounded: Array = ((bits + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32).reshape(values.shape)
    rounded[np.abs(rounded) < 2.0**-14] = 0
    return rounded


def _linear(name: str, n_out: int, n_in: int, *, bias: bool = True, gain: float = 1.0) -> _Plan:
    """A matrix that keeps the variance of what goes through it (times gain squared)."""
    yield f"{name}.weight", _Tensor((n_out, n_in), gain / math.sqrt(n_in))
    if bias:
        yield f"{name}.bias", _Tensor((n_out,), 0.1)


def _norm(name: str, n_embd: int, *, bias: bool = True) -> _Plan:
    yield f"{name}.weight", _Tensor((n_embd,), 0.2, mean=1.0)
    if bias:
        yield f"{name}.bias", _Tensor((n_embd,), 0.1)


def plan_llama(size: Size) -> _Plan:
    """The decoder's tensors: `model.embed_tokens.weight` to `lm_head.weight`."""
    head_size = size.n_embd // size.n_head
    yield "model.embed_tokens.weight", _Tensor((size.n_vocab, size.n_embd), 0.5)
    for i in range(size.n_layer):
        layer = f"model.layers.{i}"
        # Sharp attention (gain 2 in q and k) makes the next token depend on distant ones, so greedy text does not loop.
        yield from _linear(f"{layer}.self_attn.q_proj", size.n_embd, size.n_embd, bias=False, gain=2.0)
        yield from _linear(f"{layer}.self_attn.k_proj", size.n_head_kv * head_size, size.n_embd, bias=False, gain=2.0)
        yield from _linear(f"{layer}.self_attn.v_proj", size.n_head_kv * head_size, size.n_embd, bias=False)
        yield from _linear(f"{layer}.self_attn.o_proj", size.n_embd, size.n_embd, bias=False, gain=1.5)
        yield from _linear(f"{layer}.mlp.gate_proj", size.n_ff, size.n_embd, bias=False)
        yield from _linear(f"{layer}.mlp.up_proj", size.n_ff, size.n_embd, bias=False)
        yield from _linear(f"{layer}.mlp.down_proj", size.n_embd, size.n_ff, bias=False)
        yield from _norm(f"{layer}.input_layernorm", size.n_embd, bias=False)
        yield from _norm(f"{layer}.post_attention_layernorm", size.n_embd, bias=False)
    yield from _norm("model.norm", size.n_embd, bias=False)
    # Logits of standard deviation 4: a margin between the best two of about 1, against float32 noise of about 1e-5.
    yield from _linear("lm_head", size.n_vocab, size.n_embd, bias=False, gain=4.0)


def plan_vision_model(size: Size) -> _Plan:
    """The tensors of CLIP's vision half, `vision_model.*`, with the last layer and norm that PALO never runs."""
    n_embd, prefix = size.vision_n_embd, "vision_model"
    patch = (n_embd, 3, size.patch_size, size.patch_size)
    yield f"{prefix}.embeddings.class_embedding", _Tensor((n_embd,), 0.5)
    yield f"{prefix}.embeddings.patch_embedding.weight", _Tensor(patch, 1 / math.sqrt(math.prod(patch[1:])))
    yield f"{prefix}.embeddings.position_embedding.weight", _Tensor((size.n_patches + 1, n_embd), 0.3)
    yield from _norm(f"{prefix}.pre_layrnorm", n_embd)  # the published misspelling
    yield from _plan_clip_layers(prefix, n_embd, size.vision_n_ff, size.vision_n_layer)
    yield from _norm(f"{prefix}.post_layernorm", n_embd)


def plan_clip_text_half(size: Size) -> _Plan:
    """What a whole CLIPModel holds beside its vision half."""
    n_embd = 32
    yield "logit_scale", _Tensor((), 0.0, mean=4.59375)
    yield "text_projection.weight", _Tensor((n_embd, n_embd), 0.1)
    yield "visual_projection.weight", _Tensor((n_embd, size.vision_n_embd), 0.1)
    yield "text_model.embeddings.token_embedding.weight", _Tensor((64, n_embd), 0.1)
    yield "text_model.embeddings.position_embedding.weight", _Tensor((77, n_embd), 0.1)
    yield from _plan_clip_layers("text_model", n_embd, 2 * n_embd, 1)
    yield from _norm("text_model.final_layer_norm", n_embd)


def _plan_clip_layers(prefix: str, n_embd: int, n_ff: int, n_layer: int) -> _Plan:
    for i in range(n_layer):
        layer = f"{prefix}.encoder.layers.{i}"
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield from _linear(f"{layer}.self_attn.{name}", n_embd, n_embd, gain=1.5 if name[0] in "qk" else 1.0)
        yield from _norm(f"{layer}.layer_norm1", n_embd)
        yield from _linear(f"{layer}.mlp.fc1", n_ff, n_embd)
        yield from _linear(f"{layer}.mlp.fc2", n_embd, n_ff)
        yield from _norm(f"{layer}.layer_norm2", n_embd)


def plan_projector(size: Size, projector: str) -> _Plan:
    """The tensors of `model.mm_projector` for a published `mm_projector_type`."""
    n_in, n_out, prefix = size.vision_n_embd, size.n_embd, "model.mm_projector"
    mlp = re.fullmatch(r"mlp(\d+)x_gelu", projector)
    if projector == "linear":
        yield from _linear(prefix, n_out, n_in)
    elif mlp:
        for i in range(int(mlp[1])):
            yield from _linear(f"{prefix}.{2 * i}", n_out, n_out if i else n_in)
    elif projector == "ldpnet":
        yield from _linear(f"{prefix}.model.mlp.1", n_out, n_in)
        yield from _linear(f"{prefix}.model.mlp.3", n_out, n_out, gain=2.0)
        for i in (1, 2):
            yield from _plan_mobile_block(f"{prefix}.model.mb_block.{i}.block", n_out)
    elif projector == "ldpnetv2":
        yield from _linear(f"{prefix}.mlp.mlp.0", n_out, n_in)
        yield from _linear(f"{prefix}.mlp.mlp.2", n_out, n_out, gain=2.0)
        yield f"{prefix}.peg.peg.0.weight", _Tensor((n_out, 1, 3, 3), 1 / 3)
        yield f"{prefix}.peg.peg.0.bias", _Tensor((n_out,), 0.1)
    elif projector != "identity":
        raise ValueError(f"projector: expected a published mm_projector_type, got {projector!r}")


def _plan_mobile_block(prefix: str, n_channels: int) -> _Plan:
    """torchvision's InvertedResidual without its expansion: depthwise 3x3, squeeze-and-excitation, pointwise."""
    n_squeezed = max(8, (n_channels // 4 + 4) // 8 * 8)  # torchvision's _make_divisible(channels // 4, 8)
    yield f"{prefix}.0.0.weight", _Tensor((n_channels, 1, 3, 3), 1 / 3)
    yield from _norm(f"{prefix}.0.1", n_channels)
    yield f"{prefix}.1.fc1.weight", _Tensor((n_squeezed, n_channels, 1, 1), 1 / math.sqrt(n_channels))
    yield f"{prefix}.1.fc1.bias", _Tensor((n_squeezed,), 0.1)
    # Gain 3, so that the gates (hard sigmoids) really differ from channel to channel and image to image.
    yield f"{prefix}.1.fc2.weight", _Tensor((n_channels, n_squeezed, 1, 1), 3 / math.sqrt(n_squeezed))
    yield f"{prefix}.1.fc2.bias", _Tensor((n_channels,), 0.5)
    yield f"{prefix}.2.0.weight", _Tensor((n_channels, n_channels, 1, 1), 1 / math.sqrt(n_channels))
    yield from _norm(f"{prefix}.2.1", n_channels)


def plan_lora(size: Size, rank: int) -> _Plan:
    """LoRA pairs of the decoder's attention and feed-forward matrices, under PEFT's names."""
    for name, tensor in plan_llama(size):
        if name.endswith("_proj.weight"):
            n_out, n_in = tensor.shape
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            yield f"{stem}.lora_A.weight", _Tensor((rank, n_in), 1 / math.sqrt(n_in))
            yield f"{stem}.lora_B.weight", _Tensor((n_out, rank), 0.2 / math.sqrt(rank))


def plan_model(size: Size, projector: str) -> _Plan:
    """Decoder and projector: what `model.*` and `lm_head` hold without the vision tower."""
    yield from plan_llama(size)
    yield from plan_projector(size, projector)


def rotary_inv_freq(size: Size) -> Array:
    """The buffer that old checkpoints hold in every layer: 10000^(-2i / head_size), [head_size / 2]."""
    head_size = size.n_embd // size.n_head
    return (10000.0 ** (-np.arange(0, head_size, 2) / head_size)).astype(np.float32)
