"""BEiT-3 "multiway" once more, stage by stage, written apart from beit3.py: one misreading cannot hide in both.

arXiv 2208.10442 and 2308.12038. Every weight is there twice: set A is for class token and patches, set B for the
queries. Only the attention mixes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

State = dict[str, torch.Tensor]
_EPS = 1e-5


def patch_embeddings(state: State, pixels: torch.Tensor) -> torch.Tensor:
    """pixels [3, S, S] -> [n_patches, n_embd]: a convolution with bias whose stride is the patch size."""
    weight, bias = (state[f"vpm.beit3.vision_embed.proj.{part}"] for part in ("weight", "bias"))
    grid = F.conv2d(pixels[None], weight, bias, stride=weight.shape[-1])  # [1, n_embd, h, h]
    return grid.flatten(2).transpose(1, 2)[0]


def residual_streams(state: State, config: dict[str, Any], pixels: torch.Tensor) -> Iterator[torch.Tensor]:
    """The embedding and then each layer's output, all tokens: [1 + n_patches + n_query, n_embd]."""
    x, n_image = _embed(state, pixels)
    yield x
    for i in range(config["n_layer"]):
        x = _layer(state, f"vpm.beit3.encoder.layers.{i}", x, n_image, config["n_head"])
        yield x


def hidden_states(state: State, config: dict[str, Any], pixels: torch.Tensor) -> torch.Tensor:
    """pixels [3, S, S] -> the queries after the last norm, [n_query, n_embd]."""
    *_, last = residual_streams(state, config, pixels)
    return _norm(state, "vpm.beit3.encoder.layer_norm.B", last[-len(state["query"]) :])


def mapping(state: State, hidden: torch.Tensor) -> torch.Tensor:
    """[n_query, n_embd] -> image embeddings [n_query, n_embd of the language model]."""
    return _linear(state, "mapping.2", F.gelu(_linear(state, "mapping.0", hidden)))


def _embed(state: State, pixels: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Positions begin at row 2 of both tables; the class token comes first."""
    image = torch.cat([state["vpm.beit3.vision_embed.cls_token"][0], patch_embeddings(state, pixels)])
    image = image + state["vpm.beit3.encoder.embed_positions.A.weight"][2 : 2 + len(image)]
    query = state["query"]
    query = query + state["vpm.beit3.encoder.embed_positions.B.weight"][2 : 2 + len(query)]
    return torch.cat([image, query]), len(image)


def _layer(state: State, name: str, x: torch.Tensor, n_image: int, n_head: int) -> torch.Tensor:
    """Pre-norm, with a second norm inside the attention and inside the feed-forward ("sub-LN")."""

    def both(what: str, values: torch.Tensor) -> torch.Tensor:
        """A linear layer or a norm, of set A on the first rows and of set B on the rest."""
        run = _norm if "norm" in what or "_ln" in what else _linear
        parts = (("A", values[:n_image]), ("B", values[n_image:]))
        return torch.cat([run(state, f"{name}.{what.format(S=s)}", rows) for s, rows in parts])

    normed = both("self_attn_layer_norm.{S}", x)
    q, k, v = (
        both(f"self_attn.{part}_proj.{{S}}", normed).unflatten(-1, (n_head, -1)).transpose(0, 1) for part in "qkv"
    )  # [n_head, n_tokens, head_size]
    weights = (q / q.shape[-1] ** 0.5 @ k.transpose(1, 2)).softmax(dim=-1)
    attended = (weights @ v).transpose(0, 1).flatten(1)
    x = x + both("self_attn.out_proj.{S}", both("self_attn.inner_attn_ln.{S}", attended))
    inner = F.gelu(both("ffn.{S}.fc1", both("final_layer_norm.{S}", x)))
    return x + both("ffn.{S}.fc2", both("ffn.{S}.ffn_layernorm", inner))


def _linear(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def _norm(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], _EPS)
