"""What the next question will need, made in the background while its user still types.

    images --embed (no lock held)--> embeddings --KvCache.prefill_ahead (in pieces)--> the prompt's beginning

Nothing depends on it: a question takes over what is done, waits only for an encoding that it needs and that runs
already, and does the rest itself. So it may end anywhere, fail, or be displaced by another conversation; what fails is
tried again by the question, which then says what is wrong.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from palo_cpp.segments import ImageEmbeddings, ImageSegment, Segment

if TYPE_CHECKING:
    from palo_cpp.llm.kv_cache import KvCache
    from palo_cpp.vision.embedder import Embedder

logger = logging.getLogger(__name__)


class ReadAhead:
    """One run in the background, for one beginning of a prompt.

    Args:
        cache: the context to prefill it into.
        embedder: encodes images.
        segments: the beginning.
        before: the run before it, whose embeddings are not made twice.

    Attributes:
        segments: likewise.
        is_used: whether a question has taken over what was made.
    """

    def __init__(
        self, cache: KvCache, embedder: Embedder, segments: Sequence[Segment], before: ReadAhead | None = None
    ) -> None:
        self.segments = list(segments)
        self.is_used = False
        self._cache = cache
        self._embedder = embedder
        self._begun_at = time.perf_counter()
        self._ended_at: float | None = None
        self._stopped = threading.Event()
        made: dict[str, _Once] = before._embeddings if before else {}
        self._embeddings: dict[str, _Once] = {
            each.content_hash: made.get(each.content_hash) or _Once(partial(embedder.embed, each))
            for each in segments
            if isinstance(each, ImageSegment)
        }
        self._thread = threading.Thread(target=self._run, name="palo_cpp read ahead")
        self._thread.start()

    @property
    def elapsed_s(self) -> float:
        """How long it has worked."""
        return (self._ended_at or time.perf_counter()) - self._begun_at

    @property
    def is_stopped(self) -> bool:
        """Whether it was asked to end."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """End before the next image or piece; does not wait for the one that is being worked on."""
        self._stopped.set()

    def hand_over(self) -> None:
        """A question's prompt is prefilled: what was made here is in the context, and may be freed."""
        self.is_used = True
        for embeddings in self._embeddings.values():
            embeddings.forget()

    def wait(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    def embed(self, image: ImageSegment) -> ImageEmbeddings:
        """The embeddings of an image: those made here, if they are, or are being made."""
        known = self._embeddings.get(image.content_hash)
        return known() if known else self._embedder.embed(image)

    def _run(self) -> None:
        try:
            self._work()
        except Exception:
            logger.debug("reading ahead failed; the question will try again", exc_info=True)
        finally:
            self._ended_at = time.perf_counter()

    def _work(self) -> None:
        embeddings = {}
        for image in self._cache.images_to_prefill(self.segments):
            if self._is_over():
                return
            embeddings[image.content_hash] = self.embed(image).rows
        self._cache.prefill_ahead(self.segments, embeddings, self._is_over)

    def _is_over(self) -> bool:
        # At the end of the program, Python waits for this thread when the main thread has ended.
        return self._stopped.is_set() or not threading.main_thread().is_alive()


class _Once:
    """Makes an image's embeddings when first asked; who asks meanwhile waits for the same ones."""

    def __init__(self, embed: Callable[[], ImageEmbeddings]) -> None:
        self._embed = embed
        self._lock = threading.Lock()
        self._made: ImageEmbeddings | None = None

    def __call__(self) -> ImageEmbeddings:
        with self._lock:
            if self._made is None:
                made = self._embed()
                self._made = replace(made, is_cached=True)  # to everybody else
                return made
            return self._made

    def forget(self) -> None:
        """Free them; who asks later has them made again, or recalled."""
        with self._lock:
            self._made = None
