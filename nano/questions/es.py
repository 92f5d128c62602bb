"""Spanish: gender and number of noun, article and adjective; de + el = del; ¿ ?."""

from __future__ import annotations

from collections.abc import Sequence

from nano.things import Group

DESCRIBE = (
    "¿Qué hay en esta imagen?",
    "¿Qué ves?",
    "Describe la imagen.",
    "¿Qué muestra la imagen?",
)
OFF_TOPIC = (
    "¿Quién es el presidente?",
    "¿Qué hora es?",
    "¿Cuál es la capital de Francia?",
    "¿Quién eres?",
    "Cuéntame un chiste.",
    "¿Qué hace la persona de la foto?",
)
UNKNOWN = "Solo conozco dibujos sencillos."

# singular, plural, gender
_NOUNS = {
    "circle": ("círculo", "círculos", "m"),
    "square": ("cuadrado", "cuadrados", "m"),
    "triangle": ("triángulo", "triángulos", "m"),
    "star": ("estrella", "estrellas", "f"),
    "heart": ("corazón", "corazones", "m"),
    "cross": ("cruz", "cruces", "f"),
    "house": ("casa", "casas", "f"),
    "tree": ("árbol", "árboles", "m"),
    "fish": ("pez", "peces", "m"),
    "cup": ("taza", "tazas", "f"),
    "thing": ("figura", "figuras", "f"),
}
# Ending in -o: four forms; the others know only number.
_COLOURS = {
    "red": "rojo",
    "orange": "naranja",
    "yellow": "amarillo",
    "green": "verde",
    "blue": "azul",
    "purple": "morado",
    "black": "negro",
    "white": "blanco",
}
_NUMBERS = ("", "", "dos", "tres", "cuatro", "cinco")
_SIDES = {"left": "a la izquierda de", "right": "a la derecha de", "above": "encima de", "below": "debajo de"}


def _adjective(colour: str, gender: str, plural: bool) -> str:
    word = _COLOURS[colour]
    if word.endswith("o") and gender == "f":
        word = f"{word[:-1]}a"
    return word + ("es" if word.endswith("l") else "s") if plural else word


def _phrase(kind: str | None, colour: str | None, *, plural: bool) -> str:
    singular, many, gender = _NOUNS[kind or "thing"]
    noun = many if plural else singular
    return f"{noun} {_adjective(colour, gender, plural)}" if colour else noun


def _is_feminine(kind: str | None) -> bool:
    return _NOUNS[kind or "thing"][2] == "f"


def _some(n: int, kind: str | None, colour: str | None) -> str:
    number = ("una" if _is_feminine(kind) else "un") if n == 1 else _NUMBERS[n]
    return f"{number} {_phrase(kind, colour, plural=n > 1)}"


def _the(kind: str, colour: str | None = None) -> str:
    return f"{'la' if _is_feminine(kind) else 'el'} {_phrase(kind, colour, plural=False)}"


def _none(kind: str | None, colour: str | None) -> str:
    return f"{'ninguna' if _is_feminine(kind) else 'ningún'} {_phrase(kind, colour, plural=False)}"


def _where(side: str, kind: str) -> str:
    return f"{_SIDES[side]} {_the(kind)}".replace(" de el ", " del ")


def describe(groups: Sequence[Group]) -> str:
    *first, last = (_some(group.n, group.kind, group.colour) for group in groups)
    return f"La imagen muestra {', '.join(first) + ' y ' if first else ''}{last}."


def ask_count(kind: str | None, colour: str | None) -> tuple[str, ...]:
    many = _phrase(kind, colour, plural=True)
    how_many, the = ("¿Cuántas", "las") if _is_feminine(kind) else ("¿Cuántos", "los")
    return (
        f"{how_many} {many} hay?",
        f"{how_many} {many} ves?",
        f"{how_many} {many} hay en la imagen?",
        f"Cuenta {the} {many}.",
    )


def count(n: int, kind: str | None, colour: str | None) -> str:
    return f"No hay {_none(kind, colour)}." if n == 0 else f"Hay {_some(n, kind, colour)}."


def ask_colour(kind: str) -> tuple[str, ...]:
    of = f"de {_the(kind)}".replace("de el ", "del ")
    return (f"¿De qué color es {_the(kind)}?", f"¿Cuál es el color {of}?", f"Dime el color {of}.")


def colour(kind: str, colour: str) -> str:
    the, gender = _the(kind), _NOUNS[kind][2]
    return f"{the[0].upper()}{the[1:]} es {_adjective(colour, gender, False)}."


def ask_exists(kind: str, colour: str | None) -> tuple[str, ...]:
    any_one = f"{'alguna' if _is_feminine(kind) else 'algún'} {_phrase(kind, colour, plural=False)}"
    one = _some(1, kind, colour)
    return (f"¿Hay {one}?", f"¿Hay {any_one}?", f"¿Ves {one}?", f"¿Hay {one} en la imagen?")


def exists(n: int, kind: str, colour: str | None) -> str:
    return f"No, no hay {_none(kind, colour)}." if n == 0 else f"Sí, hay {_some(n, kind, colour)}."


def ask_neighbour(side: str, kind: str) -> tuple[str, ...]:
    where = _where(side, kind)
    return (f"¿Qué hay {where}?", f"¿Qué ves {where}?", f"¿Qué figura está {where}?")


def neighbour(side: str, kind: str, found: tuple[str, str] | None) -> str:
    where = _where(side, kind)
    if found is None:
        return f"No hay nada {where}."
    return f"{where[0].upper()}{where[1:]} hay {_some(1, *found)}."


def ask_largest() -> tuple[str, ...]:
    return ("¿Cuál es la figura más grande?", "¿Qué figura es la más grande?", "¿Qué es lo más grande?")


def largest(kind: str, colour: str) -> str:
    return f"La figura más grande es {_the(kind, colour)}."
