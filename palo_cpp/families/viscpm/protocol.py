r"""How a conversation becomes one request to CPM-Bee: a tree of texts, and what attention wants to know of each token.

Source: OpenBMB/VisCPM, VisCPM/utils/utils.py `convert_data_to_id` and VisCPM/viscpm_chat.py `chat`, read for their
rules. The tree of a chat:

    <root> ─┬─ image ──── the picture's rows
            ├─ context ── "User: ...\nAI: ...\n" of all turns before
            ├─ question ─ the question
            └─ <ans> ──── the answer, which decoding begins with <s>

Its nodes are segments, numbered from the root on, each child directly after its parent. Every one is `<s>`, its text
and `</s>`, so the tokens alone say where segments begin: no text of a user can hold either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import ArgumentError
from palo_cpp.families.viscpm.tokenizer import BOS_ID, EOS_ID, SPECIAL_IDS, UNK_ID, BeeTokenizer, WordTable
from palo_cpp.segments import ImageSegment, Segment, TextSegment, Turn

IMAGE, CONTEXT, QUESTION, ANSWER = "image", "context", "question", "<ans>"
_MAX_DEPTH = 8
N_POSITION_BUCKETS, MAX_DISTANCE = 256, 2048
_N_EXACT = N_POSITION_BUCKETS // 4


@dataclass(frozen=True)
class BeeSegment(TextSegment):
    """Token ids in a row, of a request with words that the vocabulary lacks.

    Attributes:
        words: of the whole request, by their places: `tokenizer.WordTable`.
    """

    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class RequestCells:
    """A request as the language model takes it; arrays are int32 [n] unless said otherwise.

    Attributes:
        ids: in the vocabulary; `<unk>` for words that it lacks and for rows of the picture.
        subs: sub ids, 0 for all but such words.
        positions: 0, 1, 2, ...
        segments: number of the node that the token is in.
        images: where rows of pictures go: their hash and the place of the first row.
        relations: uint8 [n_segments, n_segments], query's segment first.
        answer_segment: number of the answer's node; its tokens have positions of their own, from 0.
        words: texts that `<unk>` (place 0) and the columns after the vocabulary (place - 1) stand for.
    """

    ids: NDArray[np.int32]
    subs: NDArray[np.int32]
    positions: NDArray[np.int32]
    segments: NDArray[np.int32]
    images: tuple[tuple[str, int], ...]
    relations: NDArray[np.uint8]
    answer_segment: int
    words: tuple[str, ...]

    @property
    def columns(self) -> list[tuple[int, int]]:
        """(base id, sub id) of the logits after the vocabulary's."""
        return [(UNK_ID, sub) for sub in range(1, len(self.words))]

    @property
    def is_context(self) -> NDArray[np.bool_]:
        """Which tokens see each other in both directions: all but the answer's."""
        context: NDArray[np.bool_] = self.segments != self.answer_segment
        return context

    def begun(self) -> RequestCells:
        """With the `<s>` that decoding begins with, the answer's first token."""

        def longer(array: NDArray[np.int32], last: int) -> NDArray[np.int32]:
            return np.append(array, np.int32(last))

        return replace(
            self,
            ids=longer(self.ids, BOS_ID),
            subs=longer(self.subs, 0),
            positions=longer(self.positions, 0),
            segments=longer(self.segments, self.answer_segment),
        )


def history_text(turns: Sequence[Turn]) -> str:
    """The turns before a question as the model was tuned to see them."""
    return "".join(f"User: {turn.question}\nAI: {turn.answer or ''}\n" for turn in turns)


def chat_parts(turns: Sequence[Turn]) -> dict[str, str]:
    """Texts of the request by their keys, without picture and answer."""
    *history, question = turns
    return {CONTEXT: history_text(history), QUESTION: question.question}


def prompt_segments(tokenizer: BeeTokenizer, turns: Sequence[Turn]) -> list[Segment]:
    """Lay out a conversation; the last turn is to be answered.

    Args:
        tokenizer: the vocabulary.
        turns: earlier questions with their answers, and the one to answer now. A picture belongs to all of them.

    Returns:
        Segments in order, without the `<s>` that decoding begins with.

    Raises:
        ArgumentError: more than one picture.
    """
    image = _one_image(turns)
    words = WordTable()
    layout: list[list[int] | ImageSegment] = [_node([SPECIAL_IDS["<root>"]])]
    if image is not None:
        layout += [[*_node(tokenizer.encode(IMAGE, words)), BOS_ID], image, [EOS_ID]]
    for key, text in chat_parts(turns).items():
        layout += [_node(tokenizer.encode(key, words)), _node(tokenizer.encode(text, words))]
    layout.append(_node([SPECIAL_IDS[ANSWER]]))
    segments: list[Segment] = []
    tokens: list[int] = []
    for part in layout:
        if isinstance(part, ImageSegment):
            segments += [TextSegment(tuple(tokens)), part]
            tokens = []
        else:
            tokens += part
    return _with_words([*segments, TextSegment(tuple(tokens))], tuple(words.words))


def _with_words(segments: Sequence[Segment], words: tuple[str, ...]) -> list[Segment]:
    """Every part of a request names all of its words."""
    return [BeeSegment(each.tokens, words=words) if isinstance(each, TextSegment) else each for each in segments]


def _node(tokens: Sequence[int]) -> list[int]:
    return [BOS_ID, *tokens, EOS_ID]


def _one_image(turns: Sequence[Turn]) -> ImageSegment | None:
    images = {image.content_hash: image for turn in turns for image in turn.images}
    if len(images) > 1:
        raise ArgumentError(
            f"image: expected one in a conversation with VisCPM, got {len(images)}; begin a new conversation"
        )
    return next(iter(images.values()), None)


def prompt_text(turns: Sequence[Turn]) -> str:
    """The request for people to read, a line for each of its parts."""
    lines = [f"{IMAGE}: <image>"] if any(turn.images for turn in turns) else []
    lines += [f"{key}: {text}" for key, text in chat_parts(turns).items()]
    return "\n".join([*lines, f"{ANSWER}:"])


def request_cells(segments: Sequence[Segment], n_vocab: int) -> RequestCells:
    """What attention wants to know of each token of a prompt.

    Args:
        segments: as `prompt_segments` returns them.
        n_vocab: entries of the vocabulary.
    """
    tokens: list[int] = []
    rows = np.zeros(0, np.bool_)
    images: list[tuple[str, int]] = []
    words: tuple[str, ...] = ()
    for segment in segments:
        if isinstance(segment, ImageSegment):
            images.append((segment.content_hash, len(tokens)))
            tokens += [UNK_ID] * len(segment)
        else:
            words = segment.words if isinstance(segment, BeeSegment) else words
            tokens += segment.tokens
        rows = np.concatenate([rows, np.full(len(segment), isinstance(segment, ImageSegment))])
    ids = np.array(tokens, np.int32)
    is_word = ids >= n_vocab
    subs = np.where(is_word, ids - n_vocab + 1, 0).astype(np.int32)
    numbers = np.cumsum((ids == BOS_ID) & ~rows, dtype=np.int32) - 1
    answer = int(numbers[-1]) + 1
    return RequestCells(
        ids=np.where(is_word, UNK_ID, ids).astype(np.int32),
        subs=subs,
        positions=np.arange(len(ids), dtype=np.int32),
        segments=numbers,
        images=tuple(images),
        relations=relations(answer + 1),
        answer_segment=answer,
        words=words,
    )


def relation_code(up: int, down: int) -> int:
    """Code of two nodes.

    Args:
        up: levels from the query's node to the lowest that contains both.
        down: levels from there to the key's node.
    """
    code = min(up, _MAX_DEPTH - 1) * _MAX_DEPTH + min(down, _MAX_DEPTH - 1)
    return code + 1 if code else 0  # 1 is for texts of other requests, which are never there


def relations(n_segments: int) -> NDArray[np.uint8]:
    """Codes uint8 [n_segments, n_segments] of a tree of a root, keys (odd numbers) and their texts (even ones)."""
    codes = np.zeros((n_segments, n_segments), np.uint8)
    paths = [_path(i) for i in range(n_segments)]
    for i, query in enumerate(paths):
        for j, key in enumerate(paths):
            n_common = sum(a == b for a, b in zip(query, key, strict=False))
            codes[i, j] = relation_code(len(query) - n_common, len(key) - n_common)
    return codes


def _path(segment: int) -> tuple[int, ...]:
    """The nodes from the root to this one."""
    if segment == 0:
        return (0,)
    return (0, segment) if segment % 2 else (0, segment - 1, segment)


def position_bucket(distance: NDArray[np.int64]) -> NDArray[np.int32]:
    """Row of the bias table for key position minus query position in one segment: exact to 63, then logarithmic."""
    length = np.abs(distance)
    n_half = N_POSITION_BUCKETS // 2
    share = np.log(np.maximum(length, _N_EXACT) / _N_EXACT) / np.log(MAX_DISTANCE / _N_EXACT)
    far = np.minimum(n_half - 1, _N_EXACT + np.floor(share * (n_half - _N_EXACT)))
    return (np.where(distance > 0, n_half, 0) + np.where(length < _N_EXACT, length, far)).astype(np.int32)


def bias_rows(
    query: tuple[NDArray[np.int32], NDArray[np.int32]],
    key: tuple[NDArray[np.int32], NDArray[np.int32]],
    codes: NDArray[np.uint8],
) -> NDArray[np.int32]:
    """Row of the bias table [512, n_head] for each query and key: int32 [n_queries, n_keys].

    Args:
        query: positions and segments of the queries.
        key: of the keys.
        codes: `RequestCells.relations`.
    """
    relation = codes[query[1][:, None], key[1][None, :]].astype(np.int32)
    distance = key[0][None, :].astype(np.int64) - query[0][:, None]
    return np.where(relation == 0, position_bucket(distance), relation + N_POSITION_BUCKETS - 1).astype(np.int32)
