"""CLIP's vision transformer (arXiv 2103.00020) up to the select layer, with the names of CLIPVisionModel."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

State = dict[str, torch.Tensor]


def patch_embeddings(state: State, config: dict[str, Any], pixels: torch.Tensor) -> torch.Tensor:
    """pixels [3, S, S] -> [n_patches, n_embd]: a convolution without bias whose stride is the patch size."""
    weight = state["vision_model.embeddings.patch_embedding.weight"]
    grid = F.conv2d(pixels[None], weight, stride=config["patch_size"])  # [1, n_embd, h, h]
    return grid.flatten(2).transpose(1, 2)[0]


def hidden_states(state: State, config: dict[str, Any], pixels: torch.Tensor, select_layer: int = -2) -> torch.Tensor:
    """pixels [3, S, S] -> the hidden state at `select_layer` without the class token's row, [n_patches, n_embd].

    Hidden state 0 is the input of the first layer and n_layer the output of the last, so -2 leaves one layer out.
    """
    eps, n_layer = config["layer_norm_eps"], config["num_hidden_layers"]
    patches = patch_embeddings(state, config, pixels)
    hidden = torch.cat([state["vision_model.embeddings.class_embedding"][None], patches])  # [1 + n_patches, n_embd]
    hidden = hidden + state["vision_model.embeddings.position_embedding.weight"]
    hidden = layer_norm(state, "vision_model.pre_layrnorm", hidden, eps)
    n_run = select_layer if select_layer >= 0 else n_layer + 1 + select_layer
    for i in range(n_run):
        hidden = _layer(state, f"vision_model.encoder.layers.{i}", hidden, config["num_attention_heads"], eps)
    return hidden[1:]


def _layer(state: State, name: str, hidden: torch.Tensor, n_head: int, eps: float) -> torch.Tensor:
    hidden = hidden + _attention(
        state, f"{name}.self_attn", layer_norm(state, f"{name}.layer_norm1", hidden, eps), n_head
    )
    inner = linear(state, f"{name}.mlp.fc1", layer_norm(state, f"{name}.layer_norm2", hidden, eps))
    return hidden + linear(state, f"{name}.mlp.fc2", gelu_quick(inner))


def _attention(state: State, name: str, hidden: torch.Tensor, n_head: int) -> torch.Tensor:
    """Every token attends to every token: softmax(q k^T / sqrt(head_size)) v."""
    q, k, v = (
        linear(state, f"{name}.{part}_proj", hidden).unflatten(-1, (n_head, -1)).transpose(0, 1) for part in "qkv"
    )  # [n_head, n_tokens, head_size]
    weights = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(dim=-1)
    return linear(state, f"{name}.out_proj", (weights @ v).transpose(0, 1).flatten(1))


def gelu_quick(x: torch.Tensor) -> torch.Tensor:
    """x * sigmoid(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)


def linear(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    """x [n, n_in] -> [n, n_out]; weight [n_out, n_in], with a bias where there is one."""
    return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def layer_norm(state: State, name: str, x: torch.Tensor, eps: float) -> torch.Tensor:
    """Over the last dimension, with the biased variance."""
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)
