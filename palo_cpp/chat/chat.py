"""One conversation: its turns and their images, and how each question becomes a request."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from palo_cpp.chat.answer import Answer, AnswerStream
from palo_cpp.chat.answer_run import AnswerRun
from palo_cpp.chat.context_budget import ContextUse, Fitting, context_use, fit
from palo_cpp.chat.kept_answer import KeptAnswer
from palo_cpp.chat.language_policy import LanguagePolicy, Plan
from palo_cpp.chat.read_ahead import ReadAhead
from palo_cpp.chat.request import Request, answer_options, check_images, checked_system, worded_question
from palo_cpp.chat.save import Transcript, save_transcript
from palo_cpp.decoding.options import DEFAULT_LANG_MODE, DEFAULT_MAX_TOKENS, DecodingOptions
from palo_cpp.errors import ArgumentError
from palo_cpp.languages.detection import detect_language
from palo_cpp.segments import ImageSegment, Segment, Turn

if TYPE_CHECKING:
    from palo_cpp.models.loaded_model import LoadedModel
    from palo_cpp.vision.image import ImageSource

logger = logging.getLogger(__name__)


class Chat:
    """One conversation; made by `Palo.chat`.

    Attributes:
        turns: questions and answers so far, each with the images that were shown with it. When the context is full, the
            oldest leave, and their images move on to the next.
        pending_images: shown with the next question.
        lang: code of the language that answers come in where a question names no other; None lets the model choose.
        lang_mode: how that is kept where a question says nothing else, as in `DecodingOptions`.

    Example:
        >>> with palo.chat("photo.jpg", lang="ar") as chat:  # doctest: +SKIP
        ...     chat.ask("ما هذا؟")
        ...     chat.ask("What colour is it?")
    """

    def __init__(
        self,
        model: LoadedModel,
        image: ImageSource | None = None,
        *,
        lang: str | None = None,
        lang_mode: str = DEFAULT_LANG_MODE,
        system: str | None = None,
        turns: Sequence[Turn] = (),
    ) -> None:
        self._model = model
        self._system = checked_system(model, system)
        self._stream: AnswerStream | None = None
        self._ahead: ReadAhead | None = None
        self._is_open = True
        self.lang = None if lang is None else model.language(lang).code
        self.lang_mode = DecodingOptions(lang_mode=lang_mode).lang_mode
        model.warn_about_language({self.lang} if self.lang else set())
        self.turns: list[Turn] = list(turns)
        self.pending_images: list[ImageSegment] = []
        if image is not None:
            self.add_image(image)

    @classmethod
    def from_transcript(cls, model: LoadedModel, transcript: Transcript) -> Chat:
        """Continue a conversation that `load_transcript` has read."""
        chat = cls(
            model,
            lang=transcript.lang,
            lang_mode=transcript.lang_mode,
            system=transcript.system if model.capabilities.has_system else None,
            turns=transcript.turns,
        )
        chat.pending_images[:] = transcript.pending_images
        return chat

    def ask(
        self, question: str | None = None, *, lang: str | None = None, instead: bool = False, **options: Any
    ) -> Answer:
        """Ask and wait for the whole answer.

        Args:
            question: in any language; None asks for a description of the image.
            lang: code or name of the answer's language; by default the conversation's.
            instead: take the place of the last turn, and show its images again. The turn stays where no answer comes.
            **options: fields of `DecodingOptions`: max_tokens, temperature, top_k, top_p, min_p, seed, stop,
                lang_mode, n_beams.

        Returns:
            The answer; it is part of the conversation now.

        Raises:
            ArgumentError: an option out of range, or a question that does not fit into the context.
            BusyError: more questions wait than the model was loaded for.
        """
        return self._begin(question, lang, instead, options, shows_at_once=False).read()

    def stream(
        self, question: str | None = None, *, lang: str | None = None, instead: bool = False, **options: Any
    ) -> AnswerStream:
        """Ask and read the answer as it comes; arguments as in `ask`.

        An earlier answer that is still coming is stopped first. What was said of an answer that was stopped stays
        in the conversation. Unless `lang_mode` is "off", text comes when its language is certain: eight words late at
        most where several of the ten languages share the script (see `language_policy`).
        """
        return self._begin(question, lang, instead, options, shows_at_once=True)

    def _begin(
        self, question: str | None, lang: str | None, instead: bool, options: dict[str, Any], *, shows_at_once: bool
    ) -> AnswerStream:
        started_at = time.perf_counter()
        self._check_open()
        self._interrupt()
        if instead and not self.turns:
            raise ArgumentError("instead: expected a turn to take the place of, got an empty conversation; ask without")
        decoding_options = self._decoding_options(options)
        plan = self._plan(question, lang, instead, decoding_options, started_at)
        run = self._answer_run(plan)
        kept: AnswerRun | KeptAnswer = run
        if plan.policy.needs_check:
            kept = KeptAnswer(run, plan.policy, self._answer_run, shows_at_once=shows_at_once)
        self._stream = self._admitted(kept, shows_at_once=shows_at_once)
        return self._stream

    def _admitted(self, run: AnswerRun | KeptAnswer, *, shows_at_once: bool) -> AnswerStream:
        admission = self._model.admission
        if shows_at_once and not admission.is_bounded:  # whoever reads it piece by piece may never come to its end
            return AnswerStream(run.pieces(), run.finish, run.stop)
        ticket = admission.enter()

        def stop() -> None:
            ticket.leave()
            run.stop()

        return AnswerStream(ticket.admit(run.pieces()), run.finish, stop)

    def plan(self, question: str | None = None, *, lang: str | None = None, **options: Any) -> Plan:
        """What `ask` would ask of the model, without asking; arguments as in `ask`."""
        started_at = time.perf_counter()
        self._check_open()
        self._finish_stream()
        decoding_options = self._decoding_options(options)
        return self._plan(question, lang, False, decoding_options, started_at)

    def _plan(
        self, question: str | None, lang: str | None, instead: bool, options: DecodingOptions, started_at: float
    ) -> Plan:
        begin = partial(self._request, question, lang, instead, options, started_at)
        request = begin()
        insist = partial(begin, insist=True)
        policy = LanguagePolicy(request.language, options.lang_mode, self._model.constraints, insist)
        return Plan(request, policy)

    def _decoding_options(self, options: dict[str, Any]) -> DecodingOptions:
        return answer_options(self._model, {"lang_mode": self.lang_mode, **options})

    def _answer_run(self, plan: Plan) -> AnswerRun:
        return AnswerRun(self._model, plan, lambda turn: self._enter(plan.request, turn))

    def edit(self, question: str | None = None, **options: Any) -> Answer:
        """`ask` instead of the last question."""
        return self.ask(question, instead=True, **options)

    def _request(
        self,
        question: str | None,
        lang: str | None,
        instead: bool,
        options: DecodingOptions,
        started_at: float,
        *,
        insist: bool = False,
    ) -> Request:
        code = self.lang if lang is None else self._model.language(lang).code
        history = self.turns[:-1] if instead else self.turns
        images = (*(self.turns[-1].images if instead else ()), *self.pending_images)
        worded = worded_question(question, code, has_images=bool(self._images), insist=insist)
        turn = Turn(worded, images=images, asked=question or "")
        self._model.warn_about_language(detect_language(question or "") if code is None else {code})
        fitting = self._fit(history, turn, options.max_tokens)
        return Request(
            history=fitting.history,
            turn=fitting.turn,
            system=self._system,
            segments=fitting.segments,
            language=code,
            options=options,
            image_s=sum(image.elapsed_s for image in images),
            started_at=started_at,
            n_turns_dropped=fitting.n_dropped,
            ahead=self._take_ahead(),
            n_alone=0 if self.keeps_prompt or not fitting.history else self._n_prompt([fitting.turn]),
        )

    def prepare(self) -> None:
        """Begin in the background with what the next question will need, whatever it is; returns at once.

        Its images are encoded, and the prompt is read up to where the question begins. The question takes over what is
        done by then. Nothing happens while an answer is still coming. What goes wrong shows when the question is asked.
        """
        self._check_open()
        if self._model.prefix is None or (self._stream is not None and not self._stream.has_ended):
            return
        self._finish_stream()
        segments = self._prefix()
        if self._ahead is not None:
            if self._ahead.segments == segments and not self._ahead.is_stopped:
                return
            self._ahead.stop()
        self._ahead = ReadAhead(self._model.prefix.cache, self._model.embedder, segments, self._ahead)

    def _prefix(self) -> list[Segment]:
        """The beginning of the next prompt, without the turns that will leave before it."""
        turn = Turn("", images=tuple(self.pending_images))
        try:
            fitting = self._fit(self.turns, turn, DEFAULT_MAX_TOKENS)
        except ArgumentError:  # too many images; the question will say so
            return []
        return self._prompt_prefix(fitting.history, fitting.turn.images)

    def _fit(self, history: Sequence[Turn], turn: Turn, max_tokens: int) -> Fitting:
        model = self._model
        return fit(model.family, model.language_model, history, turn, system=self._system, max_tokens=max_tokens)

    def _prompt_prefix(self, turns: Sequence[Turn], images: Sequence[ImageSegment]) -> list[Segment]:
        model = self._model
        return model.family.prompt_prefix(model.language_model, turns, images, system=self._system)

    def _take_ahead(self) -> ReadAhead | None:
        """What was begun for the question; kept until the question has really used it, for it may be interrupted."""
        if self._ahead is None or self._ahead.is_used:
            return None
        return self._ahead

    def _enter(self, request: Request, turn: Turn) -> None:
        if request.n_turns_dropped:
            logger.warning(
                "the context is full: the oldest %d of %d turns left the conversation; its images stay",
                request.n_turns_dropped,
                request.n_turns_dropped + len(request.history),
            )
        # Its images were opened for this question; asked again, they are at hand.
        images = tuple(replace(image, elapsed_s=0.0) for image in turn.images)
        self.turns[:] = [*request.history, replace(turn, images=images)]
        self.pending_images.clear()

    def set_image(self, image: ImageSource | None) -> None:
        """Talk about another image from now on: the turns so far and their images are dropped.

        Raises:
            ImageError: it cannot be read; the conversation stays as it was.
        """
        self.set_images([] if image is None else [image])

    def set_images(self, images: Iterable[ImageSource]) -> None:
        """`set_image` for several images."""
        self._check_open()
        opened = [self._model.embedder.open(image) for image in images]
        check_images(self._model, opened)
        self._interrupt()
        self.turns.clear()
        self.pending_images[:] = opened

    def add_image(self, image: ImageSource, *, if_new: bool = False) -> bool:
        """Show one more image: it goes with the next question, and what was said so far stays.

        Args:
            image: as in `Palo.ask`.
            if_new: not where the conversation shows these very pixels already.

        Returns:
            Whether it was added.

        Raises:
            ImageError: it cannot be read; the conversation stays as it was.
            ArgumentError: the model sees no more images in one conversation.
        """
        self._check_open()
        opened, shown = self._model.embedder.open(image), self._images
        if if_new and opened in shown:
            return False
        check_images(self._model, [*shown, opened])
        self._interrupt()
        self.pending_images.append(opened)
        return True

    def clear(self) -> None:
        """Forget all turns; the images stay."""
        self._interrupt()
        self.pending_images[:0] = [image for turn in self.turns for image in turn.images]
        self.turns.clear()

    def undo(self) -> Turn:
        """Take back the last question and its answer; its images are shown with the next question.

        Returns:
            What was taken back.

        Raises:
            ArgumentError: nothing was said yet.
        """
        self._check_open()
        self._interrupt()
        if not self.turns:
            raise ArgumentError("undo: expected a question to take back, got an empty conversation")
        turn = self.turns.pop()
        self.pending_images[:0] = turn.images
        return turn

    def save(self, path: str | Path, *, with_kv: bool = True) -> None:
        """Write the conversation to a file, from which `Palo.load_chat` goes on; an answer still coming is stopped.

        The file holds questions, answers, the language, and the images as PALO sees them, so that the photos
        themselves are not needed again. It appears whole or not at all, and only its owner may read it.

        Args:
            path: where; an older file is replaced.
            with_kv: keep the language model's keys and values too, where it `keeps_prompt`, so that the next question
                is answered at once (192 KiB a token for MobilePALO, 512 for 7B). Without them the file has some 200 KB
                an image, and the conversation is read again.

        Raises:
            ArgumentError: the path names a folder or a device.
            PaloError: no room, or it cannot be written there.
        """
        self._check_open()
        self._finish_stream()
        transcript = Transcript(tuple(self.turns), tuple(self.pending_images), self.lang, self.lang_mode, self._system)
        save_transcript(Path(path).expanduser(), transcript, self._model, with_kv=with_kv)

    @property
    def _images(self) -> list[ImageSegment]:
        return [*(image for turn in self.turns for image in turn.images), *self.pending_images]

    @property
    def keeps_prompt(self) -> bool:
        """Whether the next question prefills only what is new; else each one prefills the whole conversation."""
        return self._model.prefix is not None

    @property
    def n_tokens(self) -> int:
        """Tokens of context that the conversation takes so far, the images of the next question included."""
        if self.keeps_prompt:
            return sum(map(len, self._prompt_prefix(self.turns, self.pending_images)))
        return self._n_prompt([*self.turns, Turn("", images=tuple(self.pending_images))])

    def _n_prompt(self, turns: Sequence[Turn]) -> int:
        return sum(map(len, self._model.family.prompt(self._model.language_model, turns, system=self._system)))

    @property
    def n_ctx(self) -> int:
        """Tokens of context that there are."""
        return self._model.language_model.n_ctx

    def context_use(self, lang: str | None = None) -> ContextUse:
        """How full the context is, in words of a language.

        Args:
            lang: code or name; by default the conversation's, else English.
        """
        return context_use(self._model.language_model, self.n_tokens, lang or self.lang or "en")

    def _interrupt(self) -> None:
        """End what is under way: the context is needed for something else, or for the question itself."""
        self._finish_stream()
        if self._ahead is not None:
            self._ahead.stop()

    def _finish_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None

    def _check_open(self) -> None:
        self._model.check_usable()
        if not self._is_open:
            raise ArgumentError("chat: expected an open conversation, got a closed one; begin another")

    def close(self) -> None:
        """End the conversation; an answer that is still coming is stopped."""
        self._interrupt()
        self._is_open = False

    def __enter__(self) -> Chat:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
