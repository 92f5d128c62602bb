"""One question with all that decides its answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from palo_cpp.decoding.options import DecodingOptions
from palo_cpp.errors import ArgumentError
from palo_cpp.languages.languages import question_in
from palo_cpp.segments import ImageSegment, Segment, Turn

if TYPE_CHECKING:
    from palo_cpp.chat.read_ahead import ReadAhead
    from palo_cpp.models.loaded_model import LoadedModel


@dataclass(frozen=True)
class Request:
    """One question with all that decides its answer.

    Attributes:
        history: the turns before it.
        turn: the question, worded as the model will see it, with its images; not answered yet.
        system: the text that opens the prompt.
        segments: the prompt that these three make.
        language: code of the language that the answer shall have; None lets the model choose.
        options: how to decode.
        image_s: what opening its images took.
        started_at: time.perf_counter() when it was asked.
        n_turns_dropped: the oldest turns, for which there was no room.
        ahead: what was begun before it came.
        n_alone: tokens that the prompt would have without earlier turns and their images.
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
    ahead: ReadAhead | None = None
    n_alone: int = 0

    @property
    def n_prompt(self) -> int:
        """Tokens and image embeddings of the prompt."""
        return sum(map(len, self.segments))

    @property
    def n_repeated(self) -> int:
        """Tokens and image embeddings of the prompt that an earlier question's prompt had, too."""
        return self.n_prompt - self.n_alone if self.history else 0


def answer_options(model: LoadedModel, options: dict[str, Any]) -> DecodingOptions:
    """Keyword arguments as options, with the model's family's where they say nothing.

    Args:
        model: that is asked.
        options: fields of `DecodingOptions`.

    Raises:
        ArgumentError: an unknown name, a value out of range, or something that the model cannot do.
    """
    known = DecodingOptions.__dataclass_fields__
    if unknown := [name for name in options if name not in known]:
        raise ArgumentError(f"options: expected {', '.join(known)}, got {', '.join(unknown)}")
    found = DecodingOptions(**{**model.family.defaults, **options})
    found.beams(model.capabilities.n_beams)
    return found


def check_images(model: LoadedModel, images: Iterable[ImageSegment]) -> None:
    """Refuse more images than a conversation with the model may show; each counts once.

    Raises:
        ArgumentError: there are more.
    """
    most, n_images = model.capabilities.n_images, len({image.content_hash for image in images})
    if most is not None and n_images > most:
        raise ArgumentError(
            f"image: expected {'one' if most == 1 else f'at most {most}'} in a conversation with {model.family.name}, "
            f"got {n_images}; begin a new conversation"
        )


def worded_question(question: str | None, code: str | None, *, has_images: bool, insist: bool) -> str:
    """A question as the model will see it.

    Args:
        question: what the user typed; None or space asks for a description.
        code: of the answer's language; None lets the model choose.
        has_images: whether there is something to describe.
        insist: ask for the language more strongly.

    Raises:
        ArgumentError: no text, or nothing to describe.
    """
    if question is not None and not isinstance(question, str):
        raise ArgumentError(f"question: expected text, got {type(question).__name__}")
    if question is not None and question.strip():
        return question if code is None else question_in(code, question, insist=insist)
    if not has_images:
        raise ArgumentError("question: expected text, got none and no image to describe; give one of them")
    return question_in(code or "en", insist=insist)


def checked_system(model: LoadedModel, system: str | None) -> str:
    """The text that opens the prompt.

    Args:
        model: that is asked.
        system: the caller's; None takes the one that the model was trained with.

    Raises:
        ArgumentError: the model's prompts have no place for one.
    """
    if system and not model.capabilities.has_system:
        raise ArgumentError(
            f"system: expected none, for prompts of {model.family.name} have no place for one, got text; "
            "say it in the question"
        )
    return model.family.system if system is None else system
