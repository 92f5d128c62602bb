"""Names of tensors in the published layouts -> the one that the table has for each, and those that are not needed."""

from __future__ import annotations

import re

# (how a name begins, what stands there instead): a text-only CPM-Bee, as OpenBMB/CPM-Bee and as transformers save it
_PREFIXES = (
    ("cpmbee.", "llm."),
    ("input_embedding.", "llm.input_embedding."),
    ("position_bias.", "llm.position_bias."),
    ("encoder.", "llm.encoder."),
)
_DROPPED = (
    (r"vpm\.mim_head\.(weight|bias)", "only for training: predicts masked patches"),
    (r"vpm\.beit3\.text_embed\.weight", "BEiT-3's own words: no text goes through the vision tower"),
    (r"vpm\.beit3\.vision_embed\.mask_token", "only for training: stands for masked patches"),
    (
        r"vpm\.beit3\.encoder\.layer_norm\.A\.(weight|bias)",
        "the last norm of image tokens: only queries leave the tower",
    ),
    (r"lm_head\.weight", "the same weights as input_embedding"),
    (r"(.*\.)?inv_freq", "computed"),
)


def canonical_name(name: str) -> str:
    """Replace what the layouts put before a tensor's name."""
    for prefix, replacement in _PREFIXES:
        if name.startswith(prefix):
            return replacement + name[len(prefix) :]
    return name


def drop_reason(name: str) -> str | None:
    """Why a tensor is not needed, or None if nothing here knows it."""
    return next((reason for pattern, reason in _DROPPED if re.fullmatch(pattern, name)), None)
