"""How many image embeddings each projector gives for one image."""

from __future__ import annotations


def n_image_tokens(projector: str, n_patches_per_side: int) -> int:
    """Rows that one image takes in the prompt.

    Args:
        projector: `clip.projector_type` of the file: `ldp`, `ldpv2`, or one that keeps every patch.
        n_patches_per_side: side of the tower's grid of patches.
    """
    if projector == "ldp":
        return ((n_patches_per_side + 1) // 2) ** 2  # stride 2, padding 1: an odd side rounds up
    if projector == "ldpv2":
        return (n_patches_per_side // 2) ** 2  # average pooling 2x2: an odd side rounds down
    return n_patches_per_side**2
