"""What a simple drawing may show: the words that scenes, questions and labels share."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("circle", "square", "triangle", "star", "heart", "cross", "house", "tree", "fish", "cup")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "black", "white")
SIDES = ("left", "right", "above", "below")
MAX_THINGS = 4


@dataclass(frozen=True)
class Group:
    """All things of one kind and colour in a picture."""

    kind: str
    colour: str
    n: int
