"""One prompt on its way into the context, and what that cost: images are encoded, then the prompt is prefilled.

    segments --KvCache.images_to_prefill--> images --ImageEmbedder.embed--> embeddings --KvCache.place--> logits

Nothing holds the model's lock while an image is encoded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import AnswerStopped
from palo_cpp.llm.cursor import Cursor

if TYPE_CHECKING:
    from palo_cpp.chat.read_ahead import ReadAhead
    from palo_cpp.llm.kv_cache import KvCache
    from palo_cpp.segments import ImageSegment, Segment
    from palo_cpp.vision.embedder import Embedder

# What a question is at, as INFO: the command line shows it while the user waits.
stages = logging.getLogger("palo_cpp.chat.stages")


class ImageEncoding:
    """Encodes the images of one prompt, each once.

    Args:
        embedder: encodes them.
        ahead: what was begun before the question came.

    Attributes:
        embeddings: image_embeddings [n_image_tokens, n_embd] f32 by content hash.
        elapsed_s: vision tower and projector, or a look into the embedding cache, or the wait for one under way.
        n_encoded: images for which vision tower and projector ran.
    """

    def __init__(self, embedder: Embedder, ahead: ReadAhead | None = None) -> None:
        self._embedder = embedder
        self._ahead = ahead
        self.embeddings: dict[str, NDArray[np.float32]] = {}
        self.elapsed_s = 0.0
        self.n_encoded = 0

    def encode(self, images: Iterable[ImageSegment]) -> None:
        """Add the embeddings of images that are not among them."""
        for image in images:
            if image.content_hash in self.embeddings:
                continue
            stages.info("encoding the image")
            begun_at = time.perf_counter()
            found = self._ahead.embed(image) if self._ahead else self._embedder.embed(image)
            self.embeddings[image.content_hash] = found.rows
            self.elapsed_s += time.perf_counter() - begun_at
            self.n_encoded += not found.is_cached


class PromptRun:
    """One prompt in a context whose beginning may hold it already; an `AnswerContext` for what follows.

    Args:
        cache: what the context holds.
        embedder: encodes images.
        ahead: what was begun before the question came.
        should_stop: asked before each piece of the prompt, whether anybody still waits for the answer.

    Attributes:
        images: what encoding cost.
        prefill_s: the rest of bringing the context to the end of the prompt.
    """

    def __init__(
        self,
        cache: KvCache,
        embedder: Embedder,
        ahead: ReadAhead | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self._cache = cache
        self._ahead = ahead
        self._should_stop = should_stop
        self._is_stopped = False
        self._cursor: Cursor | None = None
        self.images = ImageEncoding(embedder, ahead)
        self.prefill_s = 0.0

    def prefill(self, segments: list[Segment]) -> Cursor:
        """Bring the context to the end of the prompt.

        Raises:
            AnswerStopped: nobody waits for it any more.
        """
        begun_at = time.perf_counter()
        self.images.encode(self._cache.images_to_prefill(segments))
        stages.info("reading the prompt")
        cursor = self._cursor = Cursor(segments, should_stop=self._should_stop)
        if self._is_stopped:
            raise AnswerStopped
        while not self._cache.place(cursor, self.images.embeddings):
            # Another conversation took the room of an image that was held.
            self.images.encode(self._cache.images_to_prefill(segments))
        self.prefill_s = time.perf_counter() - begun_at - self.images.elapsed_s
        if self._ahead:
            self._ahead.hand_over()
        return cursor

    def advance(self, token: int, guess: int | None = None) -> NDArray[np.float32]:
        """Append a token, and decode the one that may come next in the same step; logits [n_vocab] f32 that follow."""
        assert self._cursor is not None  # prefill comes first
        while (logits := self._cache.advance(self._cursor, token, guess, self.images.embeddings)) is None:
            self.images.encode(self._cache.images_to_prefill(self._cursor.whole()))
        return logits

    @property
    def is_alone(self) -> bool:
        """Whether no other answer is decoded in the same steps."""
        return self._cursor is not None and self._cache.is_alone(self._cursor)

    def is_guessed(self, token: int) -> bool:
        """Whether this token was decoded already, as a guess."""
        return self._cursor is not None and self._cursor.is_guessed(token)

    @property
    def n_free(self) -> int:
        """Tokens that still fit."""
        assert self._cursor is not None  # prefill comes first
        return self._cache.n_free(self._cursor)

    @property
    def n_cached(self) -> int:
        """Tokens and image embeddings of the prompt that the context held already."""
        return self._cursor.n_cached if self._cursor else 0

    @property
    def was_displaced(self) -> bool:
        """Whether the prompt had to be prefilled again because other answers took the room."""
        return self._cursor is not None and self._cursor.n_placed > 1

    def stop(self) -> None:
        """End it, from any thread: who waits for its prompt or its next token comes back with `AnswerStopped`."""
        self._is_stopped = True
        if self._cursor:
            self._cache.stop(self._cursor)

    def release(self) -> None:
        """The answer has ended."""
        if self._cursor:
            self._cache.release(self._cursor)
