"""One question on its way: the prompt is prefilled, an answer is decoded, and what it cost is written down."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from palo_cpp.chat.answer import Answer, InputImage, Inputs, Timings
from palo_cpp.chat.beam_run import BeamRun
from palo_cpp.chat.language_policy import verdict
from palo_cpp.chat.one_path_run import OnePathRun
from palo_cpp.chat.token_run import TokenRun
from palo_cpp.decoding.decoding import Decoding

if TYPE_CHECKING:
    from palo_cpp.chat.language_policy import Plan
    from palo_cpp.chat.request import Request
    from palo_cpp.models.loaded_model import LoadedModel
    from palo_cpp.segments import Turn


class Generation(Protocol):
    """One attempt at an answer, token by token or by beam search.

    Attributes:
        decoding: its text and tokens until now.
    """

    decoding: Decoding

    def pieces(self) -> Iterator[str]:
        """Text as it becomes certain."""
        ...

    def timings(self) -> Timings:
        """What prefill, encoding and guesses cost until now, and decoding where that is not since the first token."""
        ...

    def stop(self) -> None:
        """End it, from any thread: who pulls a piece comes back within a step."""
        ...

    def release(self) -> None:
        """It has ended."""
        ...

    def learn(self, language: str | None, token_ids: Sequence[int]) -> None:
        """An answer in this language was kept: guesses at later ones may know it."""
        ...


def generation(model: LoadedModel, plan: Plan) -> Generation:
    """An attempt as the model's capabilities ask for it."""
    n_beams = plan.request.options.beams(model.capabilities.n_beams)
    if model.prefix is not None:
        return TokenRun(model.prefix, model.embedder, plan)
    has_byte_tokens = model.capabilities.has_byte_tokens
    if n_beams == 1:
        return OnePathRun(model.beam_part, model.embedder, plan, has_byte_tokens=has_byte_tokens)
    return BeamRun(model.beam_part, model.embedder, plan, n_beams, has_byte_tokens=has_byte_tokens)


class AnswerRun:
    """Answers one request; `AnswerStream` drives it.

    Args:
        model: the loaded model.
        plan: the question, and how its language is kept.
        enter: called at the end with the turn, now answered, unless it was cut off before the first token.
    """

    def __init__(self, model: LoadedModel, plan: Plan, enter: Callable[[Turn], None]) -> None:
        self._model = model
        self._plan = plan
        self._enter = enter
        self._generation = generation(model, plan)
        self._decoding = self._generation.decoding
        ahead = plan.request.ahead
        self._early_s = ahead.elapsed_s + plan.request.image_s if ahead else 0.0
        self._image_s = 0.0 if ahead else plan.request.image_s

    def pieces(self) -> Iterator[str]:
        """Text of the answer as it comes."""
        return self._generation.pieces()

    @property
    def is_cancelled(self) -> bool:
        """Whether it was ended from outside."""
        return self._decoding.finish_reason == "cancelled"

    def stop(self) -> None:
        """End it, from any thread."""
        self._generation.stop()

    def discard(self) -> None:
        """Give up what was answered so far: nothing was said."""
        self._generation.release()
        self._decoding = Decoding(self._model.language_model, self._plan.request.options)

    def finish(self, was_cut: bool) -> Answer:
        """Make the answer and enter it into the conversation.

        Args:
            was_cut: whether the user stopped it.
        """
        if was_cut:
            self._decoding.abandon()
        self._generation.release()
        answer = answer_from(self._model, self._plan.request, self._decoding, self.timings())
        self._generation.learn(answer.language, answer.token_ids)
        if answer.token_ids or answer.finish_reason != "cancelled":
            turn = self._plan.request.turn
            self._enter(replace(turn, answer=answer.text, answer_ids=answer.token_ids))
        return answer

    def timings(self) -> Timings:
        """What it cost until now."""
        decoding, request = self._decoding, self._plan.request
        first_at, known = decoding.first_token_at, self._generation.timings()
        return replace(
            known,
            image_s=self._image_s,
            decode_s=known.decode_s or (time.perf_counter() - first_at if first_at else 0.0),
            first_token_s=first_at - request.started_at + self._image_s if first_at else 0.0,
            early_s=self._early_s,
            n_prompt_tokens=request.n_prompt,
            n_generated=decoding.n_generated,
        )


def answer_from(model: LoadedModel, request: Request, decoding: Decoding, timings: Timings) -> Answer:
    """What a decoding came to.

    Args:
        model: the loaded model.
        request: what was asked.
        decoding: at its end.
        timings: what it cost.
    """
    detected, is_ok = verdict(decoding.text, request.language)
    return Answer(
        text=decoding.text,
        token_ids=tuple(decoding.token_ids),
        finish_reason=decoding.finish_reason,
        language=request.language,
        timings=timings,
        inputs=_inputs(model, request, decoding.sampler.seed),
        n_turns_dropped=request.n_turns_dropped,
        language_detected=detected,
        language_ok=is_ok,
        logprobs=None if request.options.logprobs is None else tuple(decoding.logprobs),
    )


def _inputs(model: LoadedModel, request: Request, seed: int | None) -> Inputs:
    turns = [*request.history, request.turn]
    images = tuple(
        InputImage(image.size, image.preprocess, image.n_tokens, image.content_hash)
        for turn in turns
        for image in turn.images
    )
    return Inputs(model.family.prompt_text(turns, system=request.system), images, seed, model.sees_images)
