"""One conversation: its turns and their images, and how each question becomes a request."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from palo_cpp.answer import Answer, AnswerStream
from palo_cpp.answering import Answering
from palo_cpp.decoding import DecodingOptions
from palo_cpp.engine import Engine, Request
from palo_cpp.errors import ArgumentError
from palo_cpp.kv_cache import check_fits
from palo_cpp.languages import detect_language, get_language, question_in
from palo_cpp.prompt import SYSTEM, ImageSegment, Segment, Turn, prompt_segments
from palo_cpp.session import Talk, save_talk

if TYPE_CHECKING:
    from palo_cpp.image import ImageSource


class Chat:
    """One conversation; made by `Palo.chat`.

    Attributes:
        turns: questions and answers so far, each with the images that were shown with it.
        pending_images: shown with the next question.
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
        turns: Sequence[Turn] = (),
    ) -> None:
        self._engine = engine
        self._system = system
        self._origin = ""
        self._stream: AnswerStream | None = None
        self._is_open = True
        self.lang = None if lang is None else get_language(lang).code
        engine.heed_language({self.lang} if self.lang else set())
        self.turns: list[Turn] = list(turns)
        self.pending_images: list[ImageSegment] = []
        if image is not None:
            self.add_image(image)

    @classmethod
    def from_talk(cls, engine: Engine, talk: Talk) -> Chat:
        """Go on with a conversation that `load_talk` has read."""
        chat = cls(engine, lang=talk.lang, system=talk.system, turns=talk.turns)
        chat.pending_images[:] = talk.pending_images
        chat._origin = talk.origin
        return chat

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
        request = self._request(question, lang, options, started_at)
        answering = Answering(self._engine, request, lambda turn: self._enter(request.history, turn))
        self._stream = AnswerStream(answering.pieces(), answering.finish)
        return self._stream

    def _request(self, question: str | None, lang: str | None, options: dict[str, Any], started_at: float) -> Request:
        decoding_options = decoding_options_from(options)
        code = self.lang if lang is None else get_language(lang).code
        turn = Turn(self._worded(question, code), images=tuple(self.pending_images))
        self._engine.heed_language(detect_language(question or "") if code is None else {code})
        segments = self._segments([*self.turns, turn])
        check_fits(segments, self._engine.model.n_ctx)
        return Request(
            history=tuple(self.turns),
            turn=turn,
            system=self._system,
            segments=segments,
            language=code,
            options=decoding_options,
            image_s=sum(image.elapsed_s for image in self.pending_images),
            started_at=started_at,
        )

    def _enter(self, history: Sequence[Turn], turn: Turn) -> None:
        # Its images were opened for this question; asked again, they are at hand.
        images = tuple(replace(image, elapsed_s=0.0) for image in turn.images)
        self.turns[:] = [*history, replace(turn, images=images)]
        self.pending_images.clear()

    def set_image(self, image: ImageSource | None) -> None:
        """Talk about another image from now on: the turns so far and their images are dropped.

        Raises:
            ImageError: it cannot be read; the conversation stays as it was.
        """
        self._check_open()
        opened = [] if image is None else [self._engine.open_image(image)]
        self._finish_stream()
        self._origin = ""
        self.turns.clear()
        self.pending_images[:] = opened

    def add_image(self, image: ImageSource) -> None:
        """Show one more image: it stands in the next question, and what was said so far stays.

        Raises:
            ImageError: it cannot be read; the conversation stays as it was.
        """
        self._check_open()
        opened = self._engine.open_image(image)
        self._finish_stream()
        self.pending_images.append(opened)

    def clear(self) -> None:
        """Forget all turns; the images stay."""
        self._finish_stream()
        self.pending_images[:0] = [image for turn in self.turns for image in turn.images]
        self._origin = ""
        self.turns.clear()

    def save(self, path: str | Path, *, with_kv: bool = True) -> None:
        """Write the conversation to a file, from which `Palo.load_chat` goes on; an answer still coming is stopped.

        The file holds questions, answers, the language, and the images as PALO sees them, so that the photos
        themselves are not needed again. It appears whole or not at all, and only its owner may read it.

        Args:
            path: where; an older file is replaced.
            with_kv: keep the language model's keys and values too, so that the next question is answered at once
                (192 KiB a token for MobilePALO, 512 for 7B). Without them the file has some 200 KB an image, and the
                conversation is read again.

        Raises:
            ArgumentError: the path names a folder or a device.
            PaloError: no room, or it cannot be written there.
        """
        self._check_open()
        self._finish_stream()
        save_talk(Path(path).expanduser(), self._talk(), self._engine, with_kv=with_kv)

    def _talk(self) -> Talk:
        return Talk(tuple(self.turns), tuple(self.pending_images), self.lang, self._system, self._origin)

    def _segments(self, turns: Sequence[Turn]) -> list[Segment]:
        return prompt_segments(self._engine.model, turns, system=self._system, origin=self._origin)

    @property
    def n_tokens(self) -> int:
        """Tokens of context that the conversation takes so far."""
        return sum(map(len, self._segments(self.turns)))

    @property
    def n_ctx(self) -> int:
        """Tokens of context that there are."""
        return self._engine.model.n_ctx

    def _worded(self, question: str | None, code: str | None) -> str:
        if question is not None and not isinstance(question, str):
            raise ArgumentError(f"question: expected text, got {type(question).__name__}")
        if question is not None and question.strip():
            return question if code is None else question_in(code, question)
        if not self.pending_images and not any(turn.images for turn in self.turns):
            raise ArgumentError("question: expected text, got none and no image to describe; give one of them")
        return question_in(code or "en")

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
