"""Names of tensors in the published layouts -> the one name that the table of tensors has for each."""

from __future__ import annotations

import re

from .sizes import VisionSizes

# (how a name begins, what stands there instead), tried in this order, each once
_PREFIXES = (
    ("base_model.model.", ""),  # PEFT wraps the model in two more
    ("base_model.", ""),
    ("model.model.", "model."),
    ("model.lm_head.", "lm_head."),
    # transformers' LlavaForConditionalGeneration; since 4.52 all but lm_head is inside `model` in memory, but not in
    # the files that it saves, and since 5 the tower is no more inside a `vision_model`.
    ("model.language_model.", "language_model."),
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
    ("language_model.", "model."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
    ("multi_modal_projector.linear_1.", "mm_projector.0."),
    ("multi_modal_projector.linear_2.", "mm_projector.2."),
    ("model.mm_projector.", "mm_projector."),
    ("model.vision_tower.", "vision_tower."),
    ("vision_tower.vision_tower.", "vision_tower."),
    ("vision_tower.", ""),
    ("embeddings.", "vision_model.embeddings."),
    ("pre_layrnorm.", "vision_model.pre_layrnorm."),
    ("encoder.", "vision_model.encoder."),
    ("post_layernorm.", "vision_model.post_layernorm."),
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
    """Replace what the layouts put before a tensor's name."""
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
