"""Compute the goldens of VisCPM-Chat: stages, logits and answers of small random checkpoints, by tests/reference.

pip install '.[goldens]' && python tests/goldens/make_viscpm_goldens.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "support")]

from pictures import picture  # noqa: E402  (after the path is set)
from reference import beit3, cpm_bee, viscpm  # noqa: E402
from reference.cpm_bee import Found, SearchOptions  # noqa: E402
from viscpm_checkpoint import TINY, write_viscpm_checkpoint  # noqa: E402
from viscpm_goldens import FOLDER, PROMPTS, SEARCH, STAGE_PROMPTS, Question, viscpm_checksum  # noqa: E402

N_GREEDY = 24


def main() -> None:
    """Write both files."""
    torch.set_num_threads(1)  # the same sums on every machine
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        model = viscpm.Model(write_viscpm_checkpoint(Path(folder) / "VisCPM-Chat"))
        pixels = model.pixels(picture(90, 60), TINY.image_size)
        image = model.embed_image(pixels)
        save_stages(model, pixels, image)
        save_answers(model, image)


def save_stages(model: viscpm.Model, pixels: torch.Tensor, image: torch.Tensor) -> None:
    """Everything between pixels and logits."""
    stages = beit3.hidden_states(model.state, pixels)
    arrays: dict[str, Any] = {
        "pixels": pixels,
        "image_embeddings": image,
        "vision_queries": beit3.queries(model.state, pixels),
        **{f"vision_image_{i}": rows for i, (rows, _) in enumerate(stages)},
        **{f"vision_query_{i}": rows for i, (_, rows) in enumerate(stages)},
    }
    for name, question in STAGE_PROMPTS.items():
        prompt = build(model, question)
        answer = [(viscpm.BOS, 0), (25, 0), (cell_of(prompt), 1 if prompt.columns else 0)]
        hidden = model.hidden(prompt, answer, image if question.has_image else None)
        cells = prompt.cells.with_answer(answer, prompt.answer_segment)
        arrays |= {
            f"{name}_embeddings": cpm_bee.embed(model.state, cells.ids, cells.subs),
            f"{name}_bias_rows": cpm_bee.bias_rows(cells, prompt.relations).to(torch.int32),
            f"{name}_hidden": hidden,
            f"{name}_logits": cpm_bee.logits(model.state, hidden, prompt.columns),
        }
    arrays["exact_angles"] = cpm_bee.embed(model.state, [1] * 8, list(range(8)), half_angles=False)
    arrays["half_angles"] = cpm_bee.embed(model.state, [1] * 8, list(range(8)))
    numbers = {name: np.asarray(values) for name, values in arrays.items()}
    np.savez_compressed(FOLDER / "viscpm.npz", weights_checksum=viscpm_checksum(), **numbers)


def cell_of(prompt: viscpm.Prompt) -> int:
    """A token for the answer: a word of the request where it has one of its own."""
    return viscpm.UNK if prompt.columns else 46


def build(model: viscpm.Model, question: Question) -> viscpm.Prompt:
    """The prompt of a question; what people wrote is escaped, as the published chat does not do."""
    history = "".join(f"User: {q}\nAI: {a}\n" for q, a in question.history)
    escaped = [text.replace("<", "<<") for text in (question.text, history)]
    n_queries = TINY.n_queries if question.has_image else None
    return viscpm.build_prompt(model.vocabulary, viscpm.chat_request(*escaped, n_queries=n_queries))


def save_answers(model: viscpm.Model, image: torch.Tensor) -> None:
    """Prompts, greedy answers and the beam search's."""
    records = []
    for question in PROMPTS:
        prompt = build(model, question)
        shown = image if question.has_image else None
        greedy = model.greedy(prompt, shown, N_GREEDY)
        search = model.search(prompt, shown, SearchOptions(**SEARCH))
        records.append(
            {
                "question": question.text,
                "history": question.history,
                "has_image": question.has_image,
                "ids": prompt.cells.ids,
                "subs": prompt.cells.subs,
                "segments": prompt.cells.segments,
                "words": {str(token): text for token, text in prompt.words.items()},
                "greedy": _answer(model, prompt, greedy),
                "beam": _answer(model, prompt, search),
            }
        )
    with (FOLDER / "viscpm_answers.json").open("w", encoding="utf-8") as file:
        lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
        file.write(
            f'{{"weights_checksum": "{viscpm_checksum()}",\n"n_greedy": {N_GREEDY},\n"answers": [\n{lines}\n]}}\n'
        )


def _answer(model: viscpm.Model, prompt: viscpm.Prompt, found: Found) -> dict[str, Any]:
    return {
        "tokens": found.tokens,
        "text": model.text(found.tokens, prompt.words),
        "n_steps": found.n_steps,
        "score": found.score,
        "margin": float(f"{found.margin:.3g}"),
    }


if __name__ == "__main__":
    main()
