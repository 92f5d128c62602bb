"""BEiT-3 with queries and the mapping to the language model, in plain PyTorch float32, with the checkpoint's names.

Two sets of weights: A for the image's tokens, B for the queries. Attention is joint, over both.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from reference.clip_vit import layer_norm, linear

State = dict[str, torch.Tensor]

EPS = 1e-5
HEAD_DIM = 64
FIRST_POSITION = 2  # fairseq counts positions from the padding's number on


def embeddings(state: State, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """pixels [3, S, S] -> class token and patches [1 + n_patches, n_embd], and queries [n_queries, n_embd]."""
    weight, bias = (state[f"vpm.beit3.vision_embed.proj.{part}"] for part in ("weight", "bias"))
    grid = F.conv2d(pixels[None], weight, bias, stride=weight.shape[-1])  # [1, n_embd, h, w]
    patches = grid.flatten(2).transpose(1, 2)[0]  # row by row
    image = torch.cat([state["vpm.beit3.vision_embed.cls_token"][0], patches])
    return _with_positions(state, "A", image), _with_positions(state, "B", state["query"])


def _with_positions(state: State, side: str, rows: torch.Tensor) -> torch.Tensor:
    table = state[f"vpm.beit3.encoder.embed_positions.{side}.weight"]
    return rows + table[FIRST_POSITION : FIRST_POSITION + len(rows)]


def hidden_states(state: State, pixels: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Image rows and query rows after the embeddings, then after each layer."""
    stages = [embeddings(state, pixels)]
    i = 0
    while f"vpm.beit3.encoder.layers.{i}.ffn.A.fc1.weight" in state:
        stages.append(_layer(state, f"vpm.beit3.encoder.layers.{i}", *stages[-1]))
        i += 1
    return stages


def queries(state: State, pixels: torch.Tensor) -> torch.Tensor:
    """pixels [3, S, S] -> the encoder's output [n_queries, n_embd]: the last norm, on the queries alone."""
    return layer_norm(state, "vpm.beit3.encoder.layer_norm.B", hidden_states(state, pixels)[-1][1], EPS)


def image_embeddings(state: State, pixels: torch.Tensor) -> torch.Tensor:
    """pixels [3, S, S] -> what the language model gets [n_queries, width of the language model]."""
    return linear(state, "mapping.2", F.gelu(linear(state, "mapping.0", queries(state, pixels))))  # erf


def _layer(state: State, name: str, image: torch.Tensor, query: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    n_image, sides = len(image), {"A": image, "B": query}
    normed = {s: layer_norm(state, f"{name}.self_attn_layer_norm.{s}", x, EPS) for s, x in sides.items()}
    q, k, v = (
        _heads(torch.cat([linear(state, f"{name}.self_attn.{part}_proj.{s}", x) for s, x in normed.items()]))
        for part in "qkv"
    )
    mixed = ((q / HEAD_DIM**0.5) @ k.transpose(1, 2)).softmax(dim=-1) @ v  # [n_head, n, head_dim]
    joined = mixed.transpose(0, 1).flatten(1)
    attended = {"A": joined[:n_image], "B": joined[n_image:]}
    after = {}
    for s, x in sides.items():
        inner = layer_norm(state, f"{name}.self_attn.inner_attn_ln.{s}", attended[s], EPS)
        x = x + linear(state, f"{name}.self_attn.out_proj.{s}", inner)
        up = F.gelu(linear(state, f"{name}.ffn.{s}.fc1", layer_norm(state, f"{name}.final_layer_norm.{s}", x, EPS)))
        after[s] = x + linear(state, f"{name}.ffn.{s}.fc2", layer_norm(state, f"{name}.ffn.{s}.ffn_layernorm", up, EPS))
    return after["A"], after["B"]


def _heads(x: torch.Tensor) -> torch.Tensor:
    """[n, n_embd] -> [n_head, n, head_dim]."""
    return x.unflatten(-1, (-1, HEAD_DIM)).transpose(0, 1)
