"""One conversation about one image: its turns, and how each question becomes an answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from palo_cpp.answer import Answer, AnswerStream, Inputs, Timings
from palo_cpp.decoding import Decoding, DecodingOptions
from palo_cpp.errors import ArgumentError
from palo_cpp.kv_cache import Cursor, KvCache, check_fits
from palo_cpp.language_detection import detect_language
from palo_cpp.languages import get_language, question_in
from palo_cpp.prompt import SYSTEM, ImageSegment, Turn, prompt_segments, prompt_text

if TYPE_CHECKING:
    from palo_cpp.feature_cache import Features
    from palo_cpp.image import ImageSource
    from palo_cpp.language_model import LanguageModel

# What a question is at, as INFO: the command line shows it while the user waits.
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChatImage:
    """An image, opened and preprocessed, whose embeddings are made when they are needed.

    Attributes:
        content_hash: SHA-256 of the preprocessed pixels.
        size: (width, height) before preprocessing.
        preprocess: "pad" or "crop".
        n_tokens: rows of its embeddings.
        elapsed_s: what opening and preprocessing took.
        embed: makes image_embeddings [n_tokens, n_embd] f32, or recalls them.
    """

    content_hash: str
    size: tuple[int, int]
    preprocess: str
    n_tokens: int
    elapsed_s: float
    embed: Callable[[], Features]


@dataclass(frozen=True)
class Engine:
    """What every conversation with one model shares.

    Attributes:
        model: the language model.
        cache: what stands in its context.
        open_image: opens and preprocesses an image.
        heed_language: is told before each answer the code of its language, or of all that it may be.
    """

    model: LanguageModel
    cache: KvCache
    open_image: Callable[[ImageSource], ChatImage]
    heed_language: Callable[[set[str]], None] = lambda _codes: None


class Chat:
    """One conversation; made by `Palo.chat`.

    Attributes:
        turns: questions and answers so far.
        lang: code of the language that answers come in where a question names no other; None lets the model choose.

    Example:
        >>> with palo.chat("photo.jpg", lang="ar") as chat:  # doctest: +SKIP
        ...     chat.ask("ما هذا؟")
        ...     chat.ask("What colour is it?")
    """

    def __init__(
        self,
        engine: Engine,
        image: ImageSource | None = None,
        *,
        lang: str | None = None,
        system: str = SYSTEM,
        turns: tuple[Turn, ...] = (),
    ) -> None:
        self._engine = engine
        self._image = None if image is None else engine.open_image(image)
        self._image_s = self._image.elapsed_s if self._image else 0.0
        self._system = system
        self._stream: AnswerStream | None = None
        self._is_open = True
        self.lang = None if lang is None else get_language(lang).code
        engine.heed_language({self.lang} if self.lang else set())
        self.turns: list[Turn] = list(turns)

    def ask(self, question: str | None = None, *, lang: str | None = None, **options: Any) -> Answer:
        """Ask and wait for the whole answer.

        Args:
            question: in any language; None asks for a description of the image.
            lang: code or name of the answer's language; by default the conversation's.
            **options: fields of `DecodingOptions`: max_tokens, temperature, top_k, top_p, min_p, seed, stop.

        Returns:
            The answer; it is part of the conversation now.

        Raises:
            ArgumentError: an option out of range, or a question that does not fit into the context.
        """
        with self._engine.cache.turn:
            return self.stream(question, lang=lang, **options).read()

    def stream(self, question: str | None = None, *, lang: str | None = None, **options: Any) -> AnswerStream:
        """Ask and read the answer as it comes; arguments as in `ask`.

        An earlier answer that is still coming is stopped first. What was said of an answer that was stopped stays
        in the conversation.
        """
        started_at = time.perf_counter()
        self._check_open()
        self._finish_stream()
        decoding_options = decoding_options_from(options)
        code = self.lang if lang is None else get_language(lang).code
        turn = Turn(self._worded(question, code))
        self._engine.heed_language(detect_language(question or "") if code is None else {code})
        segments = prompt_segments(
            self._engine.model, [*self.turns, turn], image=self._image_segment(), system=self._system
        )
        n_prompt = check_fits(segments, self._engine.model.n_ctx)
        work = _Work(self, turn, segments, code, decoding_options, n_prompt, started_at)
        self._stream = AnswerStream(work.pieces(), work.finish)
        return self._stream

    def set_image(self, image: ImageSource | None) -> None:
        """Talk about another image from now on: the turns about the old one are dropped.

        Raises:
            ImageError: it cannot be read; the conversation stays as it was.
        """
        self._check_open()
        opened = None if image is None else self._engine.open_image(image)
        self.clear()
        self._image = opened
        self._image_s = opened.elapsed_s if opened else 0.0

    def clear(self) -> None:
        """Forget all turns; the image stays."""
        self._finish_stream()
        self.turns.clear()

    @property
    def n_tokens(self) -> int:
        """Tokens of context that the conversation takes so far."""
        segments = prompt_segments(self._engine.model, self.turns, image=self._image_segment(), system=self._system)
        return sum(map(len, segments))

    @property
    def n_ctx(self) -> int:
        """Tokens of context that there are."""
        return self._engine.model.n_ctx

    def _worded(self, question: str | None, code: str | None) -> str:
        if question is not None and not isinstance(question, str):
            raise ArgumentError(f"question: expected text, got {type(question).__name__}")
        if question is not None and question.strip():
            return question if code is None else question_in(code, question)
        if self._image is None:
            raise ArgumentError("question: expected text, got none and no image to describe; give one of them")
        return question_in(code or "en")

    def _image_segment(self) -> ImageSegment | None:
        image = self._image
        return ImageSegment(image.content_hash, image.n_tokens, lambda: image.embed().embeddings) if image else None

    def _finish_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None

    def _check_open(self) -> None:
        if not self._is_open:
            raise ArgumentError("chat: expected an open conversation, got a closed one; begin another")

    def close(self) -> None:
        """End the conversation; an answer that is still coming is stopped."""
        self._finish_stream()
        self._is_open = False

    def __enter__(self) -> Chat:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def decoding_options_from(options: dict[str, Any]) -> DecodingOptions:
    """Check keyword arguments and make them `DecodingOptions`.

    Raises:
        ArgumentError: an unknown name or a value out of range.
    """
    known = DecodingOptions.__dataclass_fields__
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ArgumentError(f"options: expected {', '.join(known)}, got {', '.join(unknown)}")
    return DecodingOptions(**options)


class _Work:
    """One question on its way: prefill, decoding, and the answer at the end."""

    def __init__(
        self,
        chat: Chat,
        turn: Turn,
        segments: list[Any],
        code: str | None,
        options: DecodingOptions,
        n_prompt: int,
        started_at: float,
    ) -> None:
        self._chat = chat
        self._engine = chat._engine
        self._turn = turn
        self._code = code
        self._n_prompt = n_prompt
        self._started_at = started_at
        self._decoding = Decoding(self._engine.model, options)
        self._encode_s = 0.0
        self._n_encoded = 0
        self._prefill_s = 0.0
        self._cursor: Cursor | None = None
        self._segments = [
            self._timed(segment, chat._image) if isinstance(segment, ImageSegment) and chat._image else segment
            for segment in segments
        ]

    def pieces(self) -> Iterator[str]:
        """Text of the answer as it comes."""
        logger.info("reading the prompt")
        begun_at = time.perf_counter()
        self._cursor = cursor = self._engine.cache.read(self._segments)
        self._prefill_s = time.perf_counter() - begun_at - self._encode_s
        yield from self._decoding.pieces(
            cursor.logits,
            lambda token: self._engine.cache.advance(cursor, token),
            self._engine.model.n_ctx - self._n_prompt,
        )

    def _timed(self, segment: ImageSegment, image: ChatImage) -> ImageSegment:
        def embed() -> NDArray[np.float32]:
            logger.info("encoding the image")
            begun_at = time.perf_counter()
            features = image.embed()
            self._encode_s += time.perf_counter() - begun_at
            self._n_encoded += not features.is_cached
            logger.info("reading the prompt")
            return features.embeddings

        return replace(segment, embed=embed)

    def finish(self, was_cut: bool) -> Answer:
        """Make the answer and enter it into the conversation."""
        decoding = self._decoding
        answer = Answer(
            text=decoding.text,
            token_ids=tuple(decoding.token_ids),
            finish_reason=decoding.finish_reason if not was_cut else "cancelled",
            language=self._code,
            timings=self._timings(),
            inputs=self._inputs(),
        )
        if answer.token_ids or not was_cut:
            self._chat.turns.append(replace(self._turn, answer=answer.text, answer_ids=answer.token_ids))
            self._chat._image_s = 0.0
        return answer

    def _timings(self) -> Timings:
        first_at = self._decoding.first_token_at
        return Timings(
            image_s=self._chat._image_s,
            encode_s=self._encode_s,
            prefill_s=self._prefill_s,
            decode_s=time.perf_counter() - first_at if first_at else 0.0,
            first_token_s=first_at - self._started_at + self._chat._image_s if first_at else 0.0,
            n_images_encoded=self._n_encoded,
            n_prompt_tokens=self._n_prompt,
            n_cached_tokens=self._cursor.n_cached if self._cursor else 0,
            n_generated=len(self._decoding.token_ids),
        )

    def _inputs(self) -> Inputs:
        image, chat = self._chat._image, self._chat
        text = prompt_text([*chat.turns, self._turn], has_image=image is not None, system=chat._system)
        seed = self._decoding.sampler.seed
        if image is None:
            return Inputs(text, seed=seed)
        return Inputs(text, image.size, image.preprocess, image.n_tokens, image.content_hash, seed)
