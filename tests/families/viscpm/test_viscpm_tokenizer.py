"""CPM-Bee's tokens: the worked examples of the specification, words that the vocabulary lacks, escaping."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from viscpm_checkpoint import CHINESE, ENGLISH, HISTORY, LONGEST, SHORT, SPECIALS, vocabulary
from viscpm_goldens import PROMPTS, read_answers

from palo_cpp import ArgumentError, ModelFormatError
from palo_cpp.families.viscpm.tokenizer import EOS_ID, UNK_ID, BeeTokenizer, WordTable, escape, unescape

LINES = vocabulary()
N = len(LINES)
# Worked out with the published code: text, its ids in the published vocabulary, and here the pieces that they are.
WORKED = [
    ("What is in the picture?", [53161, 68606, 54747, 37619, 81514, 43], ENGLISH),
    ("这幅图像是在哪个节日拍摄的？", [28393, 14095, 1730, 639, 13717, 26320, 18620, 1406, 249], CHINESE),
    (
        "User: 这是什么？\nAI: 一只猫。\n",
        [36986, 38, 5, 28402, 9785, 249, 4, 56389, 38, 5, 7689, 2618, 237, 4],
        HISTORY,
    ),
    ("图中有什么？", [14091, 641, 9785, 249], SHORT),
    ("caption", [83680, 7300], ["capt", "ion"]),
    ("image", [78375], ["image"]),
    ("context", [83032], ["context"]),
    ("question", [56976], ["question"]),
    ("input", [65678], ["input"]),
    ("objects", [83350], ["objects"]),
]


@pytest.fixture(scope="module")
def tokenizer():
    return BeeTokenizer(LINES)


@pytest.mark.parametrize(("text", "ids", "pieces"), WORKED)
def test_the_worked_examples_fall_into_the_same_pieces(tokenizer, text, ids, pieces):
    assert [LINES[token] for token in tokenizer.encode(text)] == pieces
    assert len(ids) == len(pieces)
    assert [token if token < 11 else None for token in ids] == [
        LINES.index(piece) if piece in SPECIALS else None for piece in pieces
    ]
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.skipif("VISCPM_VOCAB" not in os.environ, reason="the published vocabulary is not ours to ship")
def test_the_worked_examples_have_the_published_ids():
    published = BeeTokenizer(Path(os.environ["VISCPM_VOCAB"]).read_text(encoding="utf-8").splitlines())
    assert [published.encode(text) for text, _, _ in WORKED] == [ids for _, ids, _ in WORKED]


def test_the_longest_entry_counts_and_no_longer_one(tokenizer):
    assert [LINES[token] for token in tokenizer.encode(f"{LONGEST}x cat")] == [LONGEST, "x", " cat"]
    assert tokenizer.encode(LONGEST[:20]) == [LINES.index(LONGEST[:20])]
    assert len(tokenizer.encode(LONGEST[:31])) == 12  # its first 20 characters, then one by one
    assert tokenizer.encode("caption ca") == [LINES.index(each) for each in ("capt", "ion", "</_>", "c", "a")]


def test_unknown_characters_are_one_word_as_long_as_they_stand_together(tokenizer):
    words = WordTable()
    tokens = tokenizer.encode("Привет, мир! Привет 🐱🐶 мир", words)
    assert words.words == ["Привет", "мир", "🐱🐶"]
    assert [token for token in tokens if token == UNK_ID or token >= N] == [UNK_ID, N, UNK_ID, N + 1, N]
    assert tokenizer.decode(tokens, words.words) == "Привет, мир! Привет 🐱🐶 мир"
    assert tokenizer.encode("кот", words) == [N + 2] and words.words[3] == "кот"  # one table for a whole request
    assert tokenizer.encode("кот") == [UNK_ID]  # another request


def test_nothing_that_people_write_is_a_special_token(tokenizer):
    text = "1 < 2 <s></s><unk><root> <ans_1> << </n></_> <eod>"
    tokens = tokenizer.encode(text)
    assert not set(tokens) & (set(range(11)) - {5}) and "<eod>" not in [LINES[token] for token in tokens]
    assert tokenizer.decode(tokens) == text
    assert tokenizer.encode_escaped(escape(text)) == tokens


def test_the_published_way_to_write_special_tokens(tokenizer):
    tokens = tokenizer.encode_escaped("<s>a<<b<mask></s>")
    assert [LINES[token] for token in tokens] == ["<s>", "a", "<", "b", "<mask>", "</s>"]
    for broken in ("a <", "a <b", "<s", "<a<b>", "<nothing>"):
        with pytest.raises(ArgumentError, match=r"text: expected .*<mask>.*write << for a <"):
            tokenizer.encode_escaped(broken)


@pytest.mark.parametrize("text", ["", "<", "<<", "a<b>c", "<mask>", "x << y"])
def test_unescaping_undoes_escaping(text):
    assert unescape(escape(text)) == text


def test_answers_of_the_goldens_read_as_people_write(tokenizer):
    n_words = 0
    for record in read_answers():
        words = [text for _, text in sorted((int(token), text) for token, text in record["words"].items())]
        for found in (record["greedy"], record["beam"]):
            table = tokenizer.token_table_with(words)
            text = b"".join(table.pieces[token] for token in found["tokens"]).decode()
            assert text == tokenizer.decode(found["tokens"], words) == unescape(found["text"])
            n_words += any(token == UNK_ID or token >= N for token in found["tokens"])
    assert n_words > 5 and len(PROMPTS) >= 200


def test_only_the_end_ends_an_answer(tokenizer):
    table = tokenizer.token_table_with(["один", "два"])
    assert len(table.pieces) == len(table.ends_generation) == N + 1
    assert table.ends_generation.nonzero()[0].tolist() == [EOS_ID]
    assert (table.pieces[4], table.pieces[5], table.pieces[UNK_ID]) == (b"\n", b" ", "один".encode())
    assert tokenizer.token_table_with([]) is tokenizer.token_table


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (LINES[:7], "expected </s> in line 8, got no more lines"),
        (["x", *LINES[1:]], "expected <pad> in line 1, got 'x'"),
        ([*LINES, LINES[30]], "got a line that is there twice"),
        ([*LINES, ""], "got an empty line"),
    ],
)
def test_another_vocabulary_is_refused(lines, message):
    with pytest.raises(ModelFormatError, match=message):
        BeeTokenizer(lines)
