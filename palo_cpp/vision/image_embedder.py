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

from palo_cpp.families.palo.prompt import ImageSegment
from palo_cpp.vision.embedding_cache import FeatureCache, Features, feature_key
from palo_cpp.vision.encoder import VisionEncoder
from palo_cpp.vision.image import Pixels, normalise, open_image, preprocess

if TYPE_CHECKING:
    from palo_cpp.chat.session_records import StoredImage
    from palo_cpp.vision.image import ImageSource

# Images of a conversation whose hidden states are kept, 2.3 MiB each.
_N_KEPT = 4
# Images encoded in one call, while as many are read: more would only let the first ones wait.
_N_BATCH_IMAGES = 2


class SharedTower:
    """A vision tower for several projectors: what it made of the last images is kept, so that it runs once for all.

    Args:
        tower: the encoder whose tower runs.
    """

    def __init__(self, tower: VisionEncoder) -> None:
        self._tower = tower
        self._kept: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def hidden_states(self, pixels: Pixels) -> NDArray[np.float32]:
        """Hidden states at the select layer, [n_patches, n_embd_vision] f32."""
        with self._lock:
            hidden = self._kept.get(pixels.content_hash)
            if hidden is None:
                hidden = self._kept[pixels.content_hash] = self._tower.hidden_states(pixels.values)
            self._kept.move_to_end(pixels.content_hash)
            if len(self._kept) > _N_KEPT:
                self._kept.popitem(last=False)
        return hidden

    def forget(self) -> None:
        """Free what is kept."""
        with self._lock:
            self._kept.clear()


class ImageEmbedder:
    """Makes images into segments of a prompt.

    Args:
        vision: tower and projector.
        features: embeddings of images seen before.
        encoder: what `encoder_id` returned for the tower.
        mode: "pad" or "crop".
        tower: runs instead of the tower in `vision`; None where only this projector needs it.
    """

    def __init__(
        self,
        vision: VisionEncoder,
        features: FeatureCache,
        encoder: bytes,
        *,
        mode: str,
        tower: SharedTower | None = None,
    ) -> None:
        self._vision = vision
        self._tower = tower
        self._features = features
        self._encoder_id = encoder
        self._mode = mode

    def open(self, source: ImageSource) -> ImageSegment:
        """Open and preprocess an image; its embeddings are made when they are asked for.

        Raises:
            ImageError: it cannot be read.
        """
        begun_at = time.perf_counter()
        return self._segment(self._pixels(source), begun_at)

    def reopen(self, image: StoredImage) -> ImageSegment:
        """An image again from the pixels that a session file kept."""
        begun_at, info = time.perf_counter(), self._vision.info
        if len(image.square) != info.image_size:  # of a model with another size: a small picture, but a picture
            return self._segment(self._pixels(image.square), begun_at)
        pixels = normalise(
            image.square, mean=info.image_mean, std=info.image_std, mode=image.preprocess, original_size=image.size
        )
        return self._segment(pixels, begun_at)

    def embed_all(self, images: Iterable[ImageSource]) -> NDArray[np.float32]:
        """Embeddings of several images; see `Palo.embed_images`."""
        shape = self._embeddings_shape
        embeddings = [np.empty((0, *shape), np.float32)]
        for pixels in self._batches(images):
            keys = [feature_key(self._encoder_id, each.content_hash) for each in pixels]
            embeddings += [
                features.embeddings[np.newaxis]
                for features in self._features.get_or_encode_all(keys, shape, partial(self._encode, pixels))
            ]
        return np.concatenate(embeddings)

    def forget(self) -> None:
        """Drop what is in memory of earlier images."""
        self._features.clear_memory()
        if self._tower:
            self._tower.forget()

    def _segment(self, pixels: Pixels, begun_at: float) -> ImageSegment:
        return ImageSegment(
            content_hash=pixels.content_hash,
            n_tokens=self._vision.info.n_image_tokens,
            embed=lambda: self._embed(pixels),
            size=pixels.original_size,
            preprocess=pixels.mode,
            elapsed_s=time.perf_counter() - begun_at,
            square=pixels.square,
        )

    def _batches(self, images: Iterable[ImageSource]) -> Iterator[list[Pixels]]:
        remaining = iter(images)

        def read() -> list[Pixels]:
            return [self._pixels(image) for image in islice(remaining, _N_BATCH_IMAGES)]

        # One thread: reading an image catches warnings, which is the whole process's business.
        with ThreadPoolExecutor(max_workers=1) as reader:
            coming = reader.submit(read)
            while pixels := coming.result():
                coming = reader.submit(read)
                yield pixels

    def _encode(self, pixels: Sequence[Pixels], indices: list[int]) -> NDArray[np.float32]:
        return self._vision.encode(np.stack([pixels[i].values for i in indices]))

    @property
    def _embeddings_shape(self) -> tuple[int, int]:
        return self._vision.info.n_image_tokens, self._vision.info.n_embd

    def _pixels(self, source: ImageSource) -> Pixels:
        info = self._vision.info
        return preprocess(
            open_image(source),
            image_size=info.image_size,
            mean=info.image_mean,
            std=info.image_std,
            mode=self._mode,
        )

    def _embed(self, pixels: Pixels) -> Features:
        key = feature_key(self._encoder_id, pixels.content_hash)
        return self._features.get_or_encode(key, self._embeddings_shape, lambda: self._encode_one(pixels))

    def _encode_one(self, pixels: Pixels) -> NDArray[np.float32]:
        if self._tower is None:
            return self._vision.encode(pixels.values)
        return self._vision.project(self._tower.hidden_states(pixels))
