"""Score a converted model on held-out questions, as a user asks them: `python -m nano.score [--model FOLDER]`.

Needs no torch; `nano.evaluate` compares the formats of a run with PyTorch.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

import click

from nano.scoring import Score, fidelity, held_out_questions, score, table_row, task_row
from palo_cpp import Palo


def ask_all(palo: Palo, n_per_language: int) -> tuple[list[Score], float]:
    """Scores, and the median seconds of an answer about a new picture."""
    scores, times = list[Score](), list[float]()
    for question in held_out_questions(n_per_language):
        image, begun = question.picture.render(), time.perf_counter()
        answer = palo.ask(image, question.exchange.question, max_tokens=80)
        if answer.timings.n_images_encoded:
            times.append(time.perf_counter() - begun)
        scores.append(score(question, answer.text))
    return scores, statistics.median(times)


def report(scores: list[Score]) -> str:
    """Markdown tables, percent: right by language, right by task, in the asked language."""
    parts = {"right": table_row(scores), "right, by task": task_row(scores), "in the language": fidelity(scores)}
    return "\n\n".join(_table(name, row) for name, row in parts.items())


def _table(name: str, row: Mapping[str, float]) -> str:
    lines = [["", *row], ["---"] * (len(row) + 1), [name, *(f"{value:.2f}" for value in row.values())]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@click.command()
@click.option("--questions", "n", type=click.IntRange(min=1), default=200, show_default=True, help="In each language.")
@click.option("--model", default="nano", show_default=True)
def main(n: int, model: str) -> None:
    """Print the tables, the time to load and to answer, and what was wrong."""
    begun = time.perf_counter()
    with Palo(model) as palo:
        load_s = time.perf_counter() - begun
        scores, answer_s = ask_all(palo, n)
    click.echo(report(scores))
    click.echo(f"\nloaded in {load_s:.2f} s, an answer about a new picture in {answer_s * 1e3:.0f} ms")
    for each in scores:
        if not each.is_right:
            click.echo(f"seed {each.question.picture.seed}: {each.question.exchange.answer!r}, said {each.answer!r}")


if __name__ == "__main__":
    main()
