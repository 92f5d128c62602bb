"""One question on its way: the prompt is read, an answer is decoded, and what it cost is written down."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from palo_cpp.answer import Answer, InputImage, Inputs, Timings
from palo_cpp.engine import Engine, Request, decoding_for
from palo_cpp.prompt import ImageSegment, Turn, prompt_text

if TYPE_CHECKING:
    from palo_cpp.feature_cache import Features
    from palo_cpp.kv_cache import Cursor

# What a question is at, as INFO: the command line shows it while the user waits.
logger = logging.getLogger(__name__)


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
        self._encode_s = 0.0
        self._n_encoded = 0
        early = request.early
        self._early_s = early.elapsed_s + request.image_s if early else 0.0
        self._image_s = 0.0 if early else request.image_s
        self._prefill_s = 0.0
        self._cursor: Cursor | None = None

    def pieces(self) -> Iterator[str]:
        """Text of the answer as it comes."""
        cursor = self._cursor = self._read_prompt()
        n_room = self._engine.model.n_ctx - self._request.n_prompt
        yield from self._engine.decode(self._engine.cache, cursor, self._decoding, n_room)

    def _read_prompt(self) -> Cursor:
        logger.info("reading the prompt")
        begun_at = time.perf_counter()
        segments = [
            self._timed(segment) if isinstance(segment, ImageSegment) else segment for segment in self._request.segments
        ]
        cursor = self._engine.cache.read(segments)
        self._prefill_s = time.perf_counter() - begun_at - self._encode_s
        if self._request.early:
            self._request.early.hand_over()
        return cursor

    def _timed(self, image: ImageSegment) -> ImageSegment:
        early = self._request.early

        def embed() -> Features:
            logger.info("encoding the image")
            begun_at = time.perf_counter()
            features = early.features(image) if early else image.embed()
            self._encode_s += time.perf_counter() - begun_at
            self._n_encoded += not features.is_cached
            logger.info("reading the prompt")
            return features

        return replace(image, embed=embed)

    def discard(self) -> None:
        """Give up what was answered so far: nothing was said."""
        self._release()
        self._decoding = decoding_for(self._engine.model, self._request)

    def _release(self) -> None:
        if self._cursor:
            self._engine.cache.release(self._cursor)

    def finish(self, was_cut: bool) -> Answer:
        """Make the answer and enter it into the conversation.

        Args:
            was_cut: whether the user stopped it.
        """
        decoding = self._decoding
        if was_cut:
            decoding.abandon()
        self._release()
        answer = Answer(
            text=decoding.text,
            token_ids=tuple(decoding.token_ids),
            finish_reason=decoding.finish_reason,
            language=self._request.language,
            timings=self.timings(),
            inputs=self._inputs(),
            n_turns_dropped=self._request.n_turns_dropped,
        )
        if answer.token_ids or not was_cut:
            self._enter(replace(self._request.turn, answer=answer.text, answer_ids=answer.token_ids))
        return answer

    def timings(self) -> Timings:
        """What it cost until now."""
        first_at, request = self._decoding.first_token_at, self._request
        return Timings(
            image_s=self._image_s,
            encode_s=self._encode_s,
            prefill_s=self._prefill_s,
            decode_s=time.perf_counter() - first_at if first_at else 0.0,
            first_token_s=first_at - request.started_at + self._image_s if first_at else 0.0,
            early_s=self._early_s,
            n_images_encoded=self._n_encoded,
            n_prompt_tokens=request.n_prompt,
            n_cached_tokens=self._cursor.n_cached if self._cursor else 0,
            n_generated=self._decoding.n_generated,
        )

    def _inputs(self) -> Inputs:
        request = self._request
        turns = [*request.history, request.turn]
        images = tuple(
            InputImage(image.size, image.preprocess, image.n_tokens, image.content_hash)
            for turn in turns
            for image in turn.images
        )
        return Inputs(prompt_text(turns, system=request.system), images, self._decoding.sampler.seed)
