"""One question with all that decides its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from palo_cpp.decoding.options import DecodingOptions
from palo_cpp.errors import ArgumentError
from palo_cpp.segments import Segment, Turn

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

    @property
    def n_prompt(self) -> int:
        """Tokens and image embeddings of the prompt."""
        return sum(map(len, self.segments))


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
