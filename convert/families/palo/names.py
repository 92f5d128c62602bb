"""Names of tensors in the published layouts -> the one name that the table of tensors has for each."""

from __future__ import annotations

import re

from .sizes import VisionSizes

# (what the layouts put before the canonical name, what stands there instead)
_PREFIXES = (
    ("base_model.model.model.", "model."),  # PEFT wraps the model in two more
    ("base_model.model.", ""),
    ("base_model.", ""),
    ("model.model.", "model."),
    ("model.vision_tower.vision_tower.", ""),
    ("vision_tower.vision_tower.", ""),
    ("model.vision_tower.", ""),
    ("vision_tower.", ""),
    ("model.mm_projector.", "mm_projector."),
)
_DROPPED = (
    (r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq", "computed from rope_theta"),
    (r"model\.rotary_emb\.inv_freq", "computed from rope_theta"),
    (r"(vision_model|text_model)\.embeddings\.position_ids", "a count from 0, computed"),
    (r"vision_model\.post_layernorm\.(weight|bias)", "after the selected layer"),
    (r"text_model\..*|text_projection\.weight|logit_scale", "text half of CLIP"),
    (r"visual_projection\.weight", "CLIP's own projection; the projector takes the tower's output"),
)
_VISION_LAYER = re.compile(r"vision_model\.encoder\.layers\.(\d+)\.[a-z0-9_.]+")


def canonical_name(name: str) -> str:
    """Strip what the layouts put before a tensor's name; the rows are tried in order, each once."""
    for prefix, replacement in _PREFIXES:
        if name.startswith(prefix):
            name = replacement + name[len(prefix) :]
    return name


def drop_reason(name: str, vision: VisionSizes) -> str | None:
    """Why a tensor is not needed, or None if nothing here knows it."""
    for pattern, reason in _DROPPED:
        if re.fullmatch(pattern, name):
            return reason
    match = _VISION_LAYER.fullmatch(name)
    if match and vision.select_layer <= int(match[1]) < vision.n_layer:
        return f"after the selected layer ({vision.select_layer} of {vision.n_layer})"
    return None
