"""Questions about a picture and their answers: one grammar per language, each written in its language.

A grammar is a module with the functions of `Grammar`. A question has several phrasings, an answer exactly one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

from nano.questions import ar, bn, en, es, fr, hi, ja, ru, ur, zh
from nano.things import Group


class Grammar(Protocol):
    """What each language says. `kind` None means a thing of any kind, `colour` None of any colour.

    Attributes:
        DESCRIBE: ways to ask for a description.
        OFF_TOPIC: questions that no picture of ours answers.
        UNKNOWN: the answer to those, and to any question about another kind of picture.
    """

    DESCRIBE: tuple[str, ...]
    OFF_TOPIC: tuple[str, ...]
    UNKNOWN: str

    def describe(self, groups: Sequence[Group]) -> str:
        """Everything in the picture."""
        ...

    def ask_count(self, kind: str | None, colour: str | None) -> tuple[str, ...]:
        """How many there are."""
        ...

    def count(self, n: int, kind: str | None, colour: str | None) -> str:
        """There are n; none where n is 0."""
        ...

    def ask_colour(self, kind: str) -> tuple[str, ...]:
        """What colour the only thing of this kind has."""
        ...

    def colour(self, kind: str, colour: str) -> str:
        """That colour."""
        ...

    def ask_exists(self, kind: str, colour: str | None) -> tuple[str, ...]:
        """Whether there is one."""
        ...

    def exists(self, n: int, kind: str, colour: str | None) -> str:
        """Yes, n of them; or no."""
        ...

    def ask_neighbour(self, side: str, kind: str) -> tuple[str, ...]:
        """What is on a side of the only thing of this kind."""
        ...

    def neighbour(self, side: str, kind: str, found: tuple[str, str] | None) -> str:
        """The thing (kind, colour) there, or nothing."""
        ...

    def ask_largest(self) -> tuple[str, ...]:
        """Which thing is the largest."""
        ...

    def largest(self, kind: str, colour: str) -> str:
        """That one."""
        ...


# Order of the paper's table: high-resource languages, then low-resource ones.
GRAMMARS: dict[str, Grammar] = {
    code: cast(Grammar, module)
    for code, module in (
        *(("en", en), ("zh", zh), ("fr", fr), ("es", es), ("ru", ru), ("ja", ja)),
        *(("ar", ar), ("hi", hi), ("bn", bn), ("ur", ur)),
    )
}
