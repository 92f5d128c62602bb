"""One question with all that decides its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from palo_cpp.decoding.options import DecodingOptions
from palo_cpp.segments import Segment, Turn

if TYPE_CHECKING:
    from palo_cpp.chat.read_ahead import ReadAhead


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
