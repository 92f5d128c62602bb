"""Small random mmproj files, written with the `gguf` package alone, and their model in numpy float64."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from tiny_gguf import add_value, finish

Array = NDArray[Any]
_TYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0", "q4_0": "Q4_0"}


@dataclass
class Mmproj:
    """Sizes of a file; widths are multiples of 32, so that q4_0 and q8_0 hold whole blocks."""

    grid: int = 4
    patch_size: int = 4
    n_embd: int = 64
    n_head: int = 4
    n_ff: int = 96
    n_layer: int = 2
    n_out: int = 96
    n_squeezed: int = 32
    projector: str = "ldp"
    eps: float = 1e-5
    use_gelu: bool = False
    seed: int = 0
    tensors: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.tensors:
            self.tensors = _Tensors(self).make()

    @property
    def image_size(self) -> int:
        return self.grid * self.patch_size

    def metadata(self) -> dict[str, Any]:
        return {
            "clip.has_vision_encoder": True,
            "clip.projector_type": self.projector,
            "clip.use_gelu": self.use_gelu,
            "clip.vision.image_size": self.image_size,
            "clip.vision.patch_size": self.patch_size,
            "clip.vision.embedding_length": self.n_embd,
            "clip.vision.feed_forward_length": self.n_ff,
            "clip.vision.projection_dim": self.n_out,
            "clip.vision.attention.head_count": self.n_head,
            "clip.vision.attention.layer_norm_epsilon": self.eps,
            "clip.vision.block_count": self.n_layer,
            "clip.vision.feature_layer": [self.n_layer],
            "clip.vision.image_mean": [0.48, 0.46, 0.41],
            "clip.vision.image_std": [0.27, 0.26, 0.28],
        }

    def pixels(self, n_images: int = 1) -> NDArray[np.float32]:
        random = np.random.default_rng(self.seed + 1)
        return random.standard_normal((n_images, 3, self.image_size, self.image_size)).astype(np.float32)


class _Tensors:
    def __init__(self, model: Mmproj) -> None:
        self.model = model
        self.random = np.random.default_rng(model.seed)
        self.tensors: dict[str, Array] = {}

    def make(self) -> dict[str, Array]:
        m = self.model
        self.add("v.class_embd", m.n_embd)
        self.add("v.patch_embd.weight", m.n_embd, 3, m.patch_size, m.patch_size)
        self.add("v.position_embd.weight", m.grid**2 + 1, m.n_embd)
        self.norm("v.pre_ln", m.n_embd)
        for i in range(m.n_layer):
            for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
                self.linear(f"v.blk.{i}.{part}", m.n_embd, m.n_embd)
            self.norm(f"v.blk.{i}.ln1", m.n_embd)
            self.norm(f"v.blk.{i}.ln2", m.n_embd)
            self.linear(f"v.blk.{i}.ffn_up", m.n_ff, m.n_embd)
            self.linear(f"v.blk.{i}.ffn_down", m.n_embd, m.n_ff)
        self.projector()
        return self.tensors

    def projector(self) -> None:
        m = self.model
        if m.projector in ("linear", "mlp", "mlp3x_gelu"):
            for i in range({"linear": 1, "mlp": 2, "mlp3x_gelu": 3}[m.projector]):
                self.linear(f"mm.{2 * i}", m.n_out, m.n_out if i else m.n_embd)
        elif m.projector == "ldp":
            self.linear("mm.model.mlp.1", m.n_out, m.n_embd)
            self.linear("mm.model.mlp.3", m.n_out, m.n_out)
            for block in (1, 2):
                self.ldp_block(f"mm.model.mb_block.{block}.block.")
        elif m.projector == "ldpv2":
            self.linear("mm.model.mlp.0", m.n_out, m.n_embd)
            self.linear("mm.model.mlp.2", m.n_out, m.n_out)
            self.add("mm.model.peg.0.weight", m.n_out, 1, 3, 3)
            self.add("mm.model.peg.0.bias", m.n_out)

    def ldp_block(self, prefix: str) -> None:
        m = self.model
        self.add(prefix + "0.0.weight", m.n_out, 1, 3, 3)
        self.norm(prefix + "0.1", m.n_out)
        self.linear(prefix + "1.fc1", m.n_squeezed, m.n_out)
        self.linear(prefix + "1.fc2", m.n_out, m.n_squeezed)
        self.add(prefix + "2.0.weight", m.n_out, m.n_out)
        self.norm(prefix + "2.1", m.n_out)

    def add(self, name: str, *shape: int, mean: float = 0.0) -> None:
        scale = 1.0 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.1
        self.tensors[name] = (mean + scale * self.random.standard_normal(shape)).astype(np.float32)

    def linear(self, prefix: str, n_out: int, n_in: int) -> None:
        self.add(prefix + ".weight", n_out, n_in)
        self.add(prefix + ".bias", n_out)

    def norm(self, prefix: str, n: int) -> None:
        self.add(prefix + ".weight", n, mean=1.0)
        self.add(prefix + ".bias", n)


def write_mmproj(path: Path, model: Mmproj, *, weights: str = "f32", changes: dict[str, Any] | None = None) -> Path:
    """Write the file; `changes` set metadata otherwise (None leaves a key out).

    Matrices whose rows hold whole blocks get the type `weights`, all else f32; `model.tensors` become what the file's
    rounded weights stand for, so that numpy computes with the same numbers.
    """
    kind = gguf.GGMLQuantizationType[_TYPES[weights]]
    block = gguf.GGML_QUANT_SIZES[kind][0]
    writer = gguf.GGUFWriter(path, "clip")
    for key, value in (model.metadata() | (changes or {})).items():
        add_value(writer, key, value)
    for name, values in model.tensors.items():
        if values.ndim > 1 and values.shape[-1] % block == 0 and kind != gguf.GGMLQuantizationType.F32:
            raw = gguf.quants.quantize(values, kind)
            model.tensors[name] = gguf.quants.dequantize(raw, kind).reshape(values.shape)
            writer.add_tensor(name, raw, raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    finish(writer)
    return path


class NumpyModel:
    """The same model in plain numpy float64, written from model.md and PALO's PyTorch modules, not from the C++."""

    def __init__(self, model: Mmproj) -> None:
        self.m = model
        self.w = {name: values.astype(np.float64) for name, values in model.tensors.items()}

    def patch_embeddings(self, pixels: Array) -> Array:
        m = self.m
        grid = pixels.astype(np.float64).reshape(3, m.grid, m.patch_size, m.grid, m.patch_size)
        patches = grid.transpose(1, 3, 0, 2, 4).reshape(m.grid**2, -1)
        return patches @ self.w["v.patch_embd.weight"].reshape(m.n_embd, -1).T

    def hidden_states(self, pixels: Array) -> Array:
        x = np.concatenate([self.w["v.class_embd"][None], self.patch_embeddings(pixels)])
        x = self.norm(x + self.w["v.position_embd.weight"], "v.pre_ln", self.m.eps)
        for i in range(self.m.n_layer):
            block = f"v.blk.{i}."
            x = x + self.attention(self.norm(x, block + "ln1", self.m.eps), block)
            up = self.linear(self.norm(x, block + "ln2", self.m.eps), block + "ffn_up")
            x = x + self.linear(gelu_erf(up) if self.m.use_gelu else gelu_quick(up), block + "ffn_down")
        return x[1:]

    def attention(self, x: Array, block: str) -> Array:
        def heads(part: str) -> Array:
            return self.linear(x, block + part).reshape(len(x), self.m.n_head, -1).transpose(1, 0, 2)

        q, k, v = heads("attn_q"), heads("attn_k"), heads("attn_v")
        mixed = softmax(q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])) @ v
        return self.linear(mixed.transpose(1, 0, 2).reshape(len(x), -1), block + "attn_out")

    def project(self, hidden: Array) -> Array:
        hidden = hidden.astype(np.float64)
        if self.m.projector == "ldp":
            return self.ldp(hidden)
        if self.m.projector == "ldpv2":
            return self.ldpv2(hidden)
        n_layers = {"identity": 0, "linear": 1, "mlp": 2, "mlp3x_gelu": 3}[self.m.projector]
        return self.mlp(hidden, [f"mm.{2 * i}" for i in range(n_layers)])

    def encode(self, pixels: Array) -> Array:
        return self.project(self.hidden_states(pixels))

    def mlp(self, x: Array, prefixes: list[str]) -> Array:
        for i, prefix in enumerate(prefixes):
            x = self.linear(gelu_erf(x) if i else x, prefix)
        return x

    def ldp(self, hidden: Array) -> Array:
        x = self.mlp(hidden, ["mm.model.mlp.1", "mm.model.mlp.3"]).reshape(self.m.grid, self.m.grid, -1)
        x = self.ldp_block(x, "mm.model.mb_block.1.block.", 1) + x
        x = self.ldp_block(x, "mm.model.mb_block.2.block.", 2)
        return x.reshape(-1, self.m.n_out)

    def ldp_block(self, x: Array, prefix: str, stride: int) -> Array:
        x = depthwise(x, self.w[prefix + "0.0.weight"], stride)
        x = self.norm(x, prefix + "0.1", 1e-5)
        x = x * np.clip(x + 3, 0, 6) / 6
        squeezed = np.maximum(self.linear(x.mean(axis=(0, 1)), prefix + "1.fc1"), 0)
        x = x * np.clip(self.linear(squeezed, prefix + "1.fc2") + 3, 0, 6) / 6
        return self.norm(x @ self.w[prefix + "2.0.weight"].T, prefix + "2.1", 1e-5)

    def ldpv2(self, hidden: Array) -> Array:
        x = self.mlp(hidden, ["mm.model.mlp.0", "mm.model.mlp.2"]).reshape(self.m.grid, self.m.grid, -1)
        side = self.m.grid // 2
        x = x[: 2 * side, : 2 * side].reshape(side, 2, side, 2, -1).mean(axis=(1, 3))
        x = depthwise(x, self.w["mm.model.peg.0.weight"], 1) + self.w["mm.model.peg.0.bias"] + x
        return x.reshape(-1, self.m.n_out)

    def linear(self, x: Array, prefix: str) -> Array:
        return x @ self.w[prefix + ".weight"].T + self.w[prefix + ".bias"]

    def norm(self, x: Array, prefix: str, eps: float) -> Array:
        return layer_norm(x, self.w[prefix + ".weight"], self.w[prefix + ".bias"], eps)


def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    variance = x.var(axis=-1, keepdims=True)
    return (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(variance + eps) * weight + bias


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def gelu_quick(x: Array) -> Array:
    return x / (1 + np.exp(np.minimum(-1.702 * x, 700)))  # e^700 still fits a double


def gelu_erf(x: Array) -> Array:
    from math import erf

    return 0.5 * x * (1 + np.vectorize(erf, otypes=[np.float64])(x / np.sqrt(2)))


def depthwise(x: Array, weight: Array, stride: int) -> Array:
    """x [h, w, c], weight [c, 1, 3, 3], zero padding 1."""
    height, width, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    taps = weight.reshape(-1, 3, 3).transpose(1, 2, 0)
    full = sum(padded[u : u + height, v : v + width] * taps[u, v] for u in range(3) for v in range(3))
    return np.asarray(full)[::stride, ::stride]
