"""Loops are cut and texts that only look like loops are not, in ten languages, however the text is cut into pieces."""

from __future__ import annotations

import random

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from repeating_text import STUCK

from palo_cpp.decoding.repetition import MAX_PERIOD, RepetitionGate

# A loop without an end of sentence.
PHRASES = {
    "en": ("There is a red hat", " and a red hat"),
    "zh": ("图中有红色的帽子", "和红色的帽子"),
    "hi": ("वहाँ एक लाल टोपी", " और एक लाल टोपी"),
    "es": ("Hay un sombrero rojo", " y un sombrero rojo"),
    "fr": ("Il y a un chapeau rouge", ", un chapeau rouge"),
    "ar": ("هناك قبعة حمراء", " وقبعة حمراء"),
    "bn": ("সেখানে একটি লাল টুপি", " এবং একটি লাল টুপি"),
    "ru": ("Там красная шляпа", " и красная шляпа"),
    "ur": ("وہاں ایک سرخ ٹوپی", " اور ایک سرخ ٹوپی"),
    "ja": ("赤い帽子がある", "と赤い帽子がある"),
}
# Nothing of this is a loop.
ALIKE = {
    "en": "Ha ha ha ha! It is very, very, very big. No, no, no, no, no!\n"
    "1. A red circle.\n2. A red circle.\n3. A red cube.",
    "zh": "哈哈哈哈哈哈！非常非常非常大。对对对，好好好。\n"
    "1. 红色的圆。\n2. 红色的圆。\n3. 红色的方块。看看，想想，说说，走走。",
    "hi": "हा हा हा हा! यह बहुत बहुत बहुत बड़ा है। धीरे-धीरे, बार-बार।\n1. लाल वृत्त।\n2. लाल वृत्त।\n3. लाल घन।",
    "es": "¡Ja, ja, ja, ja, ja! Es muy, muy, muy grande. No, no, no.\n"
    "- Un círculo rojo.\n- Un círculo azul.\n- Un cubo rojo.",
    "fr": "Ha ha ha ha ! C’est très, très, très grand. Nous nous lavons.\n"
    "| nom | ici |\n|---|---|\n| chat | oui |\n| chien | oui |",
    "ar": "هههههههههههه! كبير جدا جدا جدا. شيئا فشيئا، رويدا رويدا.\n١. دائرة حمراء.\n٢. دائرة حمراء.\n٣. مكعب أحمر.",
    "bn": "হা হা হা হা! এটি খুব খুব খুব বড়। আস্তে আস্তে, ধীরে ধীরে।\n১. লাল বৃত্ত।\n২. লাল বৃত্ত।\n৩. লাল ঘনক।",
    "ru": "Ха-ха-ха-ха-ха! Очень, очень, очень большой. Ау! Ау! Ау!\n"
    "1. Красный круг.\n2. Красный круг.\n3. Красный куб.",
    "ur": "ہاہاہاہاہا! یہ بہت بہت بہت بڑا ہے۔ آہستہ آہستہ، بار بار۔\n۱۔ سرخ دائرہ۔\n۲۔ سرخ دائرہ۔\n۳۔ سرخ مکعب۔",
    "ja": "はははははは！とてもとてもとても大きい。どんどん、ますます、いろいろ。\n"
    "1. 赤い丸。\n2. 赤い丸。\n3. 赤い箱。",
}
LAYOUT = """| a | b | c | d | e | f |
|---|---|---|---|---|---|
| 1 | yes | yes | yes | yes | yes |
| 2 | yes | yes | yes | yes | yes |
| 3 | yes | yes | yes | yes | yes | yes | yes | yes | yes | yes | yes | yes | yes | yes | yes |
Seats that are free:
no
no
no
no
no
no
no
no
no
no
no
no
no
no
no
no
no
no
----------------------------------------
10000000000000000000000 0.3333333333333333333333333333333333
Row, row, row your boat, row, row, row your boat, row, row, row your boat, gently down the stream.
🔴🔴🔴🔴🔴🔴🔴🔴🔴🔴 .................. aaaaaaaaaaargh! hahahahahahahahahaha"""


def run(text: str, size: int = 3) -> tuple[str, bool]:
    """Text through a gate in pieces of `size` code points and more, as `TextStream` cuts them.

    Returns what came out, and whether it was cut. After each piece, what came out begins what went in.
    """
    gate, out, said, piece = RepetitionGate(), "", "", ""
    for cluster in [*regex.findall(r"\X", text), ""]:
        piece += cluster
        if (len(piece) >= size and not piece[-1].isspace()) or not cluster:
            said += piece
            out += gate.push(piece)
            piece = ""
            assert said.startswith(out)
            if gate.repeats:
                break
    out += gate.finish()
    assert gate.push("more") == gate.finish() == "" if gate.repeats else out == text
    return out, gate.repeats


@pytest.mark.parametrize("size", [1, 2, 5, 17])
@pytest.mark.parametrize("code", STUCK)
def test_sentence_loops_end_with_its_first_round(code, size):
    before, sentence = STUCK[code]
    assert run(before + sentence * 40, size) == ((before + sentence).rstrip(), True)
    twice = (before + sentence * 2).rstrip()
    assert run(twice, size) == (twice, False)


@pytest.mark.parametrize("code", STUCK)
def test_a_loop_of_several_sentences(code):
    text = "".join(before + sentence for before, sentence in (STUCK[code], STUCK["en"], STUCK["ja"]))
    assert run(text * 12) == (text.rstrip(), True)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("code", PHRASES)
def test_loops_without_a_sentence_keep_a_round_or_two(code, size):
    before, phrase = PHRASES[code]
    out, repeats = run(before + phrase * 60, size)
    assert repeats
    assert out.startswith(before)
    assert len(out) <= len(before + phrase * 3)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize(
    "unit", ["ا", "क", "的", "a", "ক্ষ", "は ", "no ", "।", "-", "0", "🔴", "\n- a chair", "| yes "]
)
def test_single_characters_and_layout_are_loops_in_the_end(unit, size):
    out, repeats = run("It is so: " + unit * 400, size)
    assert repeats
    assert len(out) < 60


@pytest.mark.parametrize("size", [1, 3, 11])
@pytest.mark.parametrize("code", ALIKE)
def test_texts_that_only_look_like_loops_pass(code, size):
    assert run(ALIKE[code], size) == (ALIKE[code], False)
    assert run(ALIKE[code] + "\n" + LAYOUT, size) == (ALIKE[code] + "\n" + LAYOUT, False)


def test_what_palo_nano_is_taught_to_say_passes():
    """Enumerations in ten languages: "a red circle, a red square, ...", all answers of a conversation in a row."""
    from nano.conversations import CODES, conversation, make_picture

    for code in CODES:
        for seed in range(12):
            picture, lots = make_picture(seed), random.Random(seed)
            answers = [turn.answer for _ in range(6) for turn in conversation(picture, lots, [code])]
            said = "\n".join(dict.fromkeys(answers))
            assert run(said, 4) == (said, False)


def test_text_is_held_back_only_while_it_says_what_was_said():
    gate = RepetitionGate()
    pieces = ["A dog", " runs.", " A", " dog", " sleeps", "."]
    assert [gate.push(piece) for piece in pieces] == ["A dog", " runs.", "", "", " A dog sleeps", "."]


def test_a_loop_that_begins_inside_shown_text_keeps_what_was_shown():
    """The stream is the answer: nothing that was shown is taken back, though a whole sentence would end before."""
    out, repeats = run("A whole sentence. Then there is" + " la" * 60, 1)
    assert repeats
    assert out.startswith("A whole sentence. Then there is la")
    assert len(out) < len("A whole sentence. Then there is" + " la" * 5)


def test_periods_longer_than_the_longest_are_let_through():
    letters = random.Random(0).choices("abcdefgh ", k=MAX_PERIOD + 50)
    text = "".join(letters)
    assert run(text * 5, 4) == (text * 5, False)
    shorter = text[: MAX_PERIOD - 50]
    assert run(shorter * 5, 4)[1]


def test_a_long_text_before_does_not_hide_a_loop():
    text = " ".join(f"Line {i} says {i * i % 97}." for i in range(2000))
    assert run(text, 7) == (text, False)
    assert run(text + " It is red." * 30, 7) == (text + " It is red.", True)


@given(st.text("ab. \nक्ष。,", max_size=120), st.integers(1, 9))
def test_any_text_comes_out_whole_or_as_its_beginning(text, size):
    out, repeats = run(text, size)
    clusters, at = regex.findall(r"\X", text), 0
    ends = {0, *(at := at + len(cluster) for cluster in clusters)} if clusters else {0}
    assert len(out) in ends
    assert repeats or out == text
