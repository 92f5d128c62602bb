"""A checkpoint's config.json in LLaVA's own keys, checked, whichever program wrote it.

LLaVA, PALO and MobileVLM write the keys of LlamaConfig and their own `mm_*` (haotian-liu/LLaVA,
llava/model/llava_arch.py). transformers' LlavaForConditionalGeneration writes `text_config` and `vision_config`, and
until transformers 5 leaves out what equals its defaults (transformers, models/llava/configuration_llava.py).
"""

from __future__ import annotations

from typing import Any

from palo_cpp.errors import ModelFormatError

from ...json_file import Config

# transformers, models/llama/configuration_llama.py and models/clip/configuration_clip.py
_LLAMA_DEFAULTS = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
}
CLIP_DEFAULTS = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "layer_norm_eps": 1e-5,
    "hidden_act": "quick_gelu",
}
# openai/clip-vit-large-patch14-336, which LlavaConfig stands for where it names no tower at all.
CLIP_L_336 = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "layer_norm_eps": 1e-5,
    "hidden_act": "quick_gelu",
}
Expected = tuple[tuple[str, Any, tuple[Any, ...]], ...]  # key, what stands for it where it is left out, allowed values
_NATIVE: Expected = (
    ("projector_hidden_act", "gelu", ("gelu",)),
    ("vision_feature_select_strategy", "default", ("default",)),
    ("multimodal_projector_bias", True, (True,)),
)
_LLAVA: Expected = (
    ("mm_use_im_start_end", False, (False, None)),
    ("mm_vision_select_feature", "patch", ("patch",)),
    ("mm_patch_merge_type", "flat", ("flat", None)),
    ("attention_bias", False, (False, None)),
    ("mlp_bias", False, (False, None)),
)


def llava_config(config: Config, preprocessor: Config | None) -> Config:
    """Give a config.json LLaVA's keys.

    Args:
        config: as it was read.
        preprocessor: how the checkpoint's images are prepared, for a config that does not say it.

    Raises:
        ModelFormatError: a decoder, a tower or a way to join them that the family does not have.
    """
    if is_native(config):
        config = _from_native(config, preprocessor)
    check(config, _LLAVA)
    return config


def is_native(config: Config) -> bool:
    """Whether transformers' own LlavaForConditionalGeneration wrote it."""
    return "text_config" in config.values or "LlavaForConditionalGeneration" in config.names("architectures")


def check(config: Config, expected: Expected, within: str = "") -> None:
    """Refuse a config with other values than the family knows.

    Raises:
        ModelFormatError: names the key, what is known and what is there.
    """
    for key, default, allowed in expected:
        if (value := config.get(key, default)) not in allowed:
            known = " or ".join(str(a) for a in allowed if a is not None)
            raise ModelFormatError(f"{config.path}: {within}{key}: expected {known}, got {value!r}")


def _from_native(config: Config, preprocessor: Config | None) -> Config:
    text, vision = (_given(config.part(key)) for key in ("text_config", "vision_config"))
    check(text, (("model_type", "llama", ("llama",)),), "text_config.")
    check(vision, (("model_type", "clip_vision_model", ("clip_vision_model",)),), "vision_config.")
    check(config, _NATIVE)
    tied = [part.flag("tie_word_embeddings", False) for part in (config, text)]
    tower = CLIP_L_336 if config.get("vision_config") is None else CLIP_DEFAULTS
    pads = preprocessor is not None and preprocessor.flag("do_pad", False)
    values = {
        **_LLAMA_DEFAULTS,
        **text.values,
        "model_type": config.get("model_type"),
        "_name_or_path": config.get("_name_or_path"),
        "tie_word_embeddings": any(tied),
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": _select_layer(config),
        "vision_config": {**tower, **vision.values},
        "image_aspect_ratio": "pad" if pads else "square",  # CLIPImageProcessor pads nothing
    }
    return Config(config.path, values)


def _given(config: Config) -> Config:
    """What is not null: to transformers, null is as good as left out."""
    return Config(config.path, {key: value for key, value in config.values.items() if value is not None})


def _select_layer(config: Config) -> int:
    value = config.get("vision_feature_layer", -2)
    layers = value if isinstance(value, list) else [value]
    if len(layers) != 1 or type(layers[0]) is not int:
        raise ModelFormatError(f"{config.path}: vision_feature_layer: expected one layer (as -2), got {value!r}")
    return layers[0]
