"""Images that are names, for the tests of the embedding cache, and what their entries are called and weigh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from palo_cpp.vision.embedding_cache import EmbeddingCache, embedding_key

SHAPE = (9, 300)  # 10800 bytes: a whole row of the checksum's table and a rest
ENTRY_BYTES = 128 + 4 * 9 * 300
PALO_7B = (576, 4096)
MIB = 1 << 20


def key_of(name: str) -> str:
    return embedding_key(b"encoder", name)


def rows_of(name: str, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(list(name.encode())).standard_normal(shape).astype(np.float32)


class Images:
    """Images are names; counts how many were encoded."""

    def __init__(self, shape: tuple[int, int] = SHAPE) -> None:
        self.shape = shape
        self.encoded: list[str] = []

    def see(self, cache: EmbeddingCache, name: str) -> bool:
        """Ask for an image's embeddings; check them, and tell whether they were known."""

        def encode() -> np.ndarray:
            self.encoded.append(name)
            return rows_of(name, self.shape)

        found = cache.get_or_encode(key_of(name), self.shape, encode)
        assert found.rows.dtype == np.float32 and found.rows.shape == self.shape
        assert np.array_equal(found.rows, rows_of(name, self.shape))
        assert not found.rows.flags.writeable
        return found.is_cached


def mib(n_entries: float, entry_bytes: int = ENTRY_BYTES) -> float:
    return n_entries * entry_bytes / MIB


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.features"))


def hammer(folder: str, seed: int, failures: Any) -> None:
    """See a few images in random order, many times, in a folder that holds two thirds of them."""
    random, images = np.random.default_rng(seed), Images()
    cache = EmbeddingCache(folder, memory_mib=0, disk_mib=mib(4))
    try:
        for _ in range(150):
            images.see(cache, f"image {random.integers(6)}")
        failures.put(f"nothing was known of {len(images.encoded)}" if len(images.encoded) == 150 else None)
    except BaseException as error:
        failures.put(repr(error))
