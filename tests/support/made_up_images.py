"""Images that are names: their embeddings are random, and always the same for a name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from palo_cpp.errors import ImageError
from palo_cpp.segments import ImageEmbeddings, ImageSegment

N_TOKENS = 6  # rows of each

IMAGE_NAMES = ("cat", "dog", "bird")


class Images:
    """Opens and embeds them, as `ImageEmbedder` does.

    Attributes:
        n_encoded: how many were embedded.
        during: called with the name while one is embedded; may wait or raise.
    """

    def __init__(self) -> None:
        self.n_encoded = 0
        self._names: dict[str, str] = {}
        self.during: Callable[[str], None] = lambda _name: None

    def open(self, name: str) -> ImageSegment:
        if name == "broken":
            raise ImageError("broken: expected an image, got noise; try another")
        self._names[content_hash(name)] = name
        return ImageSegment(content_hash(name), N_TOKENS, (30, 20), "pad", elapsed_s=0.25)

    def embed(self, image: ImageSegment) -> ImageEmbeddings:
        name = self._names[image.content_hash]
        self.n_encoded += 1
        self.during(name)
        rows = np.random.default_rng(list(name.encode())).standard_normal((N_TOKENS, 64)).astype(np.float32) * 0.5
        return ImageEmbeddings(rows, is_cached=name == "known")


def content_hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
