"""Images that are names: their embeddings are random, and always the same for a name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from palo_cpp.errors import ImageError
from palo_cpp.families.palo.prompt import ImageSegment
from palo_cpp.vision.embedding_cache import Features

N_TOKENS = 6  # rows of each

IMAGE_NAMES = ("cat", "dog", "bird")


class Images:
    """Opens them.

    Attributes:
        n_encoded: how many were embedded.
        during: called with the name while one is embedded; may wait or raise.
    """

    def __init__(self) -> None:
        self.n_encoded = 0
        self.during: Callable[[str], None] = lambda _name: None

    def open(self, name: str) -> ImageSegment:
        if name == "broken":
            raise ImageError("broken: expected an image, got noise; try another")
        return ImageSegment(content_hash(name), N_TOKENS, lambda: self._embed(name), (30, 20), "pad", elapsed_s=0.25)

    def _embed(self, name: str) -> Features:
        self.n_encoded += 1
        self.during(name)
        rows = np.random.default_rng(list(name.encode())).standard_normal((N_TOKENS, 64)).astype(np.float32) * 0.5
        return Features(rows, is_cached=name == "known")


def content_hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
