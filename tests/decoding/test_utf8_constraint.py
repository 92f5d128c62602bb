"""No token leads into bytes that cannot become UTF-8: against Python's strict decoder, byte by byte and with pieces."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from fake_vocabulary import EOS, FakeModel
from hypothesis import given
from hypothesis import strategies as st
from llama_vocabulary import VECTORS, load_vocabulary
from reference.text import can_become_text, is_text

from palo_cpp.decoding.decoding import Decoding
from palo_cpp.decoding.options import DecodingOptions
from palo_cpp.decoding.token_constraint import TokenConstraint
from palo_cpp.decoding.utf8_constraint import Utf8Constraint, utf8_masks
from palo_cpp.llm.token_table import TokenTable

# Pieces that begin and end in the middle of characters, and what can never be: overlong, a surrogate, U+110000, U+FFFD.
WORDS = (
    *("न".encode()[1:], b" a" + "न".encode()[:2], "🐕".encode()[2:] + "🐕".encode()[:1], b"", b"\xed\xa0"),
    *(b"\xc0\x80", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf5", "\ufffd".encode()),
    *(b"ok\xef\xbf\xbd", "\ufffe".encode(), "\ufffc".encode(), "نم".encode()),
)


@pytest.fixture(scope="module")
def model() -> FakeModel:
    return FakeModel(WORDS)


def allowed_after(model: FakeModel, tokens: list[int]) -> np.ndarray:
    constraint = Utf8Constraint(utf8_masks(model.token_table))
    for token in tokens:
        constraint.accept(token)
    return constraint.allowed()


def test_every_prefix_of_every_kind_of_character(model):
    """All tokens after all bytes of characters at the borders of RFC 3629's table."""
    borders = [0x7F, 0x80, 0x7FF, 0x800, 0xFFF, 0x1000, 0xD7FF, 0xE000, 0xFFFC, 0xFFFE, 0x10000, 0xFFFFF, 0x10FFFF]
    prefixes = {chr(code).encode()[:n] for code in borders for n in range(4)}
    for prefix in prefixes:
        mask = allowed_after(model, list(prefix))
        for token, piece in enumerate(model.token_table.pieces):
            # Control tokens have no bytes and no place in an answer.
            expected = is_text(prefix) if token == EOS else bool(piece) and can_become_text(prefix + piece)
            assert mask[token] == expected, (prefix, piece)


@given(st.lists(st.integers(0, 10**6), max_size=40))
def test_walks_through_allowed_tokens_stay_text(choices):
    model = FakeModel(WORDS)
    constraint, data = Utf8Constraint(utf8_masks(model.token_table)), b""
    for choice in choices:
        tokens = np.flatnonzero(constraint.allowed())
        token = int(tokens[choice % len(tokens)])
        constraint.accept(token)
        data += model.token_table.pieces[token]
    assert can_become_text(data)
    assert constraint.allowed()[EOS] == is_text(data)


def test_a_vocabulary_that_cannot_finish_a_character_never_begins_one():
    pieces = (b"", b"a", b"\xe0", b"\xc3", b"\x85", b"\xf0")  # E0 would need A0 to BF, F0 90 to BF
    constraint = Utf8Constraint(utf8_masks(TokenTable(pieces, np.arange(len(pieces)) == 0)))
    assert constraint.allowed().tolist() == [True, True, False, True, False, False]
    constraint.accept(3)
    assert constraint.allowed().tolist() == [False, False, False, False, True, False]


def test_masks_are_shared_and_cannot_be_written(model):
    constraint: TokenConstraint = Utf8Constraint(utf8_masks(model.token_table))
    assert constraint.allowed() is Utf8Constraint(utf8_masks(model.token_table)).allowed()
    with pytest.raises(ValueError, match="read-only"):
        constraint.allowed()[0] = False


def test_a_token_that_was_refused_and_came_nevertheless_begins_anew(model):
    constraint = Utf8Constraint(utf8_masks(model.token_table))
    constraint.accept(0xE0)
    constraint.accept(ord("A"))
    assert constraint.allowed()[EOS]


# ---- with real vocabularies


@pytest.fixture(scope="module")
def real_table() -> Iterator[TokenTable]:
    """The LLaMA vocabulary of 32,000 pieces, where the machine has it."""
    if not VECTORS:  # not ours to ship; vocabularies made here are tested above in any case
        pytest.skip("the real LLaMA vocabulary is not here (../shared/data/llama-spm-vocab.gguf)")
    vocabulary, free = load_vocabulary(VECTORS[0].with_name(VECTORS[0].name.replace(".inp.txt", ".gguf")))
    yield vocabulary.token_table
    free()


def random_answer(table: TokenTable, seed: int, n: int, temperature: float) -> Decoding:
    """An answer to logits that are noise: the most hostile model there is."""

    class Model:
        token_table = table

    random = np.random.default_rng(seed)
    decoding = Decoding(Model(), DecodingOptions(max_tokens=n, temperature=temperature, seed=seed))

    def logits(_: int = 0) -> np.ndarray:
        noise = random.standard_normal(len(table.pieces)).astype(np.float32)
        noise[3:259] += 4 * random.random()  # raw bytes, in LLaMA's order and in that of tests/data/tokenizer.model
        return noise

    pieces = list(decoding.pieces(logits(), logits, 10**6))
    assert "".join(pieces) == decoding.text
    return decoding


def check_is_text(table: TokenTable, decoding: Decoding) -> None:
    data = b"".join(table.pieces[token] for token in decoding.token_ids)
    assert data.decode("utf-8", "strict").strip() == decoding.text
    assert "\ufffd" not in decoding.text
    assert decoding.text or decoding.n_generated < 10


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_noise_is_text_with_the_small_vocabulary(language_model, temperature):
    for seed in range(6):
        check_is_text(language_model.token_table, random_answer(language_model.token_table, seed, 120, temperature))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_noise_is_text_with_the_real_vocabulary(real_table, temperature):
    for seed in range(3):
        check_is_text(real_table, random_answer(real_table, seed, 120, temperature))


def test_all_that_text_needs_is_allowed(language_model, sentences):
    """A model that is right is never overruled: every token of ten languages, bytes among them, may come."""
    table = language_model.token_table
    for text in [*sentences.values(), "क्षत्रिय ক্ষুদ্র مُحَمَّد 👩‍🚀 🇮🇳 각 \U0010ffff\ufffe"]:
        constraint = Utf8Constraint(utf8_masks(table))
        tokens = [*language_model.tokenize(text), language_model.eos_id]
        for token in tokens:
            assert constraint.allowed()[token]
            constraint.accept(token)
