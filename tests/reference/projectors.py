"""The projectors: hidden states of the patches -> image embeddings of the decoder's width.

Facts: mbzuai-oryx/PALO palo/model/multimodal_projector/{builder,LDP}.py, Meituan-AutoML/MobileVLM
mobilevlm/model/vision_projector.py, torchvision's InvertedResidual and SqueezeExcitation, timm's LayerNormAct2d.
GELU is the exact one (erf) everywhere.
"""

from __future__ import annotations

import math
import re

import torch
import torch.nn.functional as F

from reference.clip_vit import State, layer_norm, linear

PREFIX = "model.mm_projector"
LAYER_NORM_EPS = 1e-5  # timm's LayerNormAct2d


def project(state: State, projector: str, hidden: torch.Tensor) -> torch.Tensor:
    """hidden [n_patches, n_embd of the tower] -> image embeddings [n_image_tokens, n_embd]."""
    if projector == "identity":
        return hidden
    if projector == "linear":
        return linear(state, PREFIX, hidden)
    if projector == "ldpnet":
        return _ldp(state, hidden)
    if projector == "ldpnetv2":
        return _ldp_v2(state, hidden)
    match = re.fullmatch(r"mlp(\d+)x_gelu", projector)
    assert match, projector
    for i in range(int(match[1])):
        hidden = linear(state, f"{PREFIX}.{2 * i}", F.gelu(hidden) if i else hidden)
    return hidden


def _ldp(state: State, hidden: torch.Tensor) -> torch.Tensor:
    """MobileVLM's lightweight downsample projector (arXiv 2312.16886, section 3.4)."""
    name = f"{PREFIX}.model"
    hidden = linear(state, f"{name}.mlp.3", F.gelu(linear(state, f"{name}.mlp.1", hidden)))
    grid = _to_grid(hidden)
    grid = grid + _mobile_block(state, f"{name}.mb_block.1.block", grid, stride=1)
    return _to_rows(_mobile_block(state, f"{name}.mb_block.2.block", grid, stride=2))


def _mobile_block(state: State, name: str, grid: torch.Tensor, stride: int) -> torch.Tensor:
    """Depthwise 3x3, norm, hard swish; squeeze-and-excitation; pointwise, norm. [1, C, h, h] -> [1, C, h', h']."""
    grid = F.conv2d(grid, state[f"{name}.0.0.weight"], stride=stride, padding=1, groups=grid.shape[1])
    grid = F.hardswish(_channel_norm(state, f"{name}.0.1", grid))
    squeezed = grid.mean(dim=(2, 3), keepdim=True)  # [1, C, 1, 1]
    squeezed = F.relu(F.conv2d(squeezed, state[f"{name}.1.fc1.weight"], state[f"{name}.1.fc1.bias"]))
    gate = F.hardsigmoid(F.conv2d(squeezed, state[f"{name}.1.fc2.weight"], state[f"{name}.1.fc2.bias"]))
    return _channel_norm(state, f"{name}.2.1", F.conv2d(grid * gate, state[f"{name}.2.0.weight"]))


def _ldp_v2(state: State, hidden: torch.Tensor) -> torch.Tensor:
    """MobileVLM V2 (arXiv 2402.03766, section 3.2): average pool 2x2, then a positional depthwise 3x3 with residual.

    Differs from the published code, which pools to 12 x 12 whatever the grid: equal on its 24 x 24, and on other grids
    the pool stays 2x2 (an odd last row and column are dropped), as in llama.cpp.
    """
    hidden = linear(state, f"{PREFIX}.mlp.mlp.2", F.gelu(linear(state, f"{PREFIX}.mlp.mlp.0", hidden)))
    grid = F.avg_pool2d(_to_grid(hidden), 2)
    name = f"{PREFIX}.peg.peg.0"
    return _to_rows(
        F.conv2d(grid, state[f"{name}.weight"], state[f"{name}.bias"], padding=1, groups=grid.shape[1]) + grid
    )


def _channel_norm(state: State, name: str, grid: torch.Tensor) -> torch.Tensor:
    """LayerNorm over the channels of each pixel, [1, C, h, w]."""
    return layer_norm(state, name, grid.permute(0, 2, 3, 1), LAYER_NORM_EPS).permute(0, 3, 1, 2)


def _to_grid(rows: torch.Tensor) -> torch.Tensor:
    """[h * h, C] -> [1, C, h, h]."""
    h = math.isqrt(rows.shape[0])
    return rows.T.reshape(1, rows.shape[1], h, h)


def _to_rows(grid: torch.Tensor) -> torch.Tensor:
    """[1, C, h, w] -> [h * w, C]."""
    return grid[0].flatten(1).T
