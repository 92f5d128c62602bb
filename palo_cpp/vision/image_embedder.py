"""From an image to what the language model sees of it: opened, preprocessed, encoded once, remembered."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import ArgumentError
from palo_cpp.segments import ImageEmbeddings, ImageSegment
from palo_cpp.vision.embedding_cache import EmbeddingCache, embedding_key
from palo_cpp.vision.encoder import VisionEncoder
from palo_cpp.vision.image import content_hash_of, normalize, open_upright, square_pixels
from palo_cpp.vision.image_encoder import ImageEncoder

if TYPE_CHECKING:
    from palo_cpp.vision.image import ImageSource

# Images of a conversation whose hidden states are kept, 2.3 MiB each.
_N_KEPT = 4
# Images encoded in one call, while as many are opened: more would only let the first ones wait.
_N_BATCH_IMAGES = 2


class SharedTower:
    """A vision tower for several projectors: its output for the last images is kept, so that it runs once for all.

    Args:
        tower: the encoder whose tower runs.
    """

    def __init__(self, tower: VisionEncoder) -> None:
        self._tower = tower
        self._kept: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def hidden_states(self, pixels: NDArray[np.float32], content_hash: str) -> NDArray[np.float32]:
        """Hidden states [n_patches, n_embd_vision] f32 at the select layer, for pixels [3, S, S] f32."""
        with self._lock:
            hidden = self._kept.get(content_hash)
            if hidden is None:
                hidden = self._kept[content_hash] = self._tower.hidden_states(pixels)
            self._kept.move_to_end(content_hash)
            if len(self._kept) > _N_KEPT:
                self._kept.popitem(last=False)
        return hidden

    def forget(self) -> None:
        """Free what is kept."""
        with self._lock:
            self._kept.clear()


class ProjectorOnTower:
    """An encoder whose tower is another one's: only the projector is its own.

    Args:
        projector: the encoder whose projector runs.
        tower: what runs before it.
    """

    def __init__(self, projector: VisionEncoder, tower: SharedTower) -> None:
        self._projector, self._tower = projector, tower

    def encode_one(self, pixels: NDArray[np.float32], content_hash: str) -> NDArray[np.float32]:
        """Image embeddings [n_image_tokens, n_embd] f32 of pixels [3, S, S] f32."""
        return self._projector.project(self._tower.hidden_states(pixels, content_hash))


class ImageEmbedder:
    """Turns images into segments of a prompt, and these into embeddings.

    Args:
        encoder: tower and projector.
        cache: embeddings of images seen before.
        encoder_id: what `embedding_cache.encoder_id` returned for the encoder.
        mode: how images are made square, as "pad" or "crop".
        on_tower: encodes single images instead, where the tower is shared with another model.

    Attributes:
        mode: likewise.
        n_encoded: images that were encoded until now.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        cache: EmbeddingCache,
        encoder_id: bytes,
        *,
        mode: str,
        on_tower: ProjectorOnTower | None = None,
    ) -> None:
        self._encoder = encoder
        self._on_tower = on_tower
        self._cache = cache
        self._encoder_id = encoder_id
        self.mode = mode
        self.n_encoded = 0

    def open(self, source: ImageSource) -> ImageSegment:
        """Open an image and make it square; its embeddings come from `embed`.

        Raises:
            ImageError: it cannot be read.
        """
        begun_at, info = time.perf_counter(), self._encoder.info
        image = open_upright(source)
        square = square_pixels(image, image_size=info.image_size, mean=info.image_mean, mode=self.mode)
        return self._segment(square, self.mode, image.size, begun_at)

    def reopen(self, square: NDArray[np.uint8], *, mode: str, size: tuple[int, int]) -> ImageSegment:
        """An image again from its `ImageSegment.square`, also of a model with another `image_size`."""
        if len(square) != self._encoder.info.image_size:
            return self.open(square)  # a small picture, but a picture
        return self._segment(square, mode, size, time.perf_counter())

    def embed(self, image: ImageSegment) -> ImageEmbeddings:
        """What the language model gets to see of an image: known embeddings, or fresh ones, which are kept.

        Raises:
            ArgumentError: the segment has no pixels.
        """
        return self._cache.get_or_encode(self._key(image), self._shape, lambda: self._encode(image))

    def embed_all(self, sources: Iterable[ImageSource]) -> NDArray[np.float32]:
        """Embeddings of several images; see `Palo.embed_images`."""
        embeddings = [np.empty((0, *self._shape), np.float32)]
        for images in self._batches(sources):
            keys = [self._key(image) for image in images]
            encode = partial(self._encode_all, images)
            found = self._cache.get_or_encode_all(keys, self._shape, encode)
            embeddings += [each.rows[np.newaxis] for each in found]
        return np.concatenate(embeddings)

    def forget(self) -> None:
        """Drop what is in memory of earlier images."""
        self._cache.clear_memory()

    def _segment(self, square: NDArray[np.uint8], mode: str, size: tuple[int, int], begun_at: float) -> ImageSegment:
        content_hash = content_hash_of(square, mode)
        elapsed_s = time.perf_counter() - begun_at
        return ImageSegment(content_hash, self._encoder.info.n_image_tokens, size, mode, elapsed_s, square)

    def _batches(self, sources: Iterable[ImageSource]) -> Iterator[list[ImageSegment]]:
        remaining = iter(sources)

        def read() -> list[ImageSegment]:
            return [self.open(source) for source in islice(remaining, _N_BATCH_IMAGES)]

        # One thread: opening an image catches warnings, which is the whole process's business.
        with ThreadPoolExecutor(max_workers=1) as reader:
            coming = reader.submit(read)
            while images := coming.result():
                coming = reader.submit(read)
                yield images

    def _key(self, image: ImageSegment) -> str:
        return embedding_key(self._encoder_id, image.content_hash)

    @property
    def _shape(self) -> tuple[int, int]:
        return self._encoder.info.n_image_tokens, self._encoder.info.n_embd

    def _pixels(self, image: ImageSegment) -> NDArray[np.float32]:
        if image.square is None:
            raise ArgumentError("image: expected one with its pixels, got one without; open it with this model")
        return normalize(image.square, mean=self._encoder.info.image_mean, std=self._encoder.info.image_std)

    def _encode(self, image: ImageSegment) -> NDArray[np.float32]:
        pixels = self._pixels(image)
        self.n_encoded += 1
        return self._on_tower.encode_one(pixels, image.content_hash) if self._on_tower else self._encoder.encode(pixels)

    def _encode_all(self, images: Sequence[ImageSegment], indices: list[int]) -> NDArray[np.float32]:
        self.n_encoded += len(indices)
        return self._encoder.encode(np.stack([self._pixels(images[i]) for i in indices]))
