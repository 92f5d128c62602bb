"""Russian: three genders, cases, and the forms after numbers (одна звезда, две звезды, пять звёзд); ё is written."""

from __future__ import annotations

from collections.abc import Sequence

from nano.things import Group

DESCRIBE = (
    "Что на этой картинке?",
    "Что вы видите?",
    "Опишите картинку.",
    "Что здесь изображено?",
)
OFF_TOPIC = (
    "Кто президент?",
    "Который час?",
    "Какая столица Франции?",
    "Кто вы?",
    "Расскажите анекдот.",
    "Что делает человек на фотографии?",
)
UNKNOWN = "Я знаю только простые рисунки."

# nominative, genitive, instrumental singular; genitive plural; gender
_NOUNS = {
    "circle": ("круг", "круга", "кругом", "кругов", "m"),
    "square": ("квадрат", "квадрата", "квадратом", "квадратов", "m"),
    "triangle": ("треугольник", "треугольника", "треугольником", "треугольников", "m"),
    "star": ("звезда", "звезды", "звездой", "звёзд", "f"),
    "heart": ("сердце", "сердца", "сердцем", "сердец", "n"),
    "cross": ("крест", "креста", "крестом", "крестов", "m"),
    "house": ("дом", "дома", "домом", "домов", "m"),
    "tree": ("дерево", "дерева", "деревом", "деревьев", "n"),
    "fish": ("рыба", "рыбы", "рыбой", "рыб", "f"),
    "cup": ("чашка", "чашки", "чашкой", "чашек", "f"),
    "thing": ("предмет", "предмета", "предметом", "предметов", "m"),
}
# stem and whether its endings are the soft ones of синий
_COLOURS = {
    "red": ("красн", False),
    "orange": ("оранжев", False),
    "yellow": ("жёлт", False),
    "green": ("зелён", False),
    "blue": ("син", True),
    "purple": ("фиолетов", False),
    "black": ("чёрн", False),
    "white": ("бел", False),
}
# case and gender -> hard and soft ending; "nominative_plural" and "genitive_plural" have no gender
_ENDINGS = {
    "nominative_m": ("ый", "ий"),
    "nominative_f": ("ая", "яя"),
    "nominative_n": ("ое", "ее"),
    "genitive_m": ("ого", "его"),
    "genitive_f": ("ой", "ей"),
    "genitive_n": ("ого", "его"),
    "nominative_plural": ("ые", "ие"),
    "genitive_plural": ("ых", "их"),
}
_ONE = {"m": "один", "f": "одна", "n": "одно"}
_TWO = {"m": "два", "f": "две", "n": "два"}
_NUMBERS = ("", "", "", "три", "четыре", "пять")
_SIDES = {"left": "слева от", "right": "справа от", "above": "над", "below": "под"}


def _adjective(colour: str, form: str) -> str:
    stem, is_soft = _COLOURS[colour]
    return stem + _ENDINGS[form][is_soft]


def _phrase(noun: str, colour: str | None, form: str) -> str:
    return f"{_adjective(colour, form)} {noun}" if colour else noun


def _one(kind: str | None, colour: str | None, case: str = "nominative") -> str:
    nominative, genitive, _, _, gender = _NOUNS[kind or "thing"]
    return _phrase(nominative if case == "nominative" else genitive, colour, f"{case}_{gender}")


def _many(kind: str | None, colour: str | None) -> str:
    """After zero, five and more: the genitive plural."""
    return _phrase(_NOUNS[kind or "thing"][3], colour, "genitive_plural")


def _some(n: int, kind: str | None, colour: str | None) -> str:
    """After two, three and four the noun is in the genitive singular; a feminine one has nominative adjectives."""
    _, genitive, _, _, gender = _NOUNS[kind or "thing"]
    if n == 1:
        return _one(kind, colour)
    if n > 4:
        return f"{_NUMBERS[n]} {_many(kind, colour)}"
    form = "nominative_plural" if gender == "f" else "genitive_plural"
    return f"{_TWO[gender] if n == 2 else _NUMBERS[n]} {_phrase(genitive, colour, form)}"


def _where(side: str, kind: str) -> str:
    _, genitive, instrumental, _, _ = _NOUNS[kind]
    return f"{_SIDES[side]} {genitive if side in ('left', 'right') else instrumental}"


def describe(groups: Sequence[Group]) -> str:
    *first, last = (_some(group.n, group.kind, group.colour) for group in groups)
    return f"На картинке {', '.join(first) + ' и ' if first else ''}{last}."


def ask_count(kind: str | None, colour: str | None) -> tuple[str, ...]:
    many = _many(kind, colour)
    return (
        f"Сколько здесь {many}?",
        f"Сколько {many} на картинке?",
        f"Сколько {many} вы видите?",
        f"Назовите число {many}.",
    )


def count(n: int, kind: str | None, colour: str | None) -> str:
    if n == 0:
        return f"На картинке нет {_many(kind, colour)}."
    one = f"{_ONE[_NOUNS[kind or 'thing'][4]]} " if n == 1 else ""
    return f"На картинке {one}{_some(n, kind, colour)}."


def ask_colour(kind: str) -> tuple[str, ...]:
    nominative, genitive, *_ = _NOUNS[kind]
    return (f"Какого цвета {nominative}?", f"Какой цвет у {genitive}?", f"Скажите, какого цвета {nominative}.")


def colour(kind: str, colour: str) -> str:
    nominative, *_, gender = _NOUNS[kind]
    return f"{nominative.capitalize()} {_adjective(colour, f'nominative_{gender}')}."


def ask_exists(kind: str, colour: str | None) -> tuple[str, ...]:
    one = _one(kind, colour)
    return (f"Есть ли здесь {one}?", f"Здесь есть {one}?", f"Есть ли на картинке {one}?")


def exists(n: int, kind: str, colour: str | None) -> str:
    if n == 0:
        return f"Нет, {_one(kind, colour, 'genitive')} здесь нет."
    return f"Да, здесь {'есть ' if n == 1 else ''}{_some(n, kind, colour)}."


def ask_neighbour(side: str, kind: str) -> tuple[str, ...]:
    where = _where(side, kind)
    return (f"Что {where}?", f"Что находится {where}?", f"Что вы видите {where}?")


def neighbour(side: str, kind: str, found: tuple[str, str] | None) -> str:
    where = _where(side, kind)
    where = f"{where[0].upper()}{where[1:]}"
    return f"{where} ничего нет." if found is None else f"{where} {_one(*found)}."


def ask_largest() -> tuple[str, ...]:
    return ("Какой предмет самый большой?", "Что здесь самое большое?", "Назовите самый большой предмет.")


def largest(kind: str, colour: str) -> str:
    return f"Самый большой предмет — {_one(kind, colour)}."
