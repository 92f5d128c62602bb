"""The model in torch, for training: CLIP ViT, LDP or MLP projector, LLaMA.

`state_dict()` has the published names; the arithmetic is that of tests/reference, over batches and with the weights as
parameters. One sequence holds one picture and several conversations about it, which do not see each other:

    system prompt | image embeddings | conversation 1 | conversation 2 | ...
    segment 0     | segment 0        | 1              | 2              | ...
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Sizes:
    """Every size. The decoder's rows are of 256, the least that the k-quants take; heads are 64 wide."""

    n_vocab: int = 2560
    n_embd: int = 256
    n_ff: int = 768
    n_layer: int = 6
    n_head: int = 4
    n_ctx: int = 1024
    image_size: int = 168
    patch_size: int = 14
    vision_n_embd: int = 192
    vision_n_ff: int = 768
    vision_n_layer: int = 9  # the last is never run: hidden state -2 is selected
    vision_n_head: int = 3
    projector: str = "ldpnet"  # or mlp2x_gelu

    @property
    def n_side(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def n_image_tokens(self) -> int:
        """Rows that an image takes: LDP halves both sides."""
        return ((self.n_side + 1) // 2) ** 2 if self.projector == "ldpnet" else self.n_side**2

    def to_dict(self) -> dict[str, int | str]:
        """For a checkpoint."""
        return asdict(self)


class Attention(nn.Module):
    """Multi-head attention with the names of CLIP (`out_proj`, biases) or LLaMA (`o_proj`, none)."""

    def __init__(self, n_embd: int, n_head: int, *, bias: bool, output: str) -> None:
        super().__init__()
        self.n_head = n_head
        for name in ("q_proj", "k_proj", "v_proj", output):
            self.add_module(name, nn.Linear(n_embd, n_embd, bias=bias))
        self.output = output

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor] | None = None, mask: Tensor | None = None) -> Tensor:
        """x [n_batch, n_tokens, n_embd] -> the same shape."""
        q, k, v = (
            self.get_submodule(f"{part}_proj")(x).unflatten(-1, (self.n_head, -1)).transpose(1, 2) for part in "qkv"
        )  # [n_batch, n_head, n_tokens, head_size]
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out: Tensor = self.get_submodule(self.output)(attended.transpose(1, 2).flatten(2))
        return out


def rotation_of(positions: Tensor, head_size: int, theta: float = 10000.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines [n_batch, 1, n_tokens, head_size / 2] of positions [n_batch, n_tokens]."""
    frequencies = theta ** -(torch.arange(0, head_size, 2, device=positions.device) / head_size)
    angles = positions[:, None, :, None].float() * frequencies
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions with the pairs (i, i + head_size / 2) of the published weights."""
    cos, sin = (part.to(x.dtype) for part in rotation)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


# ---- CLIP's vision half


class VisionMlp(nn.Module):
    """Two linear layers with the quick GELU between."""

    def __init__(self, n_embd: int, n_ff: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(n_embd, n_ff), nn.Linear(n_ff, n_embd)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., n_embd] -> the same shape."""
        inner = self.fc1(x)
        out: Tensor = self.fc2(inner * torch.sigmoid(1.702 * inner))
        return out


class VisionLayer(nn.Module):
    """One layer of the tower."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.self_attn = Attention(sizes.vision_n_embd, sizes.vision_n_head, bias=True, output="out_proj")
        self.layer_norm1 = nn.LayerNorm(sizes.vision_n_embd)
        self.mlp = VisionMlp(sizes.vision_n_embd, sizes.vision_n_ff)
        self.layer_norm2 = nn.LayerNorm(sizes.vision_n_embd)

    def forward(self, x: Tensor) -> Tensor:
        """x [n_batch, 1 + n_patches, vision_n_embd] -> the same shape."""
        x = x + self.self_attn(self.layer_norm1(x))
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out


class VisionEmbeddings(nn.Module):
    """Patches, class token and positions."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        n_embd, patch = sizes.vision_n_embd, sizes.patch_size
        self.class_embedding = nn.Parameter(torch.randn(n_embd) * 0.02)
        self.patch_embedding = nn.Conv2d(3, n_embd, patch, stride=patch, bias=False)
        self.position_embedding = nn.Embedding(sizes.n_side**2 + 1, n_embd)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels [n_batch, 3, S, S] -> [n_batch, 1 + n_patches, vision_n_embd]."""
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.to(patches.dtype).expand(len(pixels), 1, -1)
        return torch.cat([first, patches], dim=1) + self.position_embedding.weight.to(patches.dtype)


class VisionTransformer(nn.Module):
    """`vision_model`: everything up to the select layer; the last layer and norm are carried along unused."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(sizes)
        self.pre_layrnorm = nn.LayerNorm(sizes.vision_n_embd)  # the published misspelling
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(VisionLayer(sizes) for _ in range(sizes.vision_n_layer))})
        self.post_layernorm = nn.LayerNorm(sizes.vision_n_embd)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels [n_batch, 3, S, S] -> hidden state -2 without the class token, [n_batch, n_patches, vision_n_embd]."""
        x = self.pre_layrnorm(self.embeddings(pixels))
        for layer in self.encoder["layers"][:-1]:  # type: ignore[index]
            x = layer(x)
        out: Tensor = x[:, 1:]
        return out


# ---- projectors


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of [n_batch, C, h, w]."""

    def forward(self, input: Tensor) -> Tensor:
        """[n_batch, C, h, w] -> the same shape."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SqueezeExcitation(nn.Module):
    """A gate for each channel from the mean of all; a quarter of the channels inside."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(n_channels, n_channels // 4, 1), nn.Conv2d(n_channels // 4, n_channels, 1)

    def forward(self, grid: Tensor) -> Tensor:
        """[n_batch, C, h, w] -> the same shape."""
        return grid * F.hardsigmoid(self.fc2(F.relu(self.fc1(grid.mean(dim=(2, 3), keepdim=True)))))


class MobileBlock(nn.Module):
    """Depthwise 3x3, norm, hard swish; squeeze-and-excitation; pointwise, norm. Residual where the stride is 1."""

    def __init__(self, n: int, stride: int) -> None:
        super().__init__()
        depthwise = nn.Conv2d(n, n, 3, stride=stride, padding=1, groups=n, bias=False)
        self.stride = stride
        self.block = nn.Sequential(
            nn.Sequential(depthwise, ChannelNorm(n), nn.Hardswish()),
            SqueezeExcitation(n),
            nn.Sequential(nn.Conv2d(n, n, 1, bias=False), ChannelNorm(n)),
        )

    def forward(self, grid: Tensor) -> Tensor:
        """[n_batch, C, h, w] -> [n_batch, C, h / stride, w / stride]."""
        out: Tensor = self.block(grid)
        return grid + out if self.stride == 1 else out


class LdpProjector(nn.Module):
    """MobileVLM's projector (arXiv 2312.16886, section 3.4): a quarter of the rows, each from 2 x 2 patches."""

    def __init__(self, n_in: int, n: int) -> None:
        super().__init__()
        mlp = nn.Sequential(nn.Identity(), nn.Linear(n_in, n), nn.GELU(), nn.Linear(n, n))
        blocks = nn.Sequential(nn.Identity(), MobileBlock(n, 1), MobileBlock(n, 2))
        self.model = nn.ModuleDict({"mlp": mlp, "mb_block": blocks})

    def forward(self, hidden: Tensor) -> Tensor:
        """[n_batch, h * h, n_in] -> [n_batch, h / 2 * h / 2, n]."""
        rows = self.model["mlp"](hidden)
        side = math.isqrt(rows.shape[1])
        grid: Tensor = self.model["mb_block"](rows.transpose(1, 2).unflatten(2, (side, side)))
        return grid.flatten(2).transpose(1, 2)


# ---- LLaMA


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))

    def forward(self, x: Tensor) -> Tensor:
        """[..., n] -> the same shape."""
        return F.rms_norm(x.float(), x.shape[-1:], self.weight, 1e-5).to(x.dtype)


class GatedMlp(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, n_embd: int, n_ff: int) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(n_embd, n_ff, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(n_ff, n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., n_embd] -> the same shape."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class DecoderLayer(nn.Module):
    """One layer of the decoder."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.self_attn = Attention(sizes.n_embd, sizes.n_head, bias=False, output="o_proj")
        self.mlp = GatedMlp(sizes.n_embd, sizes.n_ff)
        self.input_layernorm, self.post_attention_layernorm = RmsNorm(sizes.n_embd), RmsNorm(sizes.n_embd)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """x [n_batch, n_tokens, n_embd] -> the same shape."""
        x = x + self.self_attn(self.input_layernorm(x), rotation, mask)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Nano(nn.Module):
    """The whole model; its parameters are named as in PALO's checkpoints."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        if sizes.projector == "ldpnet":
            projector: nn.Module = LdpProjector(sizes.vision_n_embd, sizes.n_embd)
        else:
            first, second = nn.Linear(sizes.vision_n_embd, sizes.n_embd), nn.Linear(sizes.n_embd, sizes.n_embd)
            projector = nn.Sequential(first, nn.GELU(), second)
        tower = nn.ModuleDict({"vision_tower": nn.ModuleDict({"vision_model": VisionTransformer(sizes)})})
        self.model = nn.ModuleDict(
            {
                "embed_tokens": nn.Embedding(sizes.n_vocab, sizes.n_embd),
                "layers": nn.ModuleList(DecoderLayer(sizes) for _ in range(sizes.n_layer)),
                "norm": RmsNorm(sizes.n_embd),
                "mm_projector": projector,
                "vision_tower": tower,
            }
        )
        self.lm_head = nn.Linear(sizes.n_embd, sizes.n_vocab, bias=False)
        self._initialize()

    def _initialize(self) -> None:
        """Normal 0.03, and less for what adds to the residual stream, by depth (GPT-2's way).

        The tower's positions and attention begin as trained ones look.
        """
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                depth = self.sizes.n_layer if ".layers." in name else 1
                ends_branch = name.endswith(("o_proj.weight", "out_proj.weight", "down_proj.weight", "fc2.weight"))
                nn.init.normal_(parameter, std=0.03 / math.sqrt(2 * depth) if ends_branch else 0.03)
        vision: Any = self.model["vision_tower"]["vision_tower"]["vision_model"]  # type: ignore[index]
        with torch.no_grad():
            vision.embeddings.position_embedding.weight[0] = 0.0
            vision.embeddings.position_embedding.weight[1:] = 0.5 * grid_positions(
                self.sizes.n_side, self.sizes.vision_n_embd
            )
            for layer in vision.encoder["layers"][:-4]:  # those that look at one thing; later ones compare things
                mimic_trained_attention(layer.self_attn)

    def see(self, pixels: Tensor) -> Tensor:
        """pixels [n_batch, 3, S, S] -> the tower's hidden state [n_batch, n_patches, vision_n_embd]."""
        out: Tensor = self.model["vision_tower"]["vision_tower"]["vision_model"](pixels)  # type: ignore[index]
        return out

    def project(self, hidden: Tensor) -> Tensor:
        """Hidden state -> image embeddings [n_batch, n_image_tokens, n_embd]."""
        out: Tensor = self.model["mm_projector"](hidden)
        return out

    def read(self, tokens: Tensor, positions: Tensor, segments: Tensor, images: Tensor | None, start: int) -> Tensor:
        """Logits [n_batch, n_tokens, n_vocab]; for the arguments see `layers`."""
        return self.say(self.layers(tokens, positions, segments, images, start)[-1])

    def say(self, hidden: Tensor) -> Tensor:
        """What the last layer makes, [..., n_embd] -> logits [..., n_vocab]."""
        out: Tensor = self.lm_head(self.model["norm"](hidden))
        return out

    def layers(
        self, tokens: Tensor, positions: Tensor, segments: Tensor, images: Tensor | None, start: int
    ) -> list[Tensor]:
        """What each layer of the decoder produces.

        Args:
            tokens: [n_batch, n_tokens]; at the image's places, any.
            positions: [n_batch, n_tokens].
            segments: [n_batch, n_tokens]: 0 is seen by all, others by themselves alone, each token by itself and later
                ones.
            images: image embeddings [n_batch, n_image_tokens, n_embd], or None for text alone.
            start: where the image begins.

        Returns:
            Hidden states [n_batch, n_tokens, n_embd] after each layer.
        """
        x = self.model["embed_tokens"](tokens)
        hidden_rows = torch.zeros(tokens.shape[1], dtype=torch.bool, device=tokens.device)
        if images is None:
            hidden_rows[start : start + self.sizes.n_image_tokens] = True
        else:
            x = torch.cat([x[:, :start], images.to(x.dtype), x[:, start + images.shape[1] :]], dim=1)
        rotation = rotation_of(positions, self.sizes.n_embd // self.sizes.n_head)
        mask = attention_mask(segments, hidden_rows)
        out = []
        layers: Any = self.model["layers"]
        for layer in layers:
            x = layer(x, rotation, mask)
            out.append(x)
        return out


def grid_positions(n_side: int, n: int) -> Tensor:
    """Sines and cosines of row and column, [n_side * n_side, n]: neighbours have similar ones (Vaswani et al. 2017)."""
    frequencies = 100.0 ** -(torch.arange(n // 4) / (n // 4))
    rows, columns = torch.meshgrid(torch.arange(n_side), torch.arange(n_side), indexing="ij")
    angles = [place.flatten()[:, None] * frequencies for place in (columns, rows)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)


def mimic_trained_attention(attention: Attention) -> None:
    """Queries like keys, values against outputs: what attention learns first (Trockman and Kolter 2023, section 3).

    With positions whose neighbours are similar, a patch then attends to those around it from the first step.
    """
    n, n_head = attention.get_submodule("q_proj").weight.shape[0], attention.n_head  # type: ignore[union-attr]
    size, noise = n // n_head, torch.randn
    weights = {name: attention.get_submodule(name).weight for name in ("q_proj", "k_proj", "v_proj", "out_proj")}
    for head in range(n_head):
        rows = slice(head * size, (head + 1) * size)
        u, s, v = torch.linalg.svd(0.7 * noise(n, n) / math.sqrt(n) + 0.7 * torch.eye(n))
        weights["q_proj"][rows] = (u[:, :size] * s[:size].sqrt()).T  # type: ignore[index]
        weights["k_proj"][rows] = v[:size] * s[:size, None].sqrt()  # type: ignore[index]
    u, s, v = torch.linalg.svd(0.4 * noise(n, n) / math.sqrt(n) - 0.4 * torch.eye(n))
    weights["v_proj"].copy_(v * s[:, None].sqrt())  # type: ignore[operator]
    weights["out_proj"].copy_(u * s.sqrt())  # type: ignore[operator]


def attention_mask(segments: Tensor, hidden_rows: Tensor) -> Tensor:
    """Who sees whom, bool [n_batch, 1, n_tokens, n_tokens]; everyone sees at least itself."""
    n = segments.shape[1]
    earlier = torch.ones(n, n, dtype=torch.bool, device=segments.device).tril()
    shared = (segments[:, None, :] == 0) & ~hidden_rows
    same = segments[:, :, None] == segments[:, None, :]
    mask = (earlier & (shared | (same & ~hidden_rows))) | torch.eye(n, dtype=torch.bool, device=segments.device)
    return mask[:, None]
