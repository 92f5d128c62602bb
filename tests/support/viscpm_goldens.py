"""The committed goldens of VisCPM-Chat: what was asked, and how tests read the answers (see goldens/README.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from golden_files import checksum
from numpy.typing import NDArray
from viscpm_checkpoint import TINY, viscpm_tensors

FOLDER = Path(__file__).parents[1] / "goldens"
# The published chat's but for the length: 26 steps show the same.
SEARCH = {"max_length": 24}


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        text: as people write it.
        history: questions and answers before it.
        has_image: whether a picture is shown.
    """

    text: str
    history: tuple[tuple[str, str], ...] = ()
    has_image: bool = True


_SUBJECTS = {
    "zh": [
        "一只猫",
        "红房子",
        "图中的人",
        "两只狗",
        "天上的鸟",
        "这幅图像",
        "水里的鱼",
        "大树和花",
        "a cat 和狗",
        "节日",
    ],
    "en": [
        " a cat",
        " the picture",
        " a red house",
        " two dogs",
        " it",
        " a blue bird",
        " the cat on a house",
        "n x",
        " I",
        " two",
    ],
}
_FORMS = {
    "zh": ["图中有{}？", "{}是什么？", "这是{}吗？", "{}在哪个节日拍摄的？", "看见{}没有？"],
    "en": ["What is{}?", "What is in{}?", "I see{} on it", "It is{} and red"],
}
_HARD = [
    "",
    " ",
    "a\nb",
    "1 < 2 > 0 <s> <unk> </s> <ans_1>",
    "Привет, мир! Привет!",
    "🐱 🐶 🐱 a cat",
    "é ñ ç ã",
    "これは猫ですか？",
    "यह क्या है？",
    "هذا قط？",
    "abcdefghijklmnopqrstuvwxyz012345",
    "abcdefghijklmnopqrstuvwxyz012346",
    "caption capt cap",
    "\t€ tab",
]
_HISTORY = (("这是什么？", "一只猫。"), ("What is it?", "It is < a cat >."), ("Что это?", "一只 кот。"))


def _prompts() -> list[Question]:
    """More than 200 in both languages: with words that the vocabulary lacks, with histories, without a picture."""
    plain = [form.format(subject) for lang in ("zh", "en") for form in _FORMS[lang] for subject in _SUBJECTS[lang]]
    later = [Question(text, _HISTORY[: 1 + i % 3]) for i, text in enumerate(plain[::2])]
    blind = [Question(text, _HISTORY[: i % 2], has_image=False) for i, text in enumerate(plain[1::3])]
    longer = [Question(plain[0], tuple(_HISTORY[i % 3] for i in range(12)))]
    odd = [
        Question(f"{plain[i]}{word}", has_image=i % 2 == 0)
        for i, word in enumerate(["🐱", "кот", "猫🐶猫🐱", "ñandú"] * 6)
    ]
    return [*map(Question, plain), *later, *blind, *longer, *odd, *map(Question, _HARD)]


PROMPTS = _prompts()
STAGE_PROMPTS = {
    "zh": Question("图中有什么？"),
    "en": Question("What is in the picture?", has_image=False),
    "words": Question("Привет, мир! 🐱", (("Что это?", "一只 кот。"),)),
}


@cache
def viscpm_checksum() -> str:
    """Of all weights: a golden is good only for these."""
    tensors = viscpm_tensors(TINY)
    return checksum(*(tensors[name] for name in sorted(tensors)))


def read_stages() -> dict[str, NDArray[Any]]:
    """The arrays of viscpm.npz.

    Raises:
        AssertionError: numpy draws other weights than the goldens were made with.
    """
    with np.load(FOLDER / "viscpm.npz") as file:
        arrays = dict(file)
    assert str(arrays.pop("weights_checksum")) == viscpm_checksum(), "numpy draws other weights; make the goldens again"
    return arrays


def read_answers() -> list[dict[str, Any]]:
    """The records of viscpm_answers.json, in the order of `PROMPTS`.

    Raises:
        AssertionError: as for `read_stages`.
    """
    content = json.loads((FOLDER / "viscpm_answers.json").read_text(encoding="utf-8"))
    assert content["weights_checksum"] == viscpm_checksum(), "numpy draws other weights; make the goldens again"
    answers: list[dict[str, Any]] = content["answers"]
    return answers
