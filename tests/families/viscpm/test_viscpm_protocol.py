"""The request that a conversation becomes, and the bias between its tokens: by hand, and against the reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from viscpm_checkpoint import TINY, vocabulary
from viscpm_goldens import PROMPTS, STAGE_PROMPTS, Question, read_answers, read_stages

from palo_cpp import ArgumentError
from palo_cpp.families.viscpm.protocol import (
    BeeSegment,
    bias_rows,
    position_bucket,
    prompt_segments,
    prompt_text,
    relations,
    request_cells,
)
from palo_cpp.families.viscpm.tokenizer import BOS_ID, UNK_ID, BeeTokenizer
from palo_cpp.segments import ImageSegment, Turn

LINES = vocabulary()
PICTURE = ImageSegment("a picture", TINY.n_queries)


@pytest.fixture(scope="module")
def tokenizer():
    return BeeTokenizer(LINES)


def turns_of(question: Question, image: ImageSegment = PICTURE) -> list[Turn]:
    turns = [Turn(text, answer) for text, answer in question.history] + [Turn(question.text)]
    first = Turn(turns[0].question, turns[0].answer, images=(image,) if question.has_image else ())
    return [first, *turns[1:]]


def test_the_worked_example(tokenizer):
    # 6 8 7 | 6 image 7 | 6 (1 x 64) 7 | 6 context 7 | 6 7 | 6 question 7 | 6 图中 有 什么 ？ 7 | 6 9 7
    image = ImageSegment("a picture", 64)
    segments = prompt_segments(tokenizer, [Turn("图中有什么？", images=(image,))])
    cells = request_cells(segments, len(LINES))
    text = ["<s>", "<root>", "</s>", "<s>", "image", "</s>", "<s>", *["<unk>"] * 64, "</s>", "<s>", "context", "</s>"]
    text += [
        "<s>",
        "</s>",
        "<s>",
        "question",
        "</s>",
        "<s>",
        "图中",
        "有",
        "什么",
        "？",
        "</s>",
        "<s>",
        "<ans>",
        "</s>",
    ]
    assert [LINES[token] for token in cells.ids] == text and len(text) == 89
    assert cells.images == (("a picture", 7),) and len(segments[0]) == 7
    assert cells.segments.tolist() == [0] * 3 + [1] * 3 + [2] * 66 + [3] * 3 + [4] * 2 + [5] * 3 + [6] * 6 + [7] * 3
    assert cells.answer_segment == 8 and cells.positions.tolist() == list(range(89))
    assert not cells.subs.any() and cells.words == () and cells.columns == []


def test_how_long_a_prompt_is(tokenizer):
    image = ImageSegment("a picture", 64)
    history = [Turn("这是什么？", "一只猫。", images=(image,))]
    assert sum(map(len, prompt_segments(tokenizer, [*history, Turn("图中有什么？")]))) == 85 + 4 + 14


def test_prompts_are_the_references(tokenizer):
    assert len(PROMPTS) >= 200
    for question, record in zip(PROMPTS, read_answers(), strict=True):
        cells = request_cells(prompt_segments(tokenizer, turns_of(question)), len(LINES))
        assert [question.text, question.has_image] == [record["question"], record["has_image"]]
        for name in ("ids", "subs", "segments"):
            assert getattr(cells, name).tolist() == record[name], (question, name)
        numbers = [UNK_ID, *(len(LINES) + column for column in range(len(cells.words) - 1))]
        assert {str(i): word for i, word in zip(numbers, cells.words, strict=False)} == record["words"]
        assert cells.columns == [(UNK_ID, sub) for sub in range(1, len(cells.words))]


def test_words_that_the_vocabulary_lacks_are_numbered_over_the_whole_request(tokenizer):
    turns = [Turn("Что это?", "кот", images=(PICTURE,)), Turn("это кот 🐱")]
    segments = prompt_segments(tokenizer, turns)
    assert all(each.words == ("Что", "это", "кот", "🐱") for each in segments if isinstance(each, BeeSegment))
    cells = request_cells(segments, len(LINES))
    is_word = (cells.ids == UNK_ID) & (cells.positions >= 7 + TINY.n_queries)
    assert cells.subs[is_word].tolist() == [0, 1, 2, 1, 2, 3]


def test_without_a_picture_there_is_no_image(tokenizer):
    segments = prompt_segments(tokenizer, [Turn("图中有什么？")])
    cells = request_cells(segments, len(LINES))
    assert len(segments) == 1 and cells.images == () and cells.answer_segment == 6


def test_one_picture_for_a_conversation(tokenizer):
    again = [Turn("这是什么？", "一只猫。", images=(PICTURE,)), Turn("？", images=(PICTURE,))]
    assert len(request_cells(prompt_segments(tokenizer, again), len(LINES)).images) == 1
    other = ImageSegment("another one", TINY.n_queries)
    with pytest.raises(ArgumentError, match="image: expected one in a conversation with VisCPM, got 2"):
        prompt_segments(tokenizer, [again[0], Turn("？", images=(other,))])


def test_people_read_the_request():
    turns = [Turn("这是什么？", "一只猫。", images=(PICTURE,)), Turn("a < b?")]
    assert prompt_text(turns).splitlines() == [
        "image: <image>",
        "context: User: 这是什么？",
        "AI: 一只猫。",
        "",
        "question: a < b?",
        "<ans>:",
    ]
    assert prompt_text([Turn("？")]).startswith("context: \n")


# The bias ------------------------------------------------------------------------------------------------------------

# Query's node, key's node (numbers of a chat's tree) -> code; by hand: 8 * up + down, plus 1 unless that is 0.
ROOT, IMAGE, ROWS, CONTEXT, HISTORY, ANSWER = 0, 1, 2, 3, 4, 8
CODES = [
    (ROOT, ROOT, 0),
    (ROWS, ROWS, 0),
    (ANSWER, ANSWER, 0),
    (ROOT, IMAGE, 2),
    (ROOT, ANSWER, 3),
    (IMAGE, ROOT, 9),
    (IMAGE, ROWS, 2),
    (IMAGE, CONTEXT, 10),
    (IMAGE, HISTORY, 11),
    (ANSWER, ROOT, 17),
    (ROWS, IMAGE, 9),
    (ANSWER, CONTEXT, 18),
    (ANSWER, HISTORY, 19),
]
# Key position minus query position -> row of the table, as worked out in the specification.
BUCKETS = {
    **{-n: n for n in range(64)},
    **{n: 128 + n for n in range(1, 64)},
    **dict.fromkeys(range(-67, -63), 64),
    -68: 65,
    -100: 72,
    -512: 102,
    -1000: 114,
    -2047: 127,
    -2048: 127,
    -9999: 127,
    64: 192,
    100: 200,
    2048: 255,
    9999: 255,
}


@pytest.mark.parametrize(("query", "key", "code"), CODES)
def test_codes_of_two_nodes(query, key, code):
    assert relations(9)[query, key] == code


def test_no_other_codes_are_there():
    assert set(relations(9).flat) == {0, 2, 3, 9, 10, 11, 17, 18, 19}


@pytest.mark.parametrize(("distance", "bucket"), BUCKETS.items())
def test_buckets(distance, bucket):
    assert position_bucket(np.array([distance])).tolist() == [bucket]


def test_buckets_by_counting():
    """Independent of any logarithm's rounding: the smallest distance of each far bucket, by integers alone."""
    for step in range(64):  # bucket 64 + step begins where (d / 64)^64 >= 32^step
        first = next(d for d in range(64, 2049) if d**64 >= 32**step * 64**64)
        assert position_bucket(np.array([-first, -first + 1])).tolist() == [64 + step, 63 + step], first


@pytest.mark.parametrize("name", list(STAGE_PROMPTS))
def test_the_bias_is_the_references(tokenizer, name):
    cells = request_cells(prompt_segments(tokenizer, turns_of(STAGE_PROMPTS[name])), len(LINES))
    positions = np.concatenate([cells.positions, np.arange(3, dtype=np.int32)])  # three tokens of an answer
    segments = np.concatenate([cells.segments, np.full(3, cells.answer_segment, np.int32)])
    rows = bias_rows((positions, segments), (positions, segments), cells.relations)
    np.testing.assert_array_equal(rows, read_stages()[f"{name}_bias_rows"])


def test_the_bias_of_an_answer_by_hand(tokenizer):
    """The answer's second token, at position 1 of its own segment, sees the prompt by relations and itself by place."""
    cells = request_cells(prompt_segments(tokenizer, [Turn("？", images=(PICTURE,))]), len(LINES))
    keys = np.append(cells.positions, [0, 1]).astype(np.int32), np.append(cells.segments, [8, 8]).astype(np.int32)
    (row,) = bias_rows((np.array([1], np.int32), np.array([8], np.int32)), keys, cells.relations)
    root, key, leaf = 255 + 17, 255 + 18, 255 + 19
    by_hand = [root] * 3 + [key] * 3 + [leaf] * 10 + [key] * 3 + [leaf] * 2 + [key] * 3 + [leaf] * 3
    by_hand += [255 + 9] * 3 + [1, 0]  # its own key, then the token before it and itself
    assert row.tolist() == by_hand and cells.ids[len(cells.ids) - 3] == BOS_ID


def test_unknown_words_are_turned_by_halves():
    """Row 1 of the embedding, turned by 16 * sub * 10000^(-2k/n): here by complex numbers, one by one."""
    stages = read_stages()
    rows, exact, half = stages["zh_embeddings"], stages["exact_angles"], stages["half_angles"]
    n = rows.shape[1]
    plain = exact[0]
    for sub in range(8):
        for k in range(n // 2):
            inverse = 10000.0 ** (-2 * k / n)
            turned = complex(plain[k], plain[k + n // 2]) * complex(
                math.cos(16 * sub * inverse), math.sin(16 * sub * inverse)
            )
            assert abs(turned - complex(exact[sub, k], exact[sub, k + n // 2])) < 1e-4
            rounded = float(np.float16(np.float16(16 * sub) * np.float16(inverse)))
            turned = complex(plain[k], plain[k + n // 2]) * complex(math.cos(rounded), math.sin(rounded))
            assert abs(turned - complex(half[sub, k], half[sub, k + n // 2])) < 1e-4
    assert np.abs(exact - half).max() > 1e-3  # the two differ, so it matters which one is taken
