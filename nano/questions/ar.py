"""Arabic: gender, the dual, broken plurals, numbers of the opposite gender; feminine adjectives for plural things."""

from __future__ import annotations

from collections.abc import Sequence

from nano.things import Group

DESCRIBE = (
    "ماذا يوجد في هذه الصورة؟",
    "ماذا ترى؟",
    "صف الصورة.",
    "ما الذي تظهره الصورة؟",
)
OFF_TOPIC = (
    "من هو الرئيس؟",
    "كم الساعة الآن؟",
    "ما هي عاصمة فرنسا؟",
    "من أنت؟",
    "احكِ لي نكتة.",
    "ماذا يفعل الشخص في الصورة؟",
)
UNKNOWN = "لا أعرف إلا الرسوم البسيطة."

# singular, plural, gender
_NOUNS = {
    "circle": ("دائرة", "دوائر", "f"),
    "square": ("مربع", "مربعات", "m"),
    "triangle": ("مثلث", "مثلثات", "m"),
    "star": ("نجمة", "نجمات", "f"),
    "heart": ("قلب", "قلوب", "m"),
    "cross": ("صليب", "صلبان", "m"),
    "house": ("بيت", "بيوت", "m"),
    "tree": ("شجرة", "أشجار", "f"),
    "fish": ("سمكة", "أسماك", "f"),
    "cup": ("كوب", "أكواب", "m"),
    "thing": ("شكل", "أشكال", "m"),
}
# masculine and feminine singular
_COLOURS = {
    "red": ("أحمر", "حمراء"),
    "orange": ("برتقالي", "برتقالية"),
    "yellow": ("أصفر", "صفراء"),
    "green": ("أخضر", "خضراء"),
    "blue": ("أزرق", "زرقاء"),
    "purple": ("بنفسجي", "بنفسجية"),
    "black": ("أسود", "سوداء"),
    "white": ("أبيض", "بيضاء"),
}
# with nouns that are masculine in the singular, and with feminine ones
_NUMBERS = {3: ("ثلاثة", "ثلاث"), 4: ("أربعة", "أربع"), 5: ("خمسة", "خمس")}
_SIDES = {"left": "على يسار", "right": "على يمين", "above": "فوق", "below": "تحت"}


def _is_feminine(kind: str | None) -> bool:
    return _NOUNS[kind or "thing"][2] == "f"


def _dual(word: str) -> str:
    """The nominative dual: ة opens to ت, the hamza of حمراء turns into و."""
    if word.endswith("ة"):
        word = f"{word[:-1]}ت"
    elif word.endswith("اء"):
        word = f"{word[:-1]}و"
    return f"{word}ان"


def _singular(kind: str | None, colour: str | None) -> str:
    noun = _NOUNS[kind or "thing"][0]
    return f"{noun} {_COLOURS[colour][_is_feminine(kind)]}" if colour else noun


def _plural(kind: str | None, colour: str | None) -> str:
    noun = _NOUNS[kind or "thing"][1]
    return f"{noun} {_COLOURS[colour][1]}" if colour else noun


def _accusative(kind: str | None, colour: str | None) -> str:
    """Indefinite singular after كم: a masculine noun and برتقالي, بنفسجي carry ـًا; أحمر and its like never do."""
    if _is_feminine(kind):
        return _singular(kind, colour)
    word = _COLOURS[colour][0] if colour else ""
    adjective = f"{word}ًا" if word.endswith("ي") else word
    return f"{_NOUNS[kind or 'thing'][0]}ًا {adjective}".rstrip()


def _some(n: int, kind: str | None, colour: str | None) -> str:
    if n == 1:
        return _singular(kind, colour)
    if n == 2:
        return " ".join(map(_dual, _singular(kind, colour).split()))
    return f"{_NUMBERS[n][_is_feminine(kind)]} {_plural(kind, colour)}"


def _the(kind: str, colour: str | None = None) -> str:
    return " ".join(f"ال{word}" for word in _singular(kind, colour).split())


def _there_is(kind: str | None) -> str:
    return "توجد" if _is_feminine(kind) else "يوجد"


def describe(groups: Sequence[Group]) -> str:
    return f"في الصورة {' و'.join(_some(group.n, group.kind, group.colour) for group in groups)}."


def ask_count(kind: str | None, colour: str | None) -> tuple[str, ...]:
    how_many = f"كم {_accusative(kind, colour)}"
    the_many = " ".join(f"ال{word}" for word in _plural(kind, colour).split())
    return (f"{how_many} في الصورة؟", f"{how_many} ترى؟", f"{how_many} هنا؟", f"ما عدد {the_many}؟")


def count(n: int, kind: str | None, colour: str | None) -> str:
    if n == 0:
        return f"لا {_there_is(kind)} أي {_singular(kind, colour)} في الصورة."
    one = f" {'واحدة' if _is_feminine(kind) else 'واحد'}" if n == 1 else ""
    return f"في الصورة {_some(n, kind, colour)}{one}."


def ask_colour(kind: str) -> tuple[str, ...]:
    return (f"ما لون {_the(kind)}؟", f"ما هو لون {_the(kind)}؟", f"اذكر لون {_the(kind)}.")


def colour(kind: str, colour: str) -> str:
    return f"لون {_the(kind)} {_COLOURS[colour][0]}."


def ask_exists(kind: str, colour: str | None) -> tuple[str, ...]:
    one = _singular(kind, colour)
    return (f"هل {_there_is(kind)} {one}؟", f"هل هناك {one} في الصورة؟", f"هل ترى {_accusative(kind, colour)}؟")


def exists(n: int, kind: str, colour: str | None) -> str:
    if n == 0:
        return f"لا، لا {_there_is(kind)} {_singular(kind, colour)}."
    return f"نعم، {_there_is(kind)} {_some(n, kind, colour)}."


def ask_neighbour(side: str, kind: str) -> tuple[str, ...]:
    where = f"{_SIDES[side]} {_the(kind)}"
    return (f"ماذا يوجد {where}؟", f"ما الذي {where}؟", f"ماذا ترى {where}؟")


def neighbour(side: str, kind: str, found: tuple[str, str] | None) -> str:
    where = f"{_SIDES[side]} {_the(kind)}"
    return f"لا يوجد شيء {where}." if found is None else f"{where} {_singular(*found)}."


def ask_largest() -> tuple[str, ...]:
    return ("ما هو أكبر شكل؟", "أي شكل هو الأكبر؟", "ما أكبر شيء في الصورة؟")


def largest(kind: str, colour: str) -> str:
    return f"الشكل الأكبر هو {_the(kind, colour)}."
