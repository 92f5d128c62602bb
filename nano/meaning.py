"""What a question asks and what is true, whatever the language: what the decoder is taught beside the words."""

from __future__ import annotations

from dataclasses import dataclass

from nano.things import COLOURS, KINDS, MAX_THINGS, SIDES

# Share of each task among the questions.
TASKS = {"describe": 5, "count": 5, "colour": 3, "exists": 4, "neighbour": 5, "largest": 2, "off_topic": 0.5}

NOT_SAID = -100  # a class that no loss looks at
_NAMING = ("describe", "colour", "neighbour", "largest")  # tasks whose answer names a thing, or says that there is none
_UNKNOWN = MAX_THINGS + 1  # "I only know simple drawings" instead of a number

# Classes of each field: of the question, and of the answer. 0 of a kind, a colour or a side is none.
ASKED = {"task": len(TASKS), "kind": 1 + len(KINDS), "colour": 1 + len(COLOURS), "side": 1 + len(SIDES)}
FOUND = {"n": 2 + MAX_THINGS, "found_kind": 1 + len(KINDS), "found_colour": 1 + len(COLOURS)}


@dataclass(frozen=True)
class Meaning:
    """One question with its answer.

    Attributes:
        task: key of `TASKS`; None for a question about a picture of another kind, whatever it asks.
        kind, colour, side: that the question names.
        n: how many things the answer speaks of; None where it says that it does not know.
        found: kind and colour of the (first) thing that the answer names and the question does not.
    """

    task: str | None
    kind: str | None = None
    colour: str | None = None
    side: str | None = None
    n: int | None = None
    found: tuple[str, str] | None = None

    def asked(self) -> tuple[int, ...]:
        """A class for each of `ASKED`."""
        if self.task is None:
            return (NOT_SAID,) * len(ASKED)
        return (
            tuple(TASKS).index(self.task),
            _number(KINDS, self.kind),
            _number(COLOURS, self.colour),
            _number(SIDES, self.side),
        )

    def answered(self) -> tuple[int, ...]:
        """A class for each of `FOUND`."""
        n = _UNKNOWN if self.n is None else self.n
        if self.task not in _NAMING:
            return n, NOT_SAID, NOT_SAID
        kind, colour = self.found or (None, None)
        return n, _number(KINDS, kind), _number(COLOURS, colour)


def _number(names: tuple[str, ...], name: str | None) -> int:
    return 0 if name is None else 1 + names.index(name)
