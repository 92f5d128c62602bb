"""One question on its way: the prompt is read, an answer is decoded, and what it cost is written down."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from palo_cpp.chat.answer import Answer, InputImage, Inputs, Timings
from palo_cpp.chat.request import Engine, Request, decoding_for
from palo_cpp.families.palo.prompt import ImageSegment, Segment, Turn, prompt_text

if TYPE_CHECKING:
    from palo_cpp.chat.read_ahead import EarlyStart
    from palo_cpp.decoding.decoding import Decoding
    from palo_cpp.decoding.speculation import SpeculativeSteps
    from palo_cpp.llm.kv_cache import Cursor, KvCache
    from palo_cpp.vision.embedding_cache import Features

# What a question is at, as INFO: the command line shows it while the user waits.
logger = logging.getLogger(__name__)


@dataclass
class Reading:
    """A prompt on its way into the context, and what that cost.

    Attributes:
        early: what was begun before the question came.
        encode_s: vision tower and projector, or a look into the feature cache.
        prefill_s: the rest.
        n_images_encoded: images for which vision tower and projector ran.
        cursor: the end of the prompt, once it is there.
    """

    early: EarlyStart | None = None
    encode_s: float = 0.0
    prefill_s: float = 0.0
    n_images_encoded: int = 0
    cursor: Cursor | None = None

    @property
    def n_cached(self) -> int:
        """Tokens and image embeddings that stood in the KV cache."""
        return self.cursor.n_cached if self.cursor else 0

    def read(self, cache: KvCache, segments: Sequence[Segment]) -> Cursor:
        """Bring the context to the end of the prompt."""
        logger.info("reading the prompt")
        begun_at = time.perf_counter()
        timed = [self._timed(segment) if isinstance(segment, ImageSegment) else segment for segment in segments]
        self.cursor = cache.read(timed)
        self.prefill_s = time.perf_counter() - begun_at - self.encode_s
        if self.early:
            self.early.hand_over()
        return self.cursor

    def _timed(self, image: ImageSegment) -> ImageSegment:
        def embed() -> Features:
            logger.info("encoding the image")
            begun_at = time.perf_counter()
            features = self.early.features(image) if self.early else image.embed()
            self.encode_s += time.perf_counter() - begun_at
            self.n_images_encoded += not features.is_cached
            logger.info("reading the prompt")
            return features

        return replace(image, embed=embed)

    def release(self, cache: KvCache) -> None:
        """The answer has ended."""
        if self.cursor:
            cache.release(self.cursor)


class Answering:
    """Answers one request; `AnswerStream` drives it.

    Args:
        engine: the model and what stands in its context.
        request: the question.
        enter: called at the end with the turn, now answered, unless it was cut off before the first token.
    """

    def __init__(self, engine: Engine, request: Request, enter: Callable[[Turn], None]) -> None:
        self._engine = engine
        self._request = request
        self._enter = enter
        self._decoding = engine.new_decoding(engine.model, request)
        early = request.early
        self._reading = Reading(early)
        self._steps: SpeculativeSteps | None = None
        self._early_s = early.elapsed_s + request.image_s if early else 0.0
        self._image_s = 0.0 if early else request.image_s

    def pieces(self) -> Iterator[str]:
        """Text of the answer as it comes."""
        cache = self._engine.cache
        cursor = self._reading.read(cache, self._request.segments)
        n_room = self._engine.model.n_ctx - self._request.n_prompt
        if self._engine.speculation:
            self._steps = self._engine.speculation.steps(cache, cursor, self._request)
        advance = self._steps.advance if self._steps else partial(cache.advance, cursor)
        yield from self._decoding.pieces(cursor.logits, advance, n_room)

    def discard(self) -> None:
        """Give up what was answered so far: nothing was said."""
        self._reading.release(self._engine.cache)
        self._decoding = decoding_for(self._engine.model, self._request)

    def finish(self, was_cut: bool) -> Answer:
        """Make the answer and enter it into the conversation.

        Args:
            was_cut: whether the user stopped it.
        """
        if was_cut:
            self._decoding.abandon()
        self._reading.release(self._engine.cache)
        answer = answer_from(self._request, self._decoding, self.timings())
        if self._steps and self._engine.speculation:
            self._engine.speculation.learn(answer.language, answer.token_ids)
        if answer.token_ids or not was_cut:
            self._enter(replace(self._request.turn, answer=answer.text, answer_ids=answer.token_ids))
        return answer

    def timings(self) -> Timings:
        """What it cost until now."""
        first_at, request = self._decoding.first_token_at, self._request
        return Timings(
            image_s=self._image_s,
            encode_s=self._reading.encode_s,
            prefill_s=self._reading.prefill_s,
            decode_s=time.perf_counter() - first_at if first_at else 0.0,
            first_token_s=first_at - request.started_at + self._image_s if first_at else 0.0,
            early_s=self._early_s,
            n_images_encoded=self._reading.n_images_encoded,
            n_prompt_tokens=request.n_prompt,
            n_cached_tokens=self._reading.n_cached,
            n_generated=self._decoding.n_generated,
            n_guessed=self._steps.n_guessed if self._steps else 0,
            n_guessed_right=self._steps.n_right if self._steps else 0,
            n_drafted=self._steps.n_drafted if self._steps else 0,
        )


def answer_from(request: Request, decoding: Decoding, timings: Timings) -> Answer:
    """What a decoding came to.

    Args:
        request: what was asked.
        decoding: at its end.
        timings: what it cost.
    """
    return Answer(
        text=decoding.text,
        token_ids=tuple(decoding.token_ids),
        finish_reason=decoding.finish_reason,
        language=request.language,
        timings=timings,
        inputs=_inputs(request, decoding.sampler.seed),
        n_turns_dropped=request.n_turns_dropped,
    )


def _inputs(request: Request, seed: int | None) -> Inputs:
    turns = [*request.history, request.turn]
    images = tuple(
        InputImage(image.size, image.preprocess, image.n_tokens, image.content_hash)
        for turn in turns
        for image in turn.images
    )
    return Inputs(prompt_text(turns, system=request.system), images, seed)
