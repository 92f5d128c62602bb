"""What the next question will need, made in the background while its user still types.

    images --embed (no lock held)--> embeddings --KvCache.read_ahead (in pieces)--> the prompt's beginning

Nothing depends on it: a question takes over what is done, waits only for an encoding that it needs and that runs
already, and does the rest itself. So an early start may end anywhere, fail, or be displaced by another conversation;
what fails is tried again by the question, which then says what is wrong.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from palo_cpp.families.palo.prompt import ImageSegment, Segment

if TYPE_CHECKING:
    from palo_cpp.llm.kv_cache import KvCache
    from palo_cpp.vision.embedding_cache import Features

logger = logging.getLogger(__name__)


class EarlyStart:
    """One run in the background, for one beginning of a prompt.

    Args:
        cache: the context to read it into.
        segments: the beginning.
        before: the run before it, whose embeddings are not made twice.

    Attributes:
        segments: likewise.
        is_used: whether a question has taken over what was made.
    """

    def __init__(self, cache: KvCache, segments: Sequence[Segment], before: EarlyStart | None = None) -> None:
        self.segments = list(segments)
        self.is_used = False
        self._cache = cache
        self._begun_at = time.perf_counter()
        self._ended_at: float | None = None
        self._stopped = threading.Event()
        made: dict[str, _Once] = before._embeddings if before else {}
        self._embeddings: dict[str, _Once] = {
            each.content_hash: made.get(each.content_hash) or _Once(each.embed)
            for each in segments
            if isinstance(each, ImageSegment)
        }
        self._thread = threading.Thread(target=self._run, name="palo_cpp early start")
        self._thread.start()

    @property
    def elapsed_s(self) -> float:
        """How long it has worked."""
        return (self._ended_at or time.perf_counter()) - self._begun_at

    @property
    def is_stopped(self) -> bool:
        """Whether it was told to end."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """End before the next image or piece; does not wait for the one that is being worked on."""
        self._stopped.set()

    def hand_over(self) -> None:
        """A question has read the prompt: what was made here is in the context, and is free to go."""
        self.is_used = True
        for embeddings in self._embeddings.values():
            embeddings.forget()

    def wait(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    def features(self, image: ImageSegment) -> Features:
        """The embeddings of an image: those made here, if they are, or are being made."""
        return self._embeddings[image.content_hash]() if image.content_hash in self._embeddings else image.embed()

    def _run(self) -> None:
        try:
            self._work()
        except Exception:
            logger.debug("the early start failed; the question will try again", exc_info=True)
        finally:
            self._ended_at = time.perf_counter()

    def _work(self) -> None:
        for image in self._cache.images_to_read(self.segments):
            if self._is_over():
                return
            self.features(image)
        segments = [
            replace(each, embed=self._embeddings[each.content_hash]) if isinstance(each, ImageSegment) else each
            for each in self.segments
        ]
        self._cache.read_ahead(segments, self._is_over)

    def _is_over(self) -> bool:
        # At the end of the program, Python waits for this thread when the main thread has ended.
        return self._stopped.is_set() or not threading.main_thread().is_alive()


class _Once:
    """Makes an image's embeddings when first asked; who asks meanwhile waits for the same ones."""

    def __init__(self, embed: Callable[[], Features]) -> None:
        self._embed = embed
        self._lock = threading.Lock()
        self._features: Features | None = None

    def __call__(self) -> Features:
        with self._lock:
            if self._features is None:
                features = self._embed()
                self._features = replace(features, is_cached=True)  # to everybody else
                return features
            return self._features

    def forget(self) -> None:
        """Free them; who asks later has them made again, or recalled."""
        with self._lock:
            self._features = None
