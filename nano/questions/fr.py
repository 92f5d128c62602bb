"""French: gender and number, elision (l', d'), du; a space before the question mark."""

from __future__ import annotations

from collections.abc import Sequence

from nano.things import Group

DESCRIBE = (
    "Qu'y a-t-il sur cette image ?",
    "Que voyez-vous ?",
    "Décrivez l'image.",
    "Que montre l'image ?",
)
OFF_TOPIC = (
    "Qui est le président ?",
    "Quelle heure est-il ?",
    "Quelle est la capitale de la France ?",
    "Qui êtes-vous ?",
    "Racontez-moi une blague.",
    "Que fait la personne sur la photo ?",
)
UNKNOWN = "Je ne connais que des dessins simples."

# singular, plural, gender
_NOUNS = {
    "circle": ("cercle", "cercles", "m"),
    "square": ("carré", "carrés", "m"),
    "triangle": ("triangle", "triangles", "m"),
    "star": ("étoile", "étoiles", "f"),
    "heart": ("cœur", "cœurs", "m"),
    "cross": ("croix", "croix", "f"),
    "house": ("maison", "maisons", "f"),
    "tree": ("arbre", "arbres", "m"),
    "fish": ("poisson", "poissons", "m"),
    "cup": ("tasse", "tasses", "f"),
    "thing": ("objet", "objets", "m"),
}
# masculine and feminine singular, masculine and feminine plural; orange, a fruit, never changes
_COLOURS = {
    "red": ("rouge", "rouge", "rouges", "rouges"),
    "orange": ("orange", "orange", "orange", "orange"),
    "yellow": ("jaune", "jaune", "jaunes", "jaunes"),
    "green": ("vert", "verte", "verts", "vertes"),
    "blue": ("bleu", "bleue", "bleus", "bleues"),
    "purple": ("violet", "violette", "violets", "violettes"),
    "black": ("noir", "noire", "noirs", "noires"),
    "white": ("blanc", "blanche", "blancs", "blanches"),
}
_NUMBERS = ("", "", "deux", "trois", "quatre", "cinq")
_SIDES = {"left": "à gauche", "right": "à droite", "above": "au-dessus", "below": "au-dessous"}
_VOWELS = "aeiouéèêœ"


def _is_feminine(kind: str | None) -> bool:
    return _NOUNS[kind or "thing"][2] == "f"


def _adjective(colour: str, kind: str | None, plural: bool) -> str:
    return _COLOURS[colour][2 * plural + _is_feminine(kind)]


def _phrase(kind: str | None, colour: str | None, *, plural: bool) -> str:
    noun = _NOUNS[kind or "thing"][plural]
    return f"{noun} {_adjective(colour, kind, plural)}" if colour else noun


def _some(n: int, kind: str | None, colour: str | None) -> str:
    number = ("une" if _is_feminine(kind) else "un") if n == 1 else _NUMBERS[n]
    return f"{number} {_phrase(kind, colour, plural=n > 1)}"


def _the(kind: str, colour: str | None = None) -> str:
    phrase = _phrase(kind, colour, plural=False)
    return f"l'{phrase}" if phrase[0] in _VOWELS else f"{'la' if _is_feminine(kind) else 'le'} {phrase}"


def _of(phrase: str) -> str:
    return f"d'{phrase}" if phrase[0] in _VOWELS else f"de {phrase}"


def _of_the(kind: str) -> str:
    the = _the(kind)
    return f"du {the[3:]}" if the.startswith("le ") else f"de {the}"


def _upper_first(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def describe(groups: Sequence[Group]) -> str:
    *first, last = (_some(group.n, group.kind, group.colour) for group in groups)
    return f"L'image montre {', '.join(first) + ' et ' if first else ''}{last}."


def ask_count(kind: str | None, colour: str | None) -> tuple[str, ...]:
    many = _phrase(kind, colour, plural=True)
    return (
        f"Combien {_of(many)} y a-t-il ?",
        f"Combien {_of(many)} voyez-vous ?",
        f"Comptez les {many}.",
        f"Quel est le nombre {_of(many)} ?",
    )


def count(n: int, kind: str | None, colour: str | None) -> str:
    if n == 0:
        return f"Il n'y a {'aucune' if _is_feminine(kind) else 'aucun'} {_phrase(kind, colour, plural=False)}."
    return f"Il y a {_some(n, kind, colour)}."


def ask_colour(kind: str) -> tuple[str, ...]:
    return (
        f"De quelle couleur est {_the(kind)} ?",
        f"Quelle est la couleur {_of_the(kind)} ?",
        f"Dites-moi la couleur {_of_the(kind)}.",
    )


def colour(kind: str, colour: str) -> str:
    return f"{_upper_first(_the(kind))} est {_adjective(colour, kind, False)}."


def ask_exists(kind: str, colour: str | None) -> tuple[str, ...]:
    one = _some(1, kind, colour)
    return (
        f"Y a-t-il {one} ?",
        f"Est-ce qu'il y a {one} ?",
        f"Voyez-vous {one} ?",
        f"Y a-t-il {one} sur l'image ?",
    )


def exists(n: int, kind: str, colour: str | None) -> str:
    if n == 0:
        return f"Non, il n'y a pas {_of(_phrase(kind, colour, plural=False))}."
    return f"Oui, il y a {_some(n, kind, colour)}."


def ask_neighbour(side: str, kind: str) -> tuple[str, ...]:
    where = f"{_SIDES[side]} {_of_the(kind)}"
    return (f"Qu'y a-t-il {where} ?", f"Que voit-on {where} ?", f"Quel objet se trouve {where} ?")


def neighbour(side: str, kind: str, found: tuple[str, str] | None) -> str:
    where = f"{_SIDES[side]} {_of_the(kind)}"
    if found is None:
        return f"Il n'y a rien {where}."
    return f"{_upper_first(where)}, il y a {_some(1, *found)}."


def ask_largest() -> tuple[str, ...]:
    return ("Quel est le plus grand objet ?", "Quel objet est le plus grand ?", "Qu'est-ce qui est le plus grand ?")


def largest(kind: str, colour: str) -> str:
    return f"Le plus grand objet est {_the(kind, colour)}."
