"""LLaMA and CLIP with an MLP projector in plain numpy float64, on tensors under their published names.

Independent of our code and of llama.cpp: what a converted file computes is held against it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from random_model import Size

Array = NDArray[np.float64]
Tensors = Mapping[str, NDArray[np.float32]]


def llama_logits(tensors: Tensors, size: Size, tokens: list[int], eps: float = 1e-5, theta: float = 1e4) -> Array:
    """Logits [n_tokens, n_vocab] (transformers, models/llama/modeling_llama.py)."""
    w = {name: values.astype(np.float64) for name, values in tensors.items()}
    hidden = w["model.embed_tokens.weight"][tokens]
    for i in range(size.n_layer):
        layer = f"model.layers.{i}."
        normed = _rms_norm(hidden, w[f"{layer}input_layernorm.weight"], eps)
        hidden = hidden + _llama_attention(w, f"{layer}self_attn.", normed, size, theta)
        normed = _rms_norm(hidden, w[f"{layer}post_attention_layernorm.weight"], eps)
        gate, up = (normed @ w[f"{layer}mlp.{name}_proj.weight"].T for name in ("gate", "up"))
        hidden = hidden + (gate / (1 + np.exp(-gate)) * up) @ w[f"{layer}mlp.down_proj.weight"].T
    return _rms_norm(hidden, w["model.norm.weight"], eps) @ w["lm_head.weight"].T


def _rms_norm(x: Array, weight: Array, eps: float) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def _llama_attention(w: Mapping[str, Array], prefix: str, x: Array, size: Size, theta: float) -> Array:
    n, head_dim = len(x), size.n_embd // size.n_head
    q = _rotate((x @ w[f"{prefix}q_proj.weight"].T).reshape(n, size.n_head, head_dim), theta)
    k = _rotate((x @ w[f"{prefix}k_proj.weight"].T).reshape(n, size.n_head_kv, head_dim), theta)
    v = (x @ w[f"{prefix}v_proj.weight"].T).reshape(n, size.n_head_kv, head_dim)
    k, v = (np.repeat(t, size.n_head // size.n_head_kv, axis=1) for t in (k, v))
    scores = np.einsum("qhd,khd->hqk", q, k) / math.sqrt(head_dim)
    scores = np.where(np.tril(np.ones((n, n), dtype=bool)), scores, -np.inf)
    mixed = np.einsum("hqk,khd->qhd", _softmax(scores), v).reshape(n, -1)
    return mixed @ w[f"{prefix}o_proj.weight"].T


def _rotate(x: Array, theta: float) -> Array:
    """Rotary embedding over halves of a head, as transformers has it. x [n_tokens, n_head, head_dim]."""
    half = x.shape[-1] // 2
    angles = np.arange(len(x))[:, None] * theta ** (-np.arange(half) / half)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def mlp_image_embeddings(
    tensors: Tensors, size: Size, pixels: NDArray[np.float32], select_layer: int = -2, *, class_last: bool = False
) -> Array:
    """CLIP's hidden state through `mlp2x_gelu`: pixels [3, S, S] -> [n_patches, n_embd], with the erf GELU."""
    w = {name.split("vision_tower.")[-1]: values.astype(np.float64) for name, values in tensors.items()}
    x = clip_hidden(w, size, pixels.astype(np.float64), select_layer, class_last=class_last)[1:]
    x = x @ w["model.mm_projector.0.weight"].T + w["model.mm_projector.0.bias"]
    x = 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return x @ w["model.mm_projector.2.weight"].T + w["model.mm_projector.2.bias"]


def clip_hidden(
    w: Mapping[str, Array], size: Size, pixels: Array, select_layer: int, *, class_last: bool = False
) -> Array:
    """A hidden state of CLIP [1 + n_patches, vision_n_embd] (transformers, models/clip/modeling_clip.py).

    `class_last` repeats a mistake of llama.cpp (ggml-org/llama.cpp issue 25814, in our pin): the class embedding is put
    after the patches, while the position embeddings keep their order.
    """
    side, p = size.image_size // size.patch_size, size.patch_size
    patches = pixels.reshape(3, side, p, side, p).transpose(1, 3, 0, 2, 4).reshape(side * side, -1)
    kernel = w["vision_model.embeddings.patch_embedding.weight"]
    rows = [w["vision_model.embeddings.class_embedding"][None], patches @ kernel.reshape(len(kernel), -1).T]
    x = np.concatenate(rows[::-1] if class_last else rows) + w["vision_model.embeddings.position_embedding.weight"]
    x = _layer_norm(x, w, "vision_model.pre_layrnorm")
    n_layers = select_layer if select_layer >= 0 else size.vision_n_layer + 1 + select_layer
    for i in range(n_layers):
        layer = f"vision_model.encoder.layers.{i}."
        x = x + _clip_attention(w, f"{layer}self_attn.", _layer_norm(x, w, f"{layer}layer_norm1"), size)
        h = _linear(_layer_norm(x, w, f"{layer}layer_norm2"), w, f"{layer}mlp.fc1")
        x = x + _linear(h / (1 + np.exp(-1.702 * h)), w, f"{layer}mlp.fc2")
    return x


def _layer_norm(x: Array, w: Mapping[str, Array], name: str, eps: float = 1e-5) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * w[f"{name}.weight"] + w[f"{name}.bias"]


def _linear(x: Array, w: Mapping[str, Array], name: str) -> Array:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _clip_attention(w: Mapping[str, Array], prefix: str, x: Array, size: Size) -> Array:
    n, n_head = len(x), size.vision_n_head
    q, k, v = (_linear(x, w, f"{prefix}{c}_proj").reshape(n, n_head, -1) for c in "qkv")
    scores = np.einsum("qhd,khd->hqk", q, k) / math.sqrt(q.shape[-1])
    return _linear(np.einsum("hqk,khd->qhd", _softmax(scores), v).reshape(n, -1), w, f"{prefix}out_proj")
