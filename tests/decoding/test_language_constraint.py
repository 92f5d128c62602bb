"""What may be spelled under `lang_mode`: everything in the language, and nothing else."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from conftest import SENTENCES
from hypothesis import given
from hypothesis import strategies as st
from llama_vocabulary import VECTORS, load_vocabulary
from multilingual_text import ANSWERS, UDHR
from numpy.typing import NDArray
from spelled_bytes import spelled

from palo_cpp.decoding.language_constraint import LanguageConstraints, _automaton
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.languages.scripts import COMMON, N_CODE_POINTS, SCRIPTS, script_of, scripts_of_all
from palo_cpp.llm.token_table import HasTokenTable, TokenTable

CODES = list(LANGUAGES)
EOS = 2
# "क्‍या photo 3" and the like are for `prefer`.
TEXTS = {code: [UDHR[code], *ANSWERS[code], SENTENCES[code], LANGUAGES[code].insistence] for code in CODES}


class ByteTokens:
    """A vocabulary as LLaMA's begins, and the pieces that a test wants behind the bytes."""

    def __init__(self, *pieces: str, without: bytes = b"") -> None:
        bytes_of = [b"" if byte in without else bytes([byte]) for byte in range(256)]
        self.pieces = [b"", b"", b"", *bytes_of, *(piece.encode() for piece in pieces)]

    @property
    def token_table(self) -> TokenTable:
        return TokenTable(tuple(self.pieces), np.arange(len(self.pieces)) == EOS)


class SentencePieceTokens(ByteTokens):
    """The tests' own tokenizer of 960 pieces."""

    def __init__(self) -> None:
        path = Path(__file__).parents[1] / "data" / "tokenizer.model"
        self.model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        super().__init__()
        names = map(self.model.id_to_piece, range(259, self.model.get_piece_size()))
        self.pieces += [name.replace("▁", " ").encode() for name in names]

    def tokenize(self, text: str) -> list[int]:
        return self.model.encode(text)  # type: ignore[no-any-return]


@cache
def small() -> SentencePieceTokens:
    return SentencePieceTokens()


@pytest.fixture(scope="module", params=["ours", *(path.name for path in VECTORS)])
def vocabulary(request: pytest.FixtureRequest) -> Iterator[HasTokenTable]:
    """Ours, and LLaMA's own where it lies beside the checkout."""
    if request.param == "ours":
        yield small()
        return
    (path,) = [path for path in VECTORS if path.name == request.param]
    vocabulary, free = load_vocabulary(path.with_name(path.name.replace(".inp.txt", ".gguf")))
    yield vocabulary
    free()


@pytest.fixture(scope="module")
def constraints(vocabulary: HasTokenTable) -> LanguageConstraints:
    return LanguageConstraints(vocabulary)


def refused(constraints: LanguageConstraints, code: str, mode: str, tokens: list[int]) -> int | None:
    """The index of the first token that may not come; the end of the answer counts as one more."""
    (constraint,) = constraints.of(code, mode)
    for i, token in enumerate([*tokens, EOS]):
        if not constraint.allowed()[token]:
            return i
        constraint.accept(token)
    return None


def any_of(allowed: NDArray[np.bool_], lots: random.Random) -> int:
    """One of the tokens that may come."""
    tokens = np.flatnonzero(allowed)
    return int(tokens[lots.randrange(len(tokens))])


def as_bytes(text: str) -> list[int]:
    return [3 + byte for byte in text.encode()]


# --- Everything in the language ---


@pytest.mark.parametrize("mode", ["strict", "prefer"])
@pytest.mark.parametrize("code", CODES)
def test_every_word_of_a_language_can_be_spelled(code, mode, vocabulary, constraints):
    """By its own tokens, by bytes alone, and by any mixture of both."""
    lots = random.Random(code)
    for text in TEXTS[code]:
        for word in [text, *text.split()]:
            assert refused(constraints, code, mode, vocabulary.tokenize(word)) is None, word
            assert refused(constraints, code, mode, as_bytes(word)) is None, word
            parts = re.findall("|".join((".", r"\w+")), word, re.DOTALL)
            mixed = [t for part in parts for t in lots.choice((vocabulary.tokenize, as_bytes))(part)]
            assert refused(constraints, code, mode, mixed) is None, word


@pytest.mark.parametrize("code", CODES)
def test_digits_marks_and_emoji_belong_to_every_language(code, vocabulary, constraints):
    for text in ("3", "12.5 %", "(1–2)!", "👩‍👩‍👧 👍🏽 🇮🇳 ❤️", "5 × 3 = 15 €", "…\n- 1\n- 2", "”“«»„。、"):
        for tokens in (vocabulary.tokenize(text), as_bytes(text)):
            assert refused(constraints, code, "strict", tokens) is None, text


# --- And nothing else ---


@pytest.mark.parametrize("code", CODES)
def test_strict_bytes_spell_exactly_the_language(code):
    """The automaton walked to every end: what can be spelled is what the table of scripts allows."""
    letters = LANGUAGES[code].letters
    automaton = _automaton(letters)
    found = {ord(data.decode()) for data, after in spelled(automaton, 1) if after == 1}
    scripts = scripts_of_all()
    own = {SCRIPTS.index(script) for script in (COMMON, *letters)}
    assert found == {point for point in range(N_CODE_POINTS) if int(scripts[point]) in own}


@pytest.mark.parametrize("code", CODES)
def test_no_walk_under_strict_leaves_the_script(code, vocabulary, constraints):
    """Random answers, each token any that is allowed; they end only at the end of a character."""
    lots = random.Random(code)
    own = {COMMON, *LANGUAGES[code].letters}
    pieces = vocabulary.token_table.pieces
    for _ in range(20):
        (constraint,) = constraints.of(code, "strict")
        data = b""
        while True:
            token = any_of(constraint.allowed(), lots)
            if token == EOS or len(data) > 200:
                break
            constraint.accept(token)
            data += pieces[token]
        text = data.decode("utf-8", errors="strict" if token == EOS else "ignore")
        assert {script_of(character) for character in text} <= own, text


@given(st.sampled_from(CODES), st.text(min_size=1, max_size=8), st.booleans())
def test_strict_refuses_any_text_with_one_foreign_character(code, text, by_bytes):
    own = {COMMON, *LANGUAGES[code].letters}
    tokens = as_bytes(text) if by_bytes else small().tokenize(text)
    is_own = all(script_of(character) in own for character in text.replace("▁", " "))
    assert (refused(LanguageConstraints(small()), code, "strict", tokens) is None) == is_own


@pytest.mark.parametrize("code", CODES)
def test_another_scripts_words_are_refused_under_strict(code, vocabulary, constraints):
    for other in CODES:
        if not set(LANGUAGES[code].letters) & set(LANGUAGES[other].letters):
            assert refused(constraints, code, "strict", vocabulary.tokenize(UDHR[other])) is not None
            assert refused(constraints, code, "strict", as_bytes(UDHR[other])) is not None


def test_an_answer_ends_between_characters_only(constraints):
    for mode in ("strict", "prefer"):
        (constraint,) = constraints.of("hi", mode)
        for byte, may_end in zip("क".encode(), (True, False, False), strict=True):
            assert constraint.allowed()[EOS] == may_end
            constraint.accept(3 + byte)
        assert constraint.allowed()[EOS]


def test_a_character_that_the_vocabulary_cannot_complete_is_never_begun():
    """क is E0 A4 95, ख is E0 A4 96: without the last byte of one and both of ত, only the other can come."""
    constraints = LanguageConstraints(ByteTokens(without=bytes(set(range(0x80, 0xC0)) - {0xA4, 0x96})))
    (constraint,) = constraints.of("hi", "strict")
    assert constraint.allowed()[3 + 0xE0]
    constraint.accept(3 + 0xE0)
    assert constraint.allowed().nonzero()[0].tolist() == [3 + 0xA4]
    (constraint,) = LanguageConstraints(ByteTokens(without=b"\xa4")).of("hi", "strict")
    assert constraint.allowed()[3 + 0xE0]  # \xe0\xa5\xb0
    (constraint,) = LanguageConstraints(ByteTokens(without=bytes(range(0xA0, 0xC0)))).of("hi", "strict")
    assert not constraint.allowed()[3 + 0xE0]


def test_tokens_without_bytes_never_come(constraints):
    for mode in ("strict", "prefer"):
        (constraint,) = constraints.of("en", mode)
        assert not constraint.allowed()[[0, 1]].any()


def test_a_token_that_was_not_allowed_is_survived(constraints):
    for mode in ("strict", "prefer"):
        (constraint,) = constraints.of("ru", mode)
        constraint.accept(3 + 0x95)
        assert constraint.allowed().any()


def test_off_and_no_language_keep_nothing(constraints):
    assert constraints.of("hi", "off") == constraints.of(None, "strict") == ()


# --- Names and quoted words ---


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("hi", "यह Taj Mahal है।"),
        ("hi", "मेज़ पर iPhone 15 Pro और MacBook रखे हैं।"),
        ("hi", "तख़्ती पर “No entry beyond this point” लिखा है।"),
        ("hi", "“STOP” लिखा है।"),
        ("ur", "یہ PALO ماڈل ہے۔"),
        ("ar", 'هذه سيارة BMW، وعلى اللوحة "STOP".'),
        ("ja", "赤いTシャツを着た人がiPhoneを持っています。"),
        ("zh", "他穿着T恤，拿着一瓶Coca-Cola。"),
        ("ru", "Это Эйфелева башня (La tour Eiffel)."),
        ("en", "The sign says «Не курить» and 出口."),
        ("bn", "এটি একটি Toyota গাড়ি।"),
        ("es", "El cartel dice 「出口」 en japonés."),
    ],
)
def test_prefer_lets_names_and_quoted_words_pass(code, text, vocabulary, constraints):
    for tokens in (vocabulary.tokenize(text), as_bytes(text)):
        assert refused(constraints, code, "prefer", tokens) is None
        assert refused(constraints, code, "strict", tokens) is not None


@pytest.mark.parametrize(
    ("code", "passes", "refuses"),
    [
        ("hi", "", "The image shows a dog."),
        ("hi", "यह एक कुत्ता है। The image shows", " a dog."),
        ("hi", "यह enormous blackish dog", " है। dog"),  # what is foreign may not outnumber what is not
        ("ru", "На фото ", "一只黑色的大狗坐在草地上看着远处的山和河流还有树。"),
        ("hi", "“one two three four five six seven eight", " nine”"),
        ("en", "The ", "изображение показывает большую собаку"),
        ("ja", "写真に", "изображение показывает большую собаку"),
    ],
)
def test_prefer_stops_sentences(code, passes, refuses, constraints):
    at = refused(constraints, code, "prefer", as_bytes(passes + refuses))
    assert at is not None and at >= len(passes.encode())
    assert refused(constraints, code, "prefer", as_bytes(passes)) is None


@pytest.mark.parametrize("code", CODES)
def test_no_walk_under_prefer_is_mostly_foreign(code, constraints, vocabulary):
    """Random answers: what is foreign outnumbers the rest by no more than the longest quotation or two."""
    lots = random.Random(code)
    own = set(LANGUAGES[code].letters)
    pieces = vocabulary.token_table.pieces
    for _ in range(8):
        (constraint,) = constraints.of(code, "prefer")
        data, token = b"", 0
        while len(data) < 1500 and token != EOS:
            constraint.accept(token)
            token = any_of(constraint.allowed(), lots)
            data += pieces[token]
        scripts = [script_of(character) for character in data.decode(errors="ignore")]
        n_own = sum(3 if script in ("Hani", "Kana") else 1 for script in scripts if script in own)
        n_foreign = sum(script not in {COMMON, *own} for script in scripts)
        assert n_foreign <= n_own + 2 * 8 * 12
