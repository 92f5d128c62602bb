"""Prompts for the small CPM-Bees, as the request of a chat lays them out, and their goldens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from bee_files import TINY, WIDE, BeeSize, State, draw_state
from golden_files import checksum
from numpy.typing import NDArray

FOLDER = Path(__file__).parents[1] / "goldens"
SIZES: dict[str, BeeSize] = {"tiny": TINY, "wide": WIDE}
# Nodes of a chat's request: root, image, its value, context, its value, question, its value, <ans>, the answer.
DEPTHS = (0, 1, 2, 1, 2, 1, 2, 1, 2)
PARENTS = (-1, 0, 1, 0, 3, 0, 5, 0, 7)
ANSWER = 8


def relations() -> NDArray[np.int32]:
    """Code of each two nodes by the tree itself: 8 * levels up + levels down, plus 1 where that is not 0."""

    def above(node: int) -> list[int]:
        return [node, *above(PARENTS[node])] if node >= 0 else []

    codes = np.zeros((len(DEPTHS), len(DEPTHS)), np.int32)
    for query in range(len(DEPTHS)):
        for key in range(len(DEPTHS)):
            common = next(node for node in above(query) if node in above(key))
            up, down = DEPTHS[query] - DEPTHS[common], DEPTHS[key] - DEPTHS[common]
            codes[query, key] = 8 * up + down + 1 if (up, down) != (0, 0) else 0
    return codes


@dataclass(frozen=True)
class Case:
    """One prompt with an answer; rows are the prompt's, then the answer's.

    Attributes:
        rows: [n, 4] token, sub id, segment, position.
        n_prompt: rows of the prompt.
        image_at: row where an image's embeddings begin; None without one.
        extra: unknown words.
    """

    rows: NDArray[np.int32]
    n_prompt: int
    image_at: int | None
    extra: tuple[tuple[int, int], ...]

    @property
    def contexts(self) -> list[bool]:
        return [i < self.n_prompt for i in range(len(self.rows))]


N_IMAGE = 8


def make_case(
    size: BeeSize, *, n_question: int, n_history: int = 0, has_image: bool = True, n_words: int = 0, n_answer: int = 5
) -> Case:
    """A prompt of random tokens in the layout of a chat, its question with `n_words` unknown words."""
    random = np.random.default_rng(n_question + 100 * n_history)

    def draw(n: int) -> list[tuple[int, int]]:
        return [(int(token), 0) for token in random.integers(11, size.n_vocab, n)]

    words = [(1, sub) for sub in range(n_words)]
    question = draw(n_question)
    question[1 : 1 + n_words] = words
    values = [[(8, 0)], draw(1), [(1, 0)] * N_IMAGE, draw(1), draw(n_history), draw(1), question, [(9, 0)]]
    nodes = [i for i in range(8) if has_image or i not in (1, 2)]
    rows: list[tuple[int, int, int, int]] = []
    for node in nodes:
        for token, sub in [(6, 0), *values[node], (7, 0)]:
            rows.append((token, sub, node, len(rows)))
    n_prompt = len(rows)
    answer = [(6, 0), *draw(n_answer - 1)]
    if n_words > 1:
        answer[2] = words[1]
    rows += [(token, sub, ANSWER, i) for i, (token, sub) in enumerate(answer)]
    return Case(np.array(rows, np.int32), n_prompt, 7 if has_image else None, tuple(words[1:]))


def cases(size: BeeSize) -> dict[str, Case]:
    """Short, without image, with unknown words, and one with distances beyond the exact buckets."""
    few = {
        "short": make_case(size, n_question=4),
        "blind": make_case(size, n_question=1, has_image=False),
        "words": make_case(size, n_question=9, n_words=4),
    }
    long = make_case(size, n_question=7, n_history=150, n_words=2, n_answer=70)
    return few if size == WIDE else few | {"long": long}


def image_of(size: BeeSize) -> NDArray[np.float32]:
    """Image embeddings [N_IMAGE, n_embd]."""
    return np.random.default_rng(5).standard_normal((N_IMAGE, size.n_embd)).astype(np.float32)


@cache
def state_checksum(name: str) -> str:
    """Of all weights: a golden is good only for these."""
    state: State = draw_state(SIZES[name])
    return checksum(*(state[key] for key in sorted(state)))


def read_goldens(name: str) -> dict[str, NDArray[Any]]:
    """The arrays of cpm_bee_NAME.npz.

    Raises:
        AssertionError: numpy draws other weights than the goldens were made with.
    """
    with np.load(FOLDER / f"cpm_bee_{name}.npz") as file:
        arrays = dict(file)
    assert str(arrays.pop("weights_checksum")) == state_checksum(name), "numpy draws other weights; make them again"
    return arrays
