"""Which script a character belongs to."""

import unicodedata

import numpy as np
import pytest

from palo_cpp.languages.scripts import ACCENT, COMMON, N_CODE_POINTS, NEVER, OTHER, SCRIPTS, script_of, scripts_of_all


@pytest.mark.parametrize(
    ("characters", "script"),
    [
        ("aZéßœÿŒşªºµﬁＡ", "Latn"),
        ("яЁёѣ", "Cyrl"),
        ("اکیےہﷺﻻٹ٠۹؋َّ", "Arab"),
        ("हिन्दी०९क़़ॐ", "Deva"),
        ("বাংলাৎ৫ৰ", "Beng"),
        ("漢々〇㐀豈𠀀⼀㈱", "Hani"),
        ("あアーゞｱﾞㇰ", "Kana"),
        ("\u0301\u0308", ACCENT),
        ("09 .,!?。、，：；（）「」！？।॥،؛؟۔・…—«»“”¿¡€₹$%+=°²½①😀👩🏽🇮\u200d\u200c\u200e\ufe0f\n\t１", COMMON),
        ("ΩλאกꯀㅏጀᚠⅣⒶ⠿ʃ", OTHER),
        ("\x00\x07\x1b\x7f\u202e\u2066\ud800\ue000\ufffd\uffff\U0010ffff\u0378", NEVER),
    ],
)
def test_scripts_of_characters(characters, script):
    assert {character: script_of(character) for character in characters} == dict.fromkeys(characters, script)


def test_every_letter_named_for_a_script_is_of_that_script():
    """Unicode's names begin with the script: an independent witness for the table of blocks."""
    names = {
        "Cyrl": "CYRILLIC ",
        "Deva": "DEVANAGARI ",
        "Beng": "BENGALI ",
        "Arab": "ARABIC ",
        "Kana": ("HIRAGANA ", "KATAKANA "),
        "Hani": ("CJK UNIFIED", "CJK COMPATIBILITY IDEOGRAPH"),
        "Latn": "LATIN ",
    }
    scripts = scripts_of_all()
    for script, beginnings in names.items():
        for point in np.flatnonzero(scripts == SCRIPTS.index(script)).tolist():
            character = chr(point)
            if unicodedata.category(character) in ("Lo", "Lu", "Ll", "Lt") and point not in (0xAA, 0xB5, 0xBA, 0x3006):
                name = unicodedata.name(character).replace("HALFWIDTH ", "").replace("FULLWIDTH ", "")
                assert name.startswith(beginnings), (hex(point), name)


def test_what_no_language_owns_has_no_letters():
    common = np.flatnonzero(scripts_of_all() == SCRIPTS.index(COMMON)).tolist()
    assert not [chr(point) for point in common if unicodedata.category(chr(point))[0] == "L"]
    assert len(scripts_of_all()) == N_CODE_POINTS
