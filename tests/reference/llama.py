"""LLaMA's decoder (arXiv 2302.13971) over embeddings, all positions at once and without a KV cache."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from reference.clip_vit import State, linear


def embed_tokens(state: State, tokens: list[int]) -> torch.Tensor:
    """Token ids -> embeddings [n_tokens, n_embd]."""
    return state["model.embed_tokens.weight"][torch.tensor(tokens, dtype=torch.long)]


def forward(state: State, config: dict[str, Any], embeddings: torch.Tensor) -> torch.Tensor:
    """embeddings [n_tokens, n_embd] -> logits of the last position, [n_vocab]."""
    eps, hidden = config["rms_norm_eps"], embeddings
    for i in range(config["num_hidden_layers"]):
        name = f"model.layers.{i}"
        normed = rms_norm(state, f"{name}.input_layernorm", hidden, eps)
        hidden = hidden + _attention(state, f"{name}.self_attn", config, normed)
        normed = rms_norm(state, f"{name}.post_attention_layernorm", hidden, eps)
        gate = F.silu(linear(state, f"{name}.mlp.gate_proj", normed))
        hidden = hidden + linear(state, f"{name}.mlp.down_proj", gate * linear(state, f"{name}.mlp.up_proj", normed))
    return linear(state, "lm_head", rms_norm(state, "model.norm", hidden[-1], eps))


def rms_norm(state: State, name: str, x: torch.Tensor, eps: float) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) * weight."""
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + eps) * state[f"{name}.weight"]


def _attention(state: State, name: str, config: dict[str, Any], hidden: torch.Tensor) -> torch.Tensor:
    """Causal; each of the n_head_kv key and value heads serves n_head / n_head_kv query heads."""
    n_head, n_head_kv = config["num_attention_heads"], config["num_key_value_heads"]
    q = linear(state, f"{name}.q_proj", hidden).unflatten(-1, (n_head, -1)).transpose(0, 1)
    k, v = (
        linear(state, f"{name}.{part}_proj", hidden).unflatten(-1, (n_head_kv, -1)).transpose(0, 1) for part in "kv"
    )  # [n_head, n_tokens, head_size] and [n_head_kv, n_tokens, head_size]
    q, k = rotate(q, config["rope_theta"]), rotate(k, config["rope_theta"])
    k, v = (x.repeat_interleave(n_head // n_head_kv, dim=0) for x in (k, v))
    scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
    future = torch.ones(scores.shape[1:], dtype=torch.bool).triu(diagonal=1)
    weights = scores.masked_fill(future, -torch.inf).softmax(dim=-1)
    return linear(state, f"{name}.o_proj", (weights @ v).transpose(0, 1).flatten(1))


def rotate(x: torch.Tensor, theta: float) -> torch.Tensor:
    """Rotary positions (arXiv 2104.09864), with the pairs (i, i + head_size / 2) of the published weights."""
    _, n_tokens, head_size = x.shape
    frequencies = 1.0 / theta ** (torch.arange(0, head_size, 2, dtype=torch.float32) / head_size)
    angles = torch.outer(torch.arange(n_tokens, dtype=torch.float32), frequencies)
    first, second = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
