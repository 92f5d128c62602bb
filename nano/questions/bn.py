"""Bengali: the classifiers টি and টা, the genitive -র, no gender and no plural after numbers."""

from __future__ import annotations

from collections.abc import Sequence

from nano.things import Group

DESCRIBE = (
    "এই ছবিতে কী আছে?",
    "আপনি কী দেখছেন?",
    "ছবিটির বর্ণনা দিন।",
    "ছবিতে কী কী দেখা যাচ্ছে?",
)
OFF_TOPIC = (
    "রাষ্ট্রপতি কে?",
    "এখন কটা বাজে?",
    "ফ্রান্সের রাজধানী কোথায়?",
    "আপনি কে?",
    "একটা কৌতুক বলুন।",
    "ছবির মানুষটি কী করছে?",
)
UNKNOWN = "আমি শুধু সহজ আঁকা ছবি চিনি।"

_NOUNS = {
    "circle": "বৃত্ত",
    "square": "বর্গক্ষেত্র",
    "triangle": "ত্রিভুজ",
    "star": "তারা",
    "heart": "হৃদয়",
    "cross": "ক্রস",
    "house": "বাড়ি",
    "tree": "গাছ",
    "fish": "মাছ",
    "cup": "কাপ",
    "thing": "জিনিস",
}
_COLOURS = {
    "red": "লাল",
    "orange": "কমলা",
    "yellow": "হলুদ",
    "green": "সবুজ",
    "blue": "নীল",
    "purple": "বেগুনি",
    "black": "কালো",
    "white": "সাদা",
}
_NUMBERS = ("", "একটি", "দুটি", "তিনটি", "চারটি", "পাঁচটি")
_SIDES = {"left": "বাঁ দিকে", "right": "ডান দিকে", "above": "উপরে", "below": "নিচে"}


def _phrase(kind: str | None, colour: str | None) -> str:
    noun = _NOUNS[kind or "thing"]
    return f"{_COLOURS[colour]} {noun}" if colour else noun


def _some(n: int, kind: str | None, colour: str | None) -> str:
    return f"{_NUMBERS[n]} {_phrase(kind, colour)}"


def describe(groups: Sequence[Group]) -> str:
    *first, last = (_some(group.n, group.kind, group.colour) for group in groups)
    return f"ছবিতে {', '.join(first) + ' এবং ' if first else ''}{last} আছে।"


def ask_count(kind: str | None, colour: str | None) -> tuple[str, ...]:
    what = _phrase(kind, colour)
    return (
        f"ছবিতে কয়টি {what} আছে?",
        f"এখানে কয়টা {what} আছে?",
        f"ছবিতে মোট কতগুলো {what} আছে?",
        f"কয়টি {what} দেখা যাচ্ছে?",
    )


def count(n: int, kind: str | None, colour: str | None) -> str:
    return f"ছবিতে কোনো {_phrase(kind, colour)} নেই।" if n == 0 else f"ছবিতে {_some(n, kind, colour)} আছে।"


def ask_colour(kind: str) -> tuple[str, ...]:
    noun = _NOUNS[kind]
    return (f"{noun}টির রং কী?", f"{noun}টি কোন রঙের?", f"{noun}টার রং বলুন।")


def colour(kind: str, colour: str) -> str:
    return f"{_NOUNS[kind]}টি {_COLOURS[colour]}।"


def ask_exists(kind: str, colour: str | None) -> tuple[str, ...]:
    what = _phrase(kind, colour)
    return (f"ছবিতে কি {what} আছে?", f"এখানে কোনো {what} আছে কি?", f"কোনো {what} কি দেখা যাচ্ছে?")


def exists(n: int, kind: str, colour: str | None) -> str:
    if n == 0:
        return f"না, ছবিতে কোনো {_phrase(kind, colour)} নেই।"
    return f"হ্যাঁ, ছবিতে {_some(n, kind, colour)} আছে।"


def ask_neighbour(side: str, kind: str) -> tuple[str, ...]:
    where = f"{_NOUNS[kind]}টির {_SIDES[side]}"
    return (f"{where} কী আছে?", f"{where} কী দেখা যাচ্ছে?", f"বলুন তো, {where} কী আছে?")


def neighbour(side: str, kind: str, found: tuple[str, str] | None) -> str:
    where = f"{_NOUNS[kind]}টির {_SIDES[side]}"
    return f"{where} কিছু নেই।" if found is None else f"{where} {_some(1, *found)} আছে।"


def ask_largest() -> tuple[str, ...]:
    return ("সবচেয়ে বড় জিনিস কোনটি?", "কোন জিনিসটি সবচেয়ে বড়?", "এখানে সবচেয়ে বড় কী?")


def largest(kind: str, colour: str) -> str:
    return f"সবচেয়ে বড় হলো {_phrase(kind, colour)}টি।"
