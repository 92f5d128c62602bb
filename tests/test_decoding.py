"""Choosing tokens, whole characters, stopping: with a fake language model that says what a test wants."""

from __future__ import annotations

import itertools
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palo_cpp.decoding import Decoding
from palo_cpp.decoding_options import DecodingOptions
from palo_cpp.errors import ArgumentError, ModelFormatError
from palo_cpp.sampler import Sampler
from palo_cpp.text_stream import TextStream

EOS = 256


class FakeModel:
    """A vocabulary of the 256 bytes, `</s>` and words."""

    def __init__(self, words: tuple[bytes, ...] = ()) -> None:
        self.words = words

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if token < EOS else b"" if token == EOS else self.words[token - EOS - 1]

    def ends_generation(self, token: int) -> bool:
        return token == EOS

    def logits(self, token: int) -> np.ndarray:
        logits = np.zeros(EOS + 1 + len(self.words), np.float32)
        logits[token] = 10
        return logits


def decode(tokens: list[int], model: FakeModel | None = None, n_room: int = 10_000, **options):
    """Let a model say `tokens`, then `</s>` for ever."""
    model = model or FakeModel()
    script = itertools.chain(tokens, itertools.repeat(EOS))
    decoding = Decoding(model, DecodingOptions(**options))
    pieces = list(decoding.pieces(model.logits(next(script)), lambda _: model.logits(next(script)), n_room))
    assert decoding.text == "".join(pieces)
    assert "" not in pieces
    return decoding, pieces


# ---- whole characters


def test_characters_split_over_tokens_come_whole_in_ten_languages(sentences):
    for text in [*sentences.values(), "🇮🇳👨‍👩‍👧 ok"]:
        decoding, pieces = decode(list(text.encode()))
        assert decoding.text == text
        assert all("\ufffd" not in piece for piece in pieces)
        assert len(pieces) > len(text) / 2  # it streams, and does not wait for the end
        assert decoding.token_ids == list(text.encode())
        assert decoding.finish_reason == "stop"


def test_a_character_cut_off_by_the_end_is_left_out():
    for text in ("नमस्ते", "日本", "🐕"):
        data = text.encode()
        for n in range(1, len(data)):
            decoding, _ = decode(list(data[:n]))
            assert decoding.text == data[:n].decode("utf-8", "ignore")


def test_bytes_that_are_no_text_are_replaced_and_go_on():
    decoding, _ = decode([0xFF, 0x41, 0xE0, 0x42, 0xC3, 0xA9])
    assert decoding.text == "\ufffdA\ufffdBé"


@given(st.binary(max_size=60), st.lists(st.integers(1, 7), max_size=60))
def test_any_bytes_in_any_pieces(data, sizes):
    """Hostile streams: never an error, and the pieces joined do not depend on how the bytes were cut."""
    stream, pieces, rest = TextStream(), [], data
    for size in sizes:
        pieces.append(stream.push(rest[:size]))
        rest = rest[size:]
    pieces += [stream.push(rest), stream.finish()]
    whole = TextStream()
    expected = whole.push(data) + whole.finish()
    assert "".join(pieces) == expected
    assert expected == expected.strip()


@given(st.text(max_size=40))
def test_text_in_single_bytes_comes_back_stripped(text):
    data = text.encode("utf-8", "ignore")
    stream = TextStream()
    pieces = [stream.push(bytes([byte])) for byte in data] + [stream.finish()]
    assert "".join(pieces) == data.decode().strip()
    for piece in pieces:
        assert all(unicodedata.category(character) != "Cs" for character in piece)


def test_space_around_the_answer_is_stripped_as_it_streams():
    model = FakeModel((b" The", b" dog", b" \n", b"  "))
    words = [EOS + 1, EOS + 2, EOS + 3, EOS + 2, EOS + 4, EOS + 3]
    decoding, pieces = decode(words, model)
    assert pieces == ["The", " dog", " \n dog"]
    assert decoding.text == " The dog \n dog   \n".strip()


# ---- stopping


def test_stop_string_split_over_tokens_is_withheld_and_not_given_out():
    decoding, pieces = decode(list(b"one###two"), stop=("###",))
    assert pieces == ["o", "n", "e"]
    assert decoding.finish_reason == "stop_string"
    assert decoding.token_ids == list(b"one###")


def test_text_that_only_began_like_a_stop_string_comes_out():
    decoding, _ = decode(list(b"a##b####"), stop=["###"])
    assert decoding.text == "a##b"
    decoding, _ = decode(list(b"a##"), stop=["###"])
    assert (decoding.text, decoding.finish_reason) == ("a##", "stop")


def test_first_stop_string_to_be_complete_wins_however_the_text_is_cut():
    for sizes in ([1] * 6, [6], [2, 4], [3, 3]):
        data, stream, text = b"xabcde", TextStream(("abcd", "bc")), ""
        for size in sizes:
            text, data = text + stream.push(data[:size]), data[size:]
        assert stream.stopped
        assert text + stream.finish() == "xa"


@given(st.text("ab#", max_size=30), st.lists(st.text("ab#", min_size=1, max_size=4), min_size=1, max_size=3))
def test_stop_strings_against_a_plain_search(text, stops):
    stream = TextStream(tuple(stops))
    shown = "".join(stream.push(character.encode()) for character in text) + stream.finish()
    ends = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    assert stream.stopped == bool(ends)
    assert shown == (text[: min(ends)[1]] if ends else text)


def test_stop_string_in_a_language_of_split_characters():
    decoding, _ = decode(list("यह एक कुत्ता है। और".encode()), stop=("।",))
    assert decoding.text == "यह एक कुत्ता है"


def test_length_and_context():
    decoding, _ = decode(list(b"abcdef"), max_tokens=3)
    assert (decoding.text, decoding.finish_reason) == ("abc", "length")
    decoding, _ = decode(list(b"abcdef"), n_room=3)
    assert (decoding.text, decoding.finish_reason) == ("abcd", "context")  # the last one needs no room
    decoding, _ = decode([])
    assert (decoding.text, decoding.token_ids, decoding.finish_reason) == ("", [], "stop")


def test_text_held_back_comes_out_where_max_tokens_ends_the_answer():
    decoding, _ = decode(list(b"ab##c"), max_tokens=4, stop=("###",))
    assert (decoding.text, decoding.finish_reason) == ("ab##", "length")


# ---- choosing


def test_greedy_takes_the_likeliest_and_the_first_of_equals():
    sampler = Sampler(DecodingOptions())
    assert sampler.seed is None
    assert sampler.pick(np.array([0.0, 3.0, 3.0, -1.0], np.float32)) == 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_numbers_mean_damaged_weights(temperature, bad):
    with pytest.raises(ModelFormatError, match="weights are damaged"):
        Sampler(DecodingOptions(temperature=temperature)).pick(np.array([0.0, bad, 1.0], np.float32))


def draws(n: int, logits: list[float], **options) -> list[int]:
    sampler = Sampler(DecodingOptions(**options))
    return [sampler.pick(np.array(logits, np.float32)) for _ in range(n)]


def test_seed_decides_and_none_differs():
    logits = list(np.linspace(0, 1, 50))
    assert draws(20, logits, temperature=1.0, seed=7) == draws(20, logits, temperature=1.0, seed=7)
    assert draws(20, logits, temperature=1.0, seed=7) != draws(20, logits, temperature=1.0, seed=8)
    assert draws(20, logits, temperature=1.0) != draws(20, logits, temperature=1.0)


def test_frequencies_follow_the_softmax():
    logits = np.log([0.6, 0.3, 0.1])
    counts = np.bincount(draws(3000, list(logits), temperature=1.0, seed=1), minlength=3) / 3000
    np.testing.assert_allclose(counts, [0.6, 0.3, 0.1], atol=0.03)
    hot = np.bincount(draws(3000, list(logits), temperature=2.0, seed=1), minlength=3) / 3000
    expected = np.sqrt([0.6, 0.3, 0.1]) / np.sqrt([0.6, 0.3, 0.1]).sum()
    np.testing.assert_allclose(hot, expected, atol=0.03)


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({"top_k": 1}, {3}),
        ({"top_k": 2}, {3, 1}),
        ({"top_k": 0}, {0, 1, 2, 3}),
        ({"top_p": 0.5}, {3}),  # probabilities 0.1, 0.25, 0.05, 0.6
        ({"top_p": 0.8}, {3, 1}),
        ({"min_p": 0.4}, {3, 1}),
        ({"min_p": 1.0}, {3}),
    ],
)
def test_filters_keep_what_they_should(options, allowed):
    logits = list(np.log([0.1, 0.25, 0.05, 0.6]))
    assert set(draws(400, logits, temperature=1.0, seed=3, **options)) == allowed


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 0},
        {"max_tokens": 1.5},
        {"max_tokens": True},
        {"temperature": -1},
        {"temperature": float("nan")},
        {"temperature": "hot"},
        {"top_k": -1},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"seed": -1},
        {"seed": 2**32 - 1},
        {"stop": ("",)},
        {"stop": (3,)},
    ],
)
def test_options_out_of_range(options):
    (name,) = options
    with pytest.raises(ArgumentError, match=f"^{name}: expected"):
        DecodingOptions(**options)


def test_one_stop_string_may_be_given_as_text():
    assert DecodingOptions(stop="END").stop == ("END",)
    assert DecodingOptions(stop=None).stop == ()
