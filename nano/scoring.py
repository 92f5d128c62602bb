"""Held-out questions, and how an answer is scored."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nano.conversations import CODES, TEST, Picture, ask_something, make_picture
from nano.exchanges import Exchange
from palo_cpp.languages.detection import detect_language

# As in the paper's table 1.
HIGH_RESOURCE = ("en", "zh", "fr", "es", "ru", "ja")
LOW_RESOURCE = ("ar", "hi", "bn", "ur")


@dataclass(frozen=True)
class Question:
    """One held-out question and the picture that it is about."""

    picture: Picture
    exchange: Exchange


@dataclass(frozen=True)
class Score:
    """One answer.

    Attributes:
        is_right: it is the expected one, after `normalized`.
        in_language: it is in the language that was asked for.
    """

    question: Question
    answer: str
    is_right: bool
    in_language: bool


def held_out_questions(n_per_language: int, languages: Sequence[str] = CODES) -> list[Question]:
    """Questions in every language about the same pictures, all tasks in turn, from seeds that training never sees."""
    questions = []
    for code in languages:
        of_this = _questions(code)
        questions += [next(of_this) for _ in range(n_per_language)]
    return questions


def _questions(code: str) -> Iterator[Question]:
    for seed in TEST:
        picture, rng = make_picture(seed), random.Random(seed * 4)
        for _ in range(2):
            yield Question(picture, ask_something(picture, rng, code))


def normalized(text: str) -> str:
    """What two right answers may differ in: composition of characters, spaces around."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def score(question: Question, answer: str) -> Score:
    """Compare an answer with the expected one."""
    expected = question.exchange
    is_right = normalized(answer) == normalized(expected.answer)
    return Score(question, answer, is_right, is_right or expected.language in detect_language(answer))


def accuracy(scores: Sequence[Score], language: str | None = None, task: str | None = None) -> float:
    """Share of right answers, in percent; of one language and one task where these are named."""
    chosen = [
        s.is_right
        for s in scores
        if language in (None, s.question.exchange.language) and task in (None, s.question.exchange.task)
    ]
    return 100 * sum(chosen) / len(chosen) if chosen else float("nan")


def mean_accuracy(scores: Sequence[Score], languages: Sequence[str]) -> float:
    """The mean over languages of their accuracies."""
    return sum(accuracy(scores, code) for code in languages) / len(languages)


def table_row(scores: Sequence[Score]) -> dict[str, float]:
    """One row in the form of the paper's table 1: each language, then the averages."""
    present = {s.question.exchange.language for s in scores}
    high, low = ([code for code in codes if code in present] for codes in (HIGH_RESOURCE, LOW_RESOURCE))
    row = {code: accuracy(scores, code) for code in (*high, *low)}
    averages = {"high": high, "low": low, "all": [*high, *low]}
    return row | {name: mean_accuracy(scores, codes) for name, codes in averages.items() if codes}


def task_row(scores: Sequence[Score]) -> dict[str, float]:
    """Accuracy by task, counting and relations among them."""
    return {task: accuracy(scores, task=task) for task in sorted({s.question.exchange.task for s in scores})}


def fidelity(scores: Sequence[Score]) -> dict[str, float]:
    """Share of answers in the asked language, in percent, by language."""
    codes = dict.fromkeys(s.question.exchange.language for s in scores)
    shares = {}
    for code in codes:
        kept = [s.in_language for s in scores if s.question.exchange.language == code]
        shares[code] = 100 * sum(kept) / len(kept)
    return shares
