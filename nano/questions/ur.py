"""Urdu: gender, number and the oblique case; Urdu's own letters (ی ک ہ ھ ں ے), its full stop ۔ and question mark ؟."""

from __future__ import annotations

from collections.abc import Sequence

from nano.things import Group

DESCRIBE = (
    "اس تصویر میں کیا ہے؟",
    "آپ کو کیا نظر آ رہا ہے؟",
    "تصویر بیان کریں۔",
    "تصویر میں کیا کیا ہے؟",
)
OFF_TOPIC = (
    "صدر کون ہیں؟",
    "ابھی کتنے بجے ہیں؟",
    "فرانس کا دارالحکومت کون سا ہے؟",
    "آپ کون ہیں؟",
    "کوئی لطیفہ سنائیں۔",
    "تصویر میں آدمی کیا کر رہا ہے؟",
)
UNKNOWN = "میں صرف سادہ خاکے پہچانتا ہوں۔"

# direct singular and plural, oblique singular and plural, gender
_NOUNS = {
    "circle": ("دائرہ", "دائرے", "دائرے", "دائروں", "m"),
    "square": ("مربع", "مربع", "مربع", "مربعوں", "m"),
    "triangle": ("مثلث", "مثلث", "مثلث", "مثلثوں", "m"),
    "star": ("ستارہ", "ستارے", "ستارے", "ستاروں", "m"),
    "heart": ("دل", "دل", "دل", "دلوں", "m"),
    "cross": ("صلیب", "صلیبیں", "صلیب", "صلیبوں", "f"),
    "house": ("گھر", "گھر", "گھر", "گھروں", "m"),
    "tree": ("درخت", "درخت", "درخت", "درختوں", "m"),
    "fish": ("مچھلی", "مچھلیاں", "مچھلی", "مچھلیوں", "f"),
    "cup": ("پیالی", "پیالیاں", "پیالی", "پیالیوں", "f"),
    "thing": ("چیز", "چیزیں", "چیز", "چیزوں", "f"),
}
# Those that end in ا decline, the others never change.
_COLOURS = {
    "red": "سرخ",
    "orange": "نارنجی",
    "yellow": "پیلا",
    "green": "سبز",
    "blue": "نیلا",
    "purple": "جامنی",
    "black": "کالا",
    "white": "سفید",
}
_NUMBERS = ("", "ایک", "دو", "تین", "چار", "پانچ")
_SIDES = {"left": "کے بائیں طرف", "right": "کے دائیں طرف", "above": "کے اوپر", "below": "کے نیچے"}


def _gender(kind: str | None) -> str:
    return _NOUNS[kind or "thing"][4]


def _adjective(colour: str, gender: str, is_direct_singular: bool) -> str:
    word = _COLOURS[colour]
    if not word.endswith("ا"):
        return word
    ending = "ی" if gender == "f" else "ا" if is_direct_singular else "ے"
    return word[:-1] + ending


def _phrase(kind: str | None, colour: str | None, *, plural: bool = False, oblique: bool = False) -> str:
    noun = _NOUNS[kind or "thing"][plural + 2 * oblique]
    return f"{_adjective(colour, _gender(kind), not plural and not oblique)} {noun}" if colour else noun


def _some(n: int, kind: str | None, colour: str | None) -> str:
    return f"{_NUMBERS[n]} {_phrase(kind, colour, plural=n > 1)}"


def _are(n: int) -> str:
    return "ہے" if n == 1 else "ہیں"


def describe(groups: Sequence[Group]) -> str:
    *first, last = (_some(group.n, group.kind, group.colour) for group in groups)
    return f"تصویر میں {'، '.join(first) + ' اور ' if first else ''}{last} {_are(groups[-1].n)}۔"


def ask_count(kind: str | None, colour: str | None) -> tuple[str, ...]:
    many = _phrase(kind, colour, plural=True)
    how_many, visible = ("کتنی", "رہی") if _gender(kind) == "f" else ("کتنے", "رہے")
    return (
        f"تصویر میں {how_many} {many} ہیں؟",
        f"یہاں {how_many} {many} ہیں؟",
        f"{how_many} {many} نظر آ {visible} ہیں؟",
        f"{_phrase(kind, colour, plural=True, oblique=True)} کی تعداد بتائیں۔",
    )


def count(n: int, kind: str | None, colour: str | None) -> str:
    if n == 0:
        return f"تصویر میں کوئی {_phrase(kind, colour)} نہیں ہے۔"
    return f"تصویر میں {_some(n, kind, colour)} {_are(n)}۔"


def ask_colour(kind: str) -> tuple[str, ...]:
    noun, oblique = _NOUNS[kind][0], _NOUNS[kind][2]
    of = "کی" if _gender(kind) == "f" else "کا"
    return (f"{oblique} کا رنگ کیا ہے؟", f"{noun} کس رنگ {of} ہے؟", f"{oblique} کا رنگ بتائیں۔")


def colour(kind: str, colour: str) -> str:
    return f"{_NOUNS[kind][0]} {_adjective(colour, _gender(kind), True)} ہے۔"


def ask_exists(kind: str, colour: str | None) -> tuple[str, ...]:
    one, visible = _phrase(kind, colour), "رہی" if _gender(kind) == "f" else "رہا"
    return (
        f"کیا تصویر میں {one} ہے؟",
        f"کیا یہاں کوئی {one} ہے؟",
        f"کیا آپ کو کوئی {one} نظر آ {visible} ہے؟",
    )


def exists(n: int, kind: str, colour: str | None) -> str:
    if n == 0:
        return f"نہیں، تصویر میں کوئی {_phrase(kind, colour)} نہیں ہے۔"
    return f"جی ہاں، تصویر میں {_some(n, kind, colour)} {_are(n)}۔"


def ask_neighbour(side: str, kind: str) -> tuple[str, ...]:
    where = f"{_NOUNS[kind][2]} {_SIDES[side]}"
    return (f"{where} کیا ہے؟", f"{where} کیا نظر آ رہا ہے؟", f"بتائیں، {where} کیا ہے؟")


def neighbour(side: str, kind: str, found: tuple[str, str] | None) -> str:
    where = f"{_NOUNS[kind][2]} {_SIDES[side]}"
    return f"{where} کچھ نہیں ہے۔" if found is None else f"{where} {_some(1, *found)} ہے۔"


def ask_largest() -> tuple[str, ...]:
    return ("سب سے بڑی چیز کیا ہے؟", "کون سی چیز سب سے بڑی ہے؟", "یہاں سب سے بڑا کیا ہے؟")


def largest(kind: str, colour: str) -> str:
    return f"سب سے بڑی چیز {_phrase(kind, colour)} ہے۔"
