"""How well each `--lang-mode` keeps the language that was asked for, when the question is in another one.

`python -m nano.language_modes` asks the PALO-Nano that ships, in English, for answers in each of the ten languages, and
prints for each mode the share of answers in the asked language, and of those that are also right.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import click

from nano.conversations import CODES, TEST, Picture, ask_something, make_picture
from nano.scoring import Question, Score, fidelity, score, table_row
from palo_cpp import Palo
from palo_cpp.decoding.options import LANG_MODES


@dataclass(frozen=True)
class Result:
    """What one mode answered to all questions.

    Attributes:
        scores: one for each.
        n_retries: answers thrown away for their language.
        n_honest: answers whose `language_ok` is what the scoring finds; one that says nothing counts as right.
        answer_s: median time.
    """

    scores: list[Score]
    n_retries: int
    n_honest: int
    answer_s: float


def crossed_questions(n_per_language: int) -> list[tuple[str, Question]]:
    """Questions in English, each with its held-out picture and the right answer in another language."""
    pictures = list(islice((p for p in map(make_picture, TEST) if p.scene is not None), n_per_language))
    return [_crossed(picture, code) for code in CODES for picture in pictures]


def _crossed(picture: Picture, code: str) -> tuple[str, Question]:
    # The same lots make the same question in both languages.
    asked, expected = (ask_something(picture, random.Random(picture.seed * 4), c) for c in ("en", code))
    return asked.question, Question(picture, expected)


def ask_all(palo: Palo, questions: Sequence[tuple[str, Question]], mode: str) -> Result:
    """Ask everything in one mode."""
    scores, times, n_retries, n_honest = list[Score](), list[float](), 0, 0
    for asked, question in questions:
        begun = time.perf_counter()
        answer = palo.ask(question.picture.render(), asked, lang=question.exchange.language, lang_mode=mode)
        times.append(time.perf_counter() - begun)
        scores.append(score(question, answer.text))
        n_retries += answer.timings.n_retries
        n_honest += answer.language_ok in (None, scores[-1].in_language)
    return Result(scores, n_retries, n_honest, statistics.median(times))


def report(results: dict[str, Result]) -> str:
    """A Markdown table of the shares, in percent."""
    lines = [["mode", "of them", *CODES, "all", "retries", "language_ok true", "ms"], ["---"] * (len(CODES) + 6)]
    for mode, result in results.items():
        kept, right = fidelity(result.scores), table_row(result.scores)
        n = len(result.scores)
        of_mode = [str(result.n_retries), f"{100 * result.n_honest / n:.1f}", f"{result.answer_s * 1e3:.0f}"]
        shares = [f"{kept[code]:.1f}" for code in CODES]
        lines.append([mode, "in the language", *shares, f"{statistics.mean(kept.values()):.1f}", *of_mode])
        lines.append(["", "and right", *(f"{right[code]:.1f}" for code in CODES), f"{right['all']:.1f}", "", "", ""])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@click.command()
@click.option("--questions", "n", type=int, default=50, show_default=True, help="In each language.")
@click.option("--model", default="nano", show_default=True)
def main(n: int, model: str) -> None:
    """Print the table."""
    questions = crossed_questions(n)
    with Palo(model) as palo:
        results = {mode: ask_all(palo, questions, mode) for mode in LANG_MODES}
    click.echo(report(results))


if __name__ == "__main__":
    main()
