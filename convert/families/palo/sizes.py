"""Every size and switch of a model, read from its `config.json` and checked; nothing is assumed.

The keys are those of transformers' LlamaConfig and CLIPVisionConfig and of LLaVA's `mm_*` extension
(haotian-liu/LLaVA, llava/model/llava_arch.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palo_cpp.errors import ModelFormatError
from palo_cpp.families.palo.image_tokens import n_image_tokens

from ...json_file import Config
from .llava_config import CLIP_DEFAULTS, CLIP_L_336, check

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # openai/clip-vit-large-patch14-336, preprocessor_config.json
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

# Towers whose config.json need not be at hand when their weights are inside the checkpoint.
KNOWN_TOWERS = {"openai/clip-vit-large-patch14-336": CLIP_L_336}


@dataclass(frozen=True)
class TextSizes:
    """Sizes of the LLaMA decoder.

    `n_ctx_train` is the base's context, `n_ctx_tuned` the one that PALO was trained with upon it, where they differ.
    """

    n_embd: int
    n_ff: int
    n_layer: int
    n_head: int
    n_head_kv: int
    head_dim: int
    n_vocab: int
    n_ctx_train: int
    rms_norm_eps: float
    rope_theta: float
    rope_factor: float | None
    tied_embeddings: bool
    n_ctx_tuned: int | None = None


@dataclass(frozen=True)
class VisionSizes:
    """Sizes of the CLIP vision tower. `select_layer` is the index of the hidden state, 0 for the layers' input."""

    image_size: int
    patch_size: int
    n_embd: int
    n_ff: int
    n_layer: int
    n_head: int
    layer_norm_eps: float
    hidden_act: str
    select_layer: int
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]

    @property
    def n_patches_per_side(self) -> int:
        """Side of the patch grid."""
        return self.image_size // self.patch_size

    @property
    def n_patches(self) -> int:
        """Patches of one image."""
        return self.n_patches_per_side**2


@dataclass(frozen=True)
class Projector:
    """Kind and widths of the projector.

    Attributes:
        source_type: `mm_projector_type` as the checkpoint spells it.
        kind: `mlp`, `ldp`, `ldpv2`, `linear` or `identity`.
        n_linear: linear layers of the `mlp` and `linear` kinds.
        n_in: width of the tower.
        n_out: width of the decoder.
    """

    source_type: str
    kind: str
    n_linear: int
    n_in: int
    n_out: int

    @property
    def gguf_type(self) -> str:
        """Value of `clip.projector_type`.

        Stock llama.cpp reads `mlp` as exactly two linear layers with a GELU between (tools/mtmd/models/llava.cpp) and
        would answer nonsense, or crash, for other counts. They get a name of their own, which it refuses.
        """
        if self.kind == "mlp" and self.n_linear != 2:
            return f"mlp{self.n_linear}x_gelu"
        return self.kind

    def n_image_tokens(self, n_patches_per_side: int) -> int:
        """Image embeddings that come out for one image."""
        return n_image_tokens(self.kind, n_patches_per_side)


def text_sizes(config: Config) -> TextSizes:
    """Read the decoder's sizes.

    Raises:
        ModelFormatError: a size is missing or contradicts another one, or the position scaling is unknown.
    """
    n_embd, n_head = config.size("hidden_size"), config.size("num_attention_heads")
    n_head_kv, head_dim = config.size("num_key_value_heads", n_head), config.size("head_dim", max(n_embd // n_head, 1))
    if n_head % n_head_kv or head_dim % 2 or (config.get("head_dim") is None and n_embd % n_head):
        raise ModelFormatError(
            f"{config.path}: {n_head} heads and {n_head_kv} key/value heads do not divide a width of {n_embd}"
        )
    if (act := config.get("hidden_act", "silu")) != "silu":
        raise ModelFormatError(f"{config.path}: hidden_act: expected silu (LLaMA), got {act!r}")
    return TextSizes(
        n_embd=n_embd,
        n_ff=config.size("intermediate_size"),
        n_layer=config.size("num_hidden_layers"),
        n_head=n_head,
        n_head_kv=n_head_kv,
        head_dim=head_dim,
        n_vocab=config.size("vocab_size"),
        n_ctx_train=config.size("max_position_embeddings", 2048),
        rms_norm_eps=config.number("rms_norm_eps", 1e-6),
        rope_theta=_rope_theta(config),
        rope_factor=_rope_factor(config),
        tied_embeddings=config.flag("tie_word_embeddings", False),
        n_ctx_tuned=_n_ctx_tuned(config),
    )


def _n_ctx_tuned(config: Config) -> int | None:
    """`tokenizer_model_max_length`: training cuts examples there (haotian-liu/LLaVA, llava/model/llava_arch.py).

    2048 for PALO-7B and 13B, whose base has positions for 4096 tokens. transformers writes 10**30 for "no limit".
    """
    n_ctx = config.get("tokenizer_model_max_length")
    is_shorter = type(n_ctx) is int and 0 < n_ctx < config.size("max_position_embeddings", 2048)
    return n_ctx if is_shorter else None


def _rope_theta(config: Config) -> float:
    """`rope_theta`; transformers 5 moved it into `rope_parameters`."""
    parameters = config.get("rope_parameters")
    if isinstance(parameters, dict) and "rope_theta" in parameters:
        return Config(config.path, parameters).number("rope_theta", 10000.0)
    return config.number("rope_theta", 10000.0)


def _rope_factor(config: Config) -> float | None:
    scaling = config.get("rope_scaling") or config.get("rope_parameters")
    if not isinstance(scaling, dict):
        return None
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "linear":
        return Config(config.path, scaling).number("factor", 1.0)
    if kind not in ("default", None):
        raise ModelFormatError(f"{config.path}: rope_scaling: expected none or linear, got {kind!r}")
    return None


def vision_sizes(tower: Config, select_layer: Any, preprocessor: Config | None) -> VisionSizes:
    """Read the tower's sizes from its config (a CLIPVisionConfig, or a CLIPConfig that holds one).

    Args:
        tower: config of the tower.
        select_layer: `mm_vision_select_layer`: -2 is the output of the last layer but one.
        preprocessor: `preprocessor_config.json` of the tower, for mean and standard deviation of the pixels.
    """
    config = _clip_vision_config(tower)
    n_layer, n_embd, n_head = (config.size(k) for k in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
    image_size, patch_size = config.size("image_size"), config.size("patch_size")
    if n_embd % n_head or image_size % patch_size:
        raise ModelFormatError(
            f"{tower.path}: {n_head} heads must divide {n_embd}, and patches of {patch_size} an image of {image_size}"
        )
    if (act := config.get("hidden_act", "quick_gelu")) not in ("quick_gelu", "gelu"):
        raise ModelFormatError(f"{tower.path}: hidden_act: expected quick_gelu or gelu, got {act!r}")
    return VisionSizes(
        image_size=image_size,
        patch_size=patch_size,
        n_embd=n_embd,
        n_ff=config.size("intermediate_size"),
        n_layer=n_layer,
        n_head=n_head,
        layer_norm_eps=config.number("layer_norm_eps", 1e-5),
        hidden_act=str(act),
        select_layer=_select_layer(tower.path, select_layer, n_layer),
        image_mean=_three_numbers(preprocessor, "image_mean", CLIP_MEAN),
        image_std=_three_numbers(preprocessor, "image_std", CLIP_STD),
    )


def _clip_vision_config(tower: Config) -> Config:
    """The vision half, with the sizes that transformers leaves out because they are its defaults."""
    check(tower, (("model_type", None, (None, "clip", "clip_vision_model")),))
    half = tower.part("vision_config") if "vision_config" in tower.values else tower
    is_transformers = half is not tower or tower.get("model_type") == "clip_vision_model"
    return Config(tower.path, {**(CLIP_DEFAULTS if is_transformers else {}), **half.values})


def _select_layer(path: Path, value: Any, n_layer: int) -> int:
    """Index of the hidden state, counted from 0, the input of the first layer; -1 is the last layer's output."""
    if type(value) is not int or not -n_layer - 1 <= value <= n_layer:
        raise ModelFormatError(
            f"{path}: mm_vision_select_layer: expected a layer of {n_layer} (as -2 or 23), got {value!r}"
        )
    return value if value >= 0 else n_layer + 1 + value


def _three_numbers(config: Config | None, key: str, default: tuple[float, ...]) -> tuple[float, ...]:
    value = default if config is None else config.get(key, default)
    numbers = tuple(value) if isinstance(value, list | tuple) else ()
    if len(numbers) != 3 or any(isinstance(v, bool) or not isinstance(v, int | float) for v in numbers):
        raise ModelFormatError(f"{config.path if config else key}: {key}: expected three numbers, got {value!r}")
    return tuple(float(v) for v in numbers)


def read_projector(config: Config, n_in: int, n_out: int) -> Projector:
    """Read `mm_projector_type`.

    Raises:
        ModelFormatError: a projector that no PALO, LLaVA-1.5 or MobileVLM checkpoint has.
    """
    name = config.get("mm_projector_type", "linear")
    kind, n_linear = {"linear": ("linear", 1), "identity": ("identity", 0)}.get(str(name), ("", 0))
    if str(name).startswith("ldpnet"):
        kind = {"ldpnet": "ldp", "ldpnetv2": "ldpv2"}.get(str(name), "")
    elif match := re.fullmatch(r"mlp([1-9])x_gelu", str(name)):
        n_linear = int(match[1])
        kind = "mlp" if n_linear > 1 else "linear"
    if not kind:
        known = "linear, identity, mlpNx_gelu, ldpnet, ldpnetv2"
        raise ModelFormatError(f"{config.path}: mm_projector_type: expected one of {known}, got {name!r}")
    if kind == "identity" and n_in != n_out:
        raise ModelFormatError(f"{config.path}: an identity projector cannot join widths {n_in} and {n_out}")
    return Projector(str(name), kind, n_linear, n_in, n_out)
