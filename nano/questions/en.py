"""English."""

from __future__ import annotations

from collections.abc import Sequence

from nano.things import Group

DESCRIBE = (
    "What is in this picture?",
    "What do you see?",
    "Describe the picture.",
    "What does the image show?",
)
OFF_TOPIC = (
    "Who is the president?",
    "What time is it?",
    "What is the capital of France?",
    "Who are you?",
    "Tell me a joke.",
    "What is the person in the photo doing?",
)
UNKNOWN = "I only know simple drawings."

_PLURALS = {"cross": "crosses", "fish": "fish"}
_NUMBERS = ("no", "one", "two", "three", "four", "five")
_SIDES = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}


def _phrase(kind: str | None, colour: str | None, *, plural: bool) -> str:
    kind = kind or "thing"
    noun = _PLURALS.get(kind, f"{kind}s") if plural else kind
    return f"{colour} {noun}" if colour else noun


def _a(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _some(n: int, kind: str, colour: str | None) -> str:
    phrase = _phrase(kind, colour, plural=n > 1)
    return _a(phrase) if n == 1 else f"{_NUMBERS[n]} {phrase}"


def describe(groups: Sequence[Group]) -> str:
    *first, last = (_some(group.n, group.kind, group.colour) for group in groups)
    return f"The picture shows {', '.join(first) + ' and ' if first else ''}{last}."


def ask_count(kind: str | None, colour: str | None) -> tuple[str, ...]:
    many = _phrase(kind, colour, plural=True)
    return (
        f"How many {many} are there?",
        f"How many {many} do you see?",
        f"Count the {many}.",
        f"What is the number of {many}?",
    )


def count(n: int, kind: str | None, colour: str | None) -> str:
    return f"There {'is' if n == 1 else 'are'} {_NUMBERS[n]} {_phrase(kind, colour, plural=n != 1)}."


def ask_colour(kind: str) -> tuple[str, ...]:
    return (
        f"What colour is the {kind}?",
        f"What color is the {kind}?",
        f"Which colour does the {kind} have?",
        f"Tell me the colour of the {kind}.",
    )


def colour(kind: str, colour: str) -> str:
    return f"The {kind} is {colour}."


def ask_exists(kind: str, colour: str | None) -> tuple[str, ...]:
    one = _a(_phrase(kind, colour, plural=False))
    return (
        f"Is there {one}?",
        f"Do you see {one}?",
        f"Does the picture show {one}?",
        f"Is there {one} in the picture?",
    )


def exists(n: int, kind: str, colour: str | None) -> str:
    if n == 0:
        return f"No, there is no {_phrase(kind, colour, plural=False)}."
    return f"Yes, there {'is' if n == 1 else 'are'} {_some(n, kind, colour)}."


def ask_neighbour(side: str, kind: str) -> tuple[str, ...]:
    where = f"{_SIDES[side]} the {kind}"
    return (f"What is {where}?", f"What do you see {where}?", f"Which thing is {where}?")


def neighbour(side: str, kind: str, found: tuple[str, str] | None) -> str:
    where = f"{_SIDES[side]} the {kind}"
    if found is None:
        return f"There is nothing {where}."
    return f"{where[0].upper()}{where[1:]} there is {_some(1, *found)}."


def ask_largest() -> tuple[str, ...]:
    return ("Which thing is the largest?", "What is the largest thing?", "Which is the biggest?")


def largest(kind: str, colour: str) -> str:
    return f"The largest thing is the {colour} {kind}."
