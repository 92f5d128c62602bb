"""From bytes to whole grapheme clusters, without space around the answer, up to a stop string."""

from __future__ import annotations

import time

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from palo_cpp.decoding.text_stream import TextStream

# What a reader takes for one character: (text, clusters).
CLUSTERS = {
    "conjuncts of Devanagari": ("क्षत्रिय स्त्री", ["क्ष", "त्रि", "य", " ", "स्त्री"]),
    "with joiner and non-joiner": ("क्‍ष क्‌ष", ["क्‍ष", " ", "क्‌", "ष"]),
    "conjuncts of Bengali": ("ক্ষুদ্র স্ত্রী", ["ক্ষু", "দ্র", " ", "স্ত্রী"]),
    "marks of Arabic": ("مُحَمَّدٌ", ["مُ", "حَ", "مَّ", "دٌ"]),
    "Urdu": ("اُردُو", ["ا\u064f", "ر", "د\u064f", "و"]),
    "emoji of several": ("👩‍🚀👨‍👩‍👧👍🏽", ["👩‍🚀", "👨‍👩‍👧", "👍🏽"]),
    "flags": ("🇮🇳🇫🇷🇯🇵", ["🇮🇳", "🇫🇷", "🇯🇵"]),
    "Hangul in parts": ("각한", ["각", "한"]),
    "accents apart": ("e\u0301te\u0301", ["e\u0301", "t", "e\u0301"]),
    "kana with marks": ("か\u3099き", ["か\u3099", "き"]),
    "Russian": ("й\u0301ё", ["й\u0301", "ё"]),
    "plain": ("dog 狗", ["d", "o", "g", " ", "狗"]),
}


def in_single_bytes(data: bytes, stop: tuple[str, ...] = ()) -> list[str]:
    stream = TextStream(stop)
    return [stream.push(bytes([byte])) for byte in data] + [stream.finish()]


def ends_of_clusters(text: str) -> set[int]:
    return {0, *(match.end() for match in regex.finditer(r"\X", text))}


@pytest.mark.parametrize("name", CLUSTERS)
def test_clusters_come_whole(name):
    text, clusters = CLUSTERS[name]
    pieces = [piece for piece in in_single_bytes(text.encode()) if piece]
    spaced = (
        "".join(f"|{cluster}" for cluster in clusters).replace("| |", "| ").split("|")[1:]
    )  # space comes with a word
    assert pieces == spaced


def test_a_cluster_comes_out_as_soon_as_the_next_begins():
    stream = TextStream()
    assert [stream.push(part.encode()) for part in ("क", "्", "ष", "त")] == ["", "", "", "क्ष"]
    assert stream.finish() == "त"


def test_languages_stream_in_single_bytes(sentences):
    for text in sentences.values():
        pieces = [piece for piece in in_single_bytes(text.encode()) if piece]
        assert "".join(pieces) == text
        assert len(pieces) > len(regex.findall(r"\X", text)) / 2  # it does not wait for the end


@given(st.binary(max_size=60), st.lists(st.integers(1, 7), max_size=60))
def test_any_bytes_in_any_pieces(data, sizes):
    """Hostile streams: never an error or U+FFFD, and the text does not depend on how the bytes were cut."""
    stream, pieces, rest = TextStream(), [], data
    for size in sizes:
        pieces.append(stream.push(rest[:size]))
        rest = rest[size:]
    pieces += [stream.push(rest), stream.finish()]
    assert "".join(pieces) == data.decode("utf-8", "ignore").strip()


clustered = st.text(st.sampled_from("a क्षिক \u200c\u200d\u0301\u0903\r\n🇮🇳👩🚀🏽각\u1161\u0600مَ。"), max_size=40)


@given(clustered | st.text(max_size=40))
def test_every_piece_is_made_of_whole_clusters_of_the_final_text(text):
    pieces = in_single_bytes(text.encode("utf-8", "ignore"))
    whole, at = "".join(pieces), 0
    assert whole == text.strip()
    for piece in pieces:
        at += len(piece)
        assert at in ends_of_clusters(whole)


def test_space_around_the_answer_is_stripped_as_it_streams():
    stream = TextStream()
    parts = [b" ", b" The", b" dog", b" \n", b" cat", b"  ", b"\n"]
    assert [stream.push(part) for part in parts] == ["", "Th", "e do", "g", " \n ca", "t", ""]
    assert stream.finish() == ""


def test_an_endless_cluster_and_endless_space_are_a_loop():
    for endless in ("\u0301", " ", "\n", "्क"):
        stream, text = TextStream(), "It is red. Then"
        shown = stream.push(text.encode())
        for _ in range(300):
            shown += stream.push(endless.encode())
        assert stream.repeats
        assert text.startswith((shown + stream.finish()).strip())
    stream = TextStream()
    assert "".join(stream.push(b"\n") for _ in range(300)) == "" and stream.repeats


def test_long_answers_cost_the_same_for_each_token():
    """Eight times the text takes about eight times as long, not 64 times: nothing looks at all that was said."""

    def seconds(n: int) -> float:
        stream, begun_at = TextStream(), time.process_time()
        for i in range(n):
            stream.push(f" नमस्ते {i * 7919 % 10007}".encode())
        return time.process_time() - begun_at

    # Observed: 8; if each token looked at all before it, it would be 64. Other work can come to a factor of 3.
    assert min(seconds(16000) for _ in range(3)) < 24 * min(seconds(2000) for _ in range(3))


# ---- stop strings


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


def test_a_stop_string_may_cut_a_cluster():
    assert "".join(in_single_bytes("cafe\u0301!".encode(), ("\u0301",))) == "cafe"
