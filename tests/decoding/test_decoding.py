"""An answer, token by token: whole characters, stopping, loops, and the tokens that its text stands on."""

from __future__ import annotations

import numpy as np
import pytest
import regex
from fake_vocabulary import EOS, FakeModel, decode
from hypothesis import given, settings
from hypothesis import strategies as st
from repeating_text import STUCK

from palo_cpp.decoding.decoding import Decoding
from palo_cpp.decoding.options import DecodingOptions
from palo_cpp.errors import ModelFormatError

# ---- whole characters


def test_characters_split_over_tokens_come_whole_in_ten_languages(sentences):
    for text in [*sentences.values(), "🇮🇳👨‍👩‍👧 ok"]:
        decoding, pieces = decode(list(text.encode()))
        assert decoding.text == text
        assert len(pieces) > len(regex.findall(r"\X", text)) / 2  # it streams, and does not wait for the end
        assert decoding.token_ids == list(text.encode())
        assert decoding.finish_reason == "stop"


def test_a_character_cut_off_by_the_end_is_left_out_of_text_and_tokens():
    for text in ("नमस्ते", "日本", "🐕", "é"):
        data = text.encode()
        for n in range(1, len(data)):
            decoding, _ = decode(data, max_tokens=n)
            assert decoding.text == data[:n].decode("utf-8", "ignore")
            assert bytes(decoding.token_ids).decode() == decoding.text
            assert (decoding.finish_reason, decoding.n_generated) == ("length", n)


def test_a_model_that_means_broken_bytes_says_text():
    decoding, _ = decode([ord("A"), 0xC3, 0x42, 0x42])
    assert decoding.token_ids == [0x41, 0xC3, 0x80, 0x42]  # of what may follow C3, the likeliest
    assert decoding.text == "AÀB"
    decoding, _ = decode([0x41, 0xFF, 0x41])
    assert (decoding.text, decoding.finish_reason) == ("A", "stop")  # the second likeliest is the end


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@settings(deadline=None)  # the first answer makes the masks of the vocabulary, too
@given(st.lists(st.integers(0, EOS + 6), max_size=50))
def test_hostile_tokens(temperature, tokens):
    words = (b"\xe0\xa4", b"\xa8 a", "\ufffd".encode(), b"\xed\xa0\x80", "क्ष".encode(), b"\xf0\x9f\x90")
    decoding, pieces = decode(tokens, FakeModel(words), temperature=temperature, seed=1, max_tokens=60)
    assert "\ufffd" not in decoding.text
    ends, at = {match.end() for match in regex.finditer(r"\X", decoding.text)}, 0
    for piece in pieces:
        at += len(piece)
        assert at in ends
    said = b"".join(FakeModel(words).token_table.pieces[token] for token in decoding.token_ids)
    assert decoding.finish_reason == "repetition" or said.decode("utf-8", "ignore").strip() == decoding.text


def test_a_good_answer_is_not_changed(sentences):
    """The likeliest token is taken wherever it can be: the masks cost nothing but what would be broken."""
    for text in sentences.values():
        data = text.encode()
        model = FakeModel()
        decoding = Decoding(model, DecodingOptions())
        for byte in data:
            assert model.logits(byte).argmax() == byte
            decoding.take(model.logits(byte, 0x41))
        assert decoding.token_ids == list(data)


# ---- step by step


def test_steps_and_the_plain_loop_agree(sentences):
    text = sentences["bn"]
    model, data = FakeModel(), [*text.encode(), EOS]
    decoding = Decoding(model, DecodingOptions())
    shown = ""
    for token in data:
        assert not decoding.is_finished
        shown += decoding.take(model.logits(token))
    assert decoding.is_finished and decoding.finish_reason == "stop"
    assert shown + decoding.finish() == text == decoding.text
    assert decoding.first_token_at is not None


def test_an_answer_ended_from_outside_keeps_the_first_reason():
    decoding = Decoding(FakeModel(), DecodingOptions(max_tokens=1))
    decoding.take(FakeModel().logits(0x41))
    decoding.end("context")
    assert decoding.finish_reason == "length"
    other = Decoding(FakeModel(), DecodingOptions())
    other.end("context")
    assert (other.finish_reason, other.finish(), other.is_finished) == ("context", "", True)


def test_damaged_weights_are_said():
    with pytest.raises(ModelFormatError, match="weights are damaged"):
        Decoding(FakeModel(), DecodingOptions()).take(np.full(EOS + 1, np.nan, np.float32))


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


# ---- loops


@pytest.mark.parametrize("code", STUCK)
def test_a_loop_is_cut_from_text_and_tokens(code):
    before, sentence = STUCK[code]
    text = f" {before}{sentence}"
    decoding, _ = decode((text + sentence * 40).encode(), max_tokens=5000)
    assert (decoding.text, decoding.finish_reason) == (text.strip(), "repetition")
    assert bytes(decoding.token_ids).decode() == text.rstrip()
    assert len(decoding.token_ids) < decoding.n_generated < len((text + sentence * 12).encode())


def test_a_token_that_spans_the_cut_stays():
    words = tuple(part.encode() for part in ("It is", " red. I", "t is"))
    decoding, _ = decode([EOS + 1, *([EOS + 2, EOS + 3] * 60)], FakeModel(words))
    assert (decoding.text, decoding.finish_reason) == ("It is red.", "repetition")
    assert decoding.token_ids == [EOS + 1, EOS + 2]


def test_a_loop_found_at_the_end_of_the_answer_is_cut_too():
    text = "It is so: " + "no " * 17
    reasons = {decode(text[:n].encode())[0].finish_reason for n in range(50, len(text))}
    assert reasons == {"stop", "repetition"}


def test_space_without_end_ends():
    decoding, _ = decode(b"A dog." + b"\n" * 1000)
    assert (decoding.text, decoding.finish_reason) == ("A dog.", "repetition")
    assert decoding.token_ids == list(b"A dog.")


def test_an_abandoned_answer_is_what_was_given_out():
    for n in range(1, 40):
        decoding, model = Decoding(FakeModel(), DecodingOptions()), FakeModel()
        shown = "".join(decoding.take(model.logits(byte)) for byte in " यह एक कुत्ता है".encode()[:n])
        decoding.abandon()
        assert decoding.text == shown == bytes(decoding.token_ids).decode().lstrip()
        assert (decoding.finish_reason, decoding.n_generated) == ("cancelled", n)
