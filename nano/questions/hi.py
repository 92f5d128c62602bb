"""Hindi: gender, number and the oblique case before postpositions; the verb agrees with the nearest noun."""

from __future__ import annotations

from collections.abc import Sequence

from nano.things import Group

DESCRIBE = (
    "इस तस्वीर में क्या है?",
    "आपको क्या दिख रहा है?",
    "तस्वीर का वर्णन कीजिए।",
    "तस्वीर में क्या-क्या है?",
)
OFF_TOPIC = (
    "राष्ट्रपति कौन हैं?",
    "अभी कितने बजे हैं?",
    "फ़्रांस की राजधानी क्या है?",
    "आप कौन हैं?",
    "कोई चुटकुला सुनाइए।",
    "फ़ोटो में व्यक्ति क्या कर रहा है?",
)
UNKNOWN = "मैं केवल सरल चित्र पहचानता हूँ।"

# direct singular and plural, oblique singular and plural, gender
_NOUNS = {
    "circle": ("वृत्त", "वृत्त", "वृत्त", "वृत्तों", "m"),
    "square": ("वर्ग", "वर्ग", "वर्ग", "वर्गों", "m"),
    "triangle": ("त्रिभुज", "त्रिभुज", "त्रिभुज", "त्रिभुजों", "m"),
    "star": ("तारा", "तारे", "तारे", "तारों", "m"),
    "heart": ("दिल", "दिल", "दिल", "दिलों", "m"),
    "cross": ("क्रॉस", "क्रॉस", "क्रॉस", "क्रॉसों", "m"),
    "house": ("घर", "घर", "घर", "घरों", "m"),
    "tree": ("पेड़", "पेड़", "पेड़", "पेड़ों", "m"),
    "fish": ("मछली", "मछलियाँ", "मछली", "मछलियों", "f"),
    "cup": ("प्याला", "प्याले", "प्याले", "प्यालों", "m"),
    "thing": ("चीज़", "चीज़ें", "चीज़", "चीज़ों", "f"),
}
# Those that end in -ा decline, the others never change.
_COLOURS = {
    "red": "लाल",
    "orange": "नारंगी",
    "yellow": "पीला",
    "green": "हरा",
    "blue": "नीला",
    "purple": "बैंगनी",
    "black": "काला",
    "white": "सफ़ेद",
}
_NUMBERS = ("", "एक", "दो", "तीन", "चार", "पाँच")
_SIDES = {"left": "के बाईं ओर", "right": "के दाईं ओर", "above": "के ऊपर", "below": "के नीचे"}


def _gender(kind: str | None) -> str:
    return _NOUNS[kind or "thing"][4]


def _adjective(colour: str, gender: str, is_direct_singular: bool) -> str:
    word = _COLOURS[colour]
    if not word.endswith("ा"):
        return word
    ending = "ी" if gender == "f" else "ा" if is_direct_singular else "े"
    return word[:-1] + ending


def _phrase(kind: str | None, colour: str | None, *, plural: bool = False, oblique: bool = False) -> str:
    noun = _NOUNS[kind or "thing"][plural + 2 * oblique]
    return f"{_adjective(colour, _gender(kind), not plural and not oblique)} {noun}" if colour else noun


def _some(n: int, kind: str | None, colour: str | None) -> str:
    return f"{_NUMBERS[n]} {_phrase(kind, colour, plural=n > 1)}"


def _are(n: int) -> str:
    return "है" if n == 1 else "हैं"


def describe(groups: Sequence[Group]) -> str:
    *first, last = (_some(group.n, group.kind, group.colour) for group in groups)
    return f"तस्वीर में {', '.join(first) + ' और ' if first else ''}{last} {_are(groups[-1].n)}।"


def ask_count(kind: str | None, colour: str | None) -> tuple[str, ...]:
    many = _phrase(kind, colour, plural=True)
    how_many, visible = ("कितनी", "रही") if _gender(kind) == "f" else ("कितने", "रहे")
    return (
        f"तस्वीर में {how_many} {many} हैं?",
        f"यहाँ {how_many} {many} हैं?",
        f"{how_many} {many} दिख {visible} हैं?",
        f"{_phrase(kind, colour, plural=True, oblique=True)} की संख्या बताइए।",
    )


def count(n: int, kind: str | None, colour: str | None) -> str:
    if n == 0:
        return f"तस्वीर में कोई {_phrase(kind, colour)} नहीं है।"
    return f"तस्वीर में {_some(n, kind, colour)} {_are(n)}।"


def ask_colour(kind: str) -> tuple[str, ...]:
    noun, oblique = _NOUNS[kind][0], _NOUNS[kind][2]
    of = "की" if _gender(kind) == "f" else "का"
    return (f"{oblique} का रंग क्या है?", f"{noun} किस रंग {of} है?", f"{oblique} का रंग बताइए।")


def colour(kind: str, colour: str) -> str:
    return f"{_NOUNS[kind][0]} {_adjective(colour, _gender(kind), True)} है।"


def ask_exists(kind: str, colour: str | None) -> tuple[str, ...]:
    one, visible = _phrase(kind, colour), "रही" if _gender(kind) == "f" else "रहा"
    return (
        f"क्या तस्वीर में {one} है?",
        f"क्या यहाँ कोई {one} है?",
        f"क्या आपको कोई {one} दिख {visible} है?",
    )


def exists(n: int, kind: str, colour: str | None) -> str:
    if n == 0:
        return f"नहीं, तस्वीर में कोई {_phrase(kind, colour)} नहीं है।"
    return f"हाँ, तस्वीर में {_some(n, kind, colour)} {_are(n)}।"


def ask_neighbour(side: str, kind: str) -> tuple[str, ...]:
    where = f"{_NOUNS[kind][2]} {_SIDES[side]}"
    return (f"{where} क्या है?", f"{where} क्या दिख रहा है?", f"बताइए, {where} क्या है?")


def neighbour(side: str, kind: str, found: tuple[str, str] | None) -> str:
    where = f"{_NOUNS[kind][2]} {_SIDES[side]}"
    return f"{where} कुछ नहीं है।" if found is None else f"{where} {_some(1, *found)} है।"


def ask_largest() -> tuple[str, ...]:
    return ("सबसे बड़ी चीज़ क्या है?", "कौन सी चीज़ सबसे बड़ी है?", "यहाँ सबसे बड़ा क्या है?")


def largest(kind: str, colour: str) -> str:
    return f"सबसे बड़ी चीज़ {_phrase(kind, colour)} है।"
