"""What every conversation with one model shares, and where constraints on an answer come in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from palo_cpp.decoding.decoding import Decoding
from palo_cpp.decoding.options import DecodingOptions
from palo_cpp.families.palo.prompt import ImageSegment, Segment, Turn

if TYPE_CHECKING:
    from palo_cpp.chat.read_ahead import EarlyStart
    from palo_cpp.chat.session_records import StoredImage, StoredModel
    from palo_cpp.decoding.speculation import Speculation
    from palo_cpp.decoding.token_constraint import TokenConstraint
    from palo_cpp.llm.kv_cache import KvCache
    from palo_cpp.llm.language_model import LanguageModel
    from palo_cpp.vision.image import ImageSource


@dataclass(frozen=True)
class Request:
    """One question with all that decides its answer.

    Attributes:
        history: the turns before it.
        turn: the question, worded as the model will read it, with its images; not answered yet.
        system: the text that opens the prompt.
        segments: the prompt that these three make.
        language: code of the language that the answer shall have; None lets the model choose.
        options: how to decode.
        image_s: what opening its images took.
        started_at: time.perf_counter() when it was asked.
        n_turns_dropped: the oldest turns, for which there was no room.
        early: what was begun before it came.
    """

    history: tuple[Turn, ...]
    turn: Turn
    system: str
    segments: list[Segment]
    language: str | None
    options: DecodingOptions
    image_s: float
    started_at: float
    n_turns_dropped: int = 0
    early: EarlyStart | None = None

    @property
    def n_prompt(self) -> int:
        """Tokens and image embeddings of the prompt."""
        return sum(map(len, self.segments))


class Plan(NamedTuple):
    """What to ask, and what instead where the answer comes in another language.

    Attributes:
        request: the question.
        insist: makes the request that asks more strongly, an `ArgumentError` where there is no room for it; None where
            the language need not be checked.
    """

    request: Request
    insist: Callable[[], Request] | None


def decoding_for(model: LanguageModel, request: Request, constraints: Sequence[TokenConstraint] = ()) -> Decoding:
    """A decoding that the options decide, and what else is known of the request.

    Args:
        model: whose logits come.
        request: the question.
        constraints: which tokens may come.
    """
    return Decoding(model, request.options, constraints)


@dataclass(frozen=True)
class Sessions:
    """What conversations with one model need to be saved and loaded.

    Attributes:
        model: tells the model's files; reads a few megabytes of them, once.
        reopen_image: makes of an image's pixels what `Engine.open_image` made of the image.
    """

    model: Callable[[], StoredModel]
    reopen_image: Callable[[StoredImage], ImageSegment]


@dataclass(frozen=True)
class Engine:
    """What every conversation with one model shares.

    Attributes:
        model: the language model.
        cache: what stands in its context.
        open_image: opens and preprocesses an image; its embeddings are made when they are needed.
        heed_language: is told before each answer the code of its language, or of all that it may be.
        new_decoding: makes what chooses an answer's tokens; constraints come in here.
        speculation: guesses tokens ahead; None where that is off.
        sessions: what conversations need to be saved and loaded; None where they cannot be.
    """

    model: LanguageModel
    cache: KvCache
    open_image: Callable[[ImageSource], ImageSegment]
    heed_language: Callable[[set[str]], None] = lambda _codes: None
    new_decoding: Callable[[LanguageModel, Request], Decoding] = decoding_for
    speculation: Speculation | None = None
    sessions: Sessions | None = None
