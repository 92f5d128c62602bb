"""Which rows a sequence still lacks of a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from palo_cpp.segments import ImageSegment, Segment, TextSegment

# image_embeddings [n_image_tokens, n_embd] f32 by content hash.
Embeddings = Mapping[str, NDArray[np.float32]]
# Rows of one segment: token ids, or image embeddings [n, n_embd] f32.
Rows = Sequence[int] | NDArray[np.float32]


def next_rows(segments: Sequence[Segment], n_held: int, embeddings: Embeddings, n_most: int) -> Rows:
    """What follows the first `n_held` positions of a prompt, of one segment and `n_most` rows at most."""
    start = end = 0
    for segment in segments:
        start, end = end, end + len(segment)
        if end > n_held:
            break
    rows = segment.tokens if isinstance(segment, TextSegment) else embeddings[segment.content_hash]
    return rows[n_held - start : min(end, n_held + n_most) - start]


def images_after(segments: Sequence[Segment], n_cells: int) -> list[ImageSegment]:
    """The images of a prompt that do not lie whole within its first cells."""
    images, end = [], 0
    for segment in segments:
        end += len(segment)
        if isinstance(segment, ImageSegment) and end > n_cells:
            images.append(segment)
    return images


def has_all(embeddings: Embeddings, images: Sequence[ImageSegment]) -> bool:
    """Whether the embeddings of these images are there."""
    return all(image.content_hash in embeddings for image in images)
