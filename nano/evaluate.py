"""Measure a run on held-out pictures: PyTorch float32 against the GGUF files that `palo-cpp convert` writes for it.

`python -m nano.evaluate nano/runs/default` prints the tables and writes evaluation.md, .json and .png into the run.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import torch

from nano.data import Batch, Batches, Recipe
from nano.export import NAME, export, load_run
from nano.losses import answer_logits, read
from nano.model import Nano
from nano.scoring import Question, Score, fidelity, held_out_questions, score, table_row, task_row
from nano.tokenizer import NanoTokenizer
from nano.training_run import TOKENIZER
from palo_cpp.families.palo.prompt import prompt_segments
from palo_cpp.segments import ImageSegment, TextSegment, Turn

if TYPE_CHECKING:
    from palo_cpp import Palo

# name -> type of the decoder, type of tower and projector
FORMATS = {"f16": ("f16", "f16"), "q8_0": ("q8_0", "q8_0"), "q4_k_m": ("q4_k_m", "q8_0"), "q4_0": ("q4_0", "q8_0")}
_N_BATCH = 16
_MAX_ANSWER = 80  # tokens; the longest right answer has about half as many


@dataclass(frozen=True)
class Result:
    """What one format of the model said.

    Attributes:
        scores: one for each question.
        tokens: of each answer, without `</s>`.
        agreement: share of positions, in percent and by language, where its likeliest token is that of PyTorch float32
            after the same text.
        answer_s: median time of an answer; 0 where it was not measured.
        n_bytes: size of the files.
    """

    scores: list[Score]
    tokens: list[list[int]]
    agreement: dict[str, float]
    answer_s: float = 0.0
    n_bytes: int = 0

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "accuracy": table_row(self.scores),
            "tasks": task_row(self.scores),
            "fidelity": fidelity(self.scores),
            "agreement": self.agreement,
            "answer_s": self.answer_s,
            "n_bytes": self.n_bytes,
        }


# ---- PyTorch


@torch.no_grad()
def ask_torch(nano: Nano, tokenizer: NanoTokenizer, questions: Sequence[Question]) -> Result:
    """Greedy answers in float32, a batch of pictures at a time."""
    answers: list[list[int]] = []
    for start in range(0, len(questions), _N_BATCH):
        answers += _greedy(nano, tokenizer, questions[start : start + _N_BATCH])
    scores = [score(q, tokenizer.decode(tokens)) for q, tokens in zip(questions, answers, strict=True)]
    return Result(scores, answers, dict.fromkeys(dict.fromkeys(q.exchange.language for q in questions), 100.0))


def _greedy(nano: Nano, tokenizer: NanoTokenizer, questions: Sequence[Question]) -> list[list[int]]:
    """Decode without a cache: the model is small, and the right answer is tried first, which is most often it."""
    batch = _one_each(nano, tokenizer, questions)
    images = nano.project(nano.see(batch.normalized()))
    logits, labels = answer_logits(nano, batch, read(nano, batch, images))
    answers: list[list[int]] = []
    at = 0
    for row, answered in enumerate(batch.answers):
        n = answered.end - answered.begin
        right = (logits[at : at + n].argmax(-1) == labels[at : at + n]).tolist()
        n_right = right.index(False) if False in right else n
        said = labels[at : at + n_right].tolist()
        at += n
        begin = answered.begin
        prompt = batch.tokens[row, : begin + 1].tolist()
        while len(said) < _MAX_ANSWER and (not said or said[-1] != tokenizer.eos_id):
            said.append(_next_token(nano, [*prompt, *said], images[row : row + 1], batch.start))
        answers.append(said[:-1] if said[-1] == tokenizer.eos_id else said)
    return answers


def _next_token(nano: Nano, tokens: list[int], image: torch.Tensor, start: int) -> int:
    row = torch.tensor([tokens])
    positions, segments = torch.arange(len(tokens))[None], torch.zeros_like(row)
    return int(nano.read(row, positions, segments, image, start)[0, -1].argmax())


def _one_each(nano: Nano, tokenizer: NanoTokenizer, questions: Sequence[Question]) -> Batch:
    """A batch with one question about each picture."""
    recipe = Recipe(len(questions), nano.sizes.n_image_tokens + 200)
    batches = Batches(tokenizer, nano.sizes, recipe, n_batches=0, first_seed=0)
    return batches.assemble([q.picture for q in questions], [[[q.exchange]] for q in questions])


# ---- GGUF


def ask_gguf(models: Path, questions: Sequence[Question], reference: Result, **options: Any) -> Result:
    """The same questions through palo_cpp, as a user asks them; `options` are those of `Palo`."""
    from palo_cpp import Palo  # late: PyTorch alone is also measured where palo_cpp is not installed

    scores, tokens, times, agree = list[Score](), list[list[int]](), list[float](), dict[str, list[bool]]()
    with Palo(models, **options) as palo:
        for question, expected in zip(questions, reference.tokens, strict=True):
            image, begun = question.picture.render(), time.perf_counter()
            answer = palo.ask(image, question.exchange.question, max_tokens=_MAX_ANSWER)
            if answer.timings.n_images_encoded:
                times.append(time.perf_counter() - begun)
            scores.append(score(question, answer.text))
            tokens.append(list(answer.token_ids))
            same = [True] * (len(expected) + 1) if tokens[-1] == expected else _agreement(palo, question, expected)
            agree.setdefault(question.exchange.language, []).extend(same)
    agreement = {code: 100 * sum(same) / len(same) for code, same in agree.items()}
    n_bytes = sum(path.stat().st_size for path in models.glob("*.gguf"))
    return Result(scores, tokens, agreement, statistics.median(times), n_bytes)


def _agreement(palo: Palo, question: Question, expected: list[int]) -> list[bool]:
    """At each position of PyTorch's answer, `</s>` included: whether the likeliest token is PyTorch's."""
    model = palo.language_model
    embeddings = palo.embed_image(question.picture.render())
    image = ImageSegment("", len(embeddings))
    *before, last = prompt_segments(model, [Turn(question.exchange.question, images=(image,))])
    position = 0
    for segment in before:
        rows = segment.tokens if isinstance(segment, TextSegment) else embeddings
        model.decode(rows, position=position, seq_id=1)
        position += len(segment)
    n_prompt = len(last)
    assert isinstance(last, TextSegment)  # a prompt ends with text
    logits = model.decode([*last.tokens, *expected], position=position, seq_id=1, all_logits=True)
    model.remove(1)
    said = [*expected, model.eos_id]
    return [int(row.argmax()) == token for row, token in zip(logits[n_prompt - 1 :], said, strict=True)]


# ---- report


def evaluate(run: Path, n_per_language: int, formats: Sequence[str]) -> dict[str, Result]:
    """All formats of a run's model, PyTorch first."""
    nano, questions = load_run(run), held_out_questions(n_per_language)
    results = {"torch f32": ask_torch(nano, NanoTokenizer(run / TOKENIZER), questions)}
    if not formats:
        return results
    from palo_cpp.convert import convert

    with tempfile.TemporaryDirectory() as folder:
        # float32, so that nothing but the named format's own rounding is between the two.
        checkpoint = export(nano, run / TOKENIZER, Path(folder) / "checkpoint", dtype="f32")
        for name in formats:
            decoder, tower = FORMATS[name]
            models = Path(folder) / name
            convert(checkpoint, models, outtype=decoder, mmproj_outtype=tower, name=NAME)
            results[f"GGUF {name}"] = ask_gguf(models, questions, results["torch f32"])
    return results


def report(results: Mapping[str, Result]) -> str:
    """Everything as Markdown, the first table in the form of the paper's table 1."""
    rows = {
        "accuracy": {name: table_row(result.scores) for name, result in results.items()},
        "top-1 agreement with PyTorch float32": {name: result.agreement for name, result in results.items()},
        "answers in the asked language": {name: fidelity(result.scores) for name, result in results.items()},
        "accuracy by kind of question": {name: task_row(result.scores) for name, result in results.items()},
    }
    parts = [f"## {title}, percent\n\n{_markdown(table)}" for title, table in rows.items()]
    sizes = [
        f"- {name}: {result.n_bytes / 2**20:.1f} MiB, {result.answer_s * 1e3:.0f} ms for an answer about a new picture"
        for name, result in results.items()
        if result.n_bytes
    ]
    return "\n\n".join([*parts, "\n".join(sizes)])


def _markdown(table: Mapping[str, Mapping[str, float]]) -> str:
    columns = list(next(iter(table.values())))
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *(f"{row[column]:.1f}" for column in columns)] for name, row in table.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plot(results: Mapping[str, Result], path: Path) -> None:
    """Accuracy by language, one bar for each format."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(11, 4))
    rows = {name: table_row(result.scores) for name, result in results.items()}
    columns = list(next(iter(rows.values())))
    for i, (name, row) in enumerate(rows.items()):
        places = [j + 0.8 * (i / len(rows) - 0.5) for j in range(len(columns))]
        axes.bar(places, [row[column] for column in columns], width=0.8 / len(rows), align="edge", label=name)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_ylabel("exact answers, %")
    axes.set_ylim(max(0, min(min(row.values()) for row in rows.values()) - 5), 100.5)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(rows), frameon=False)
    figure.savefig(path, bbox_inches="tight", dpi=120)


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--questions", "n_per_language", type=int, default=300, show_default=True, help="In each language.")
@click.option("--formats", default=",".join(FORMATS), show_default=True, help="GGUF formats; empty for PyTorch alone.")
def main(run: Path, n_per_language: int, formats: str) -> None:
    """Print the tables for RUN, and write evaluation.md, .json and .png into it."""
    results = evaluate(run, n_per_language, [name for name in formats.split(",") if name])
    text = report(results)
    click.echo(text)
    (run / "evaluation.md").write_text(text + "\n", encoding="utf-8")
    values = {name: result.to_dict() for name, result in results.items()}
    (run / "evaluation.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    plot(results, run / "evaluation.png")


if __name__ == "__main__":
    main()
