"""Make vision_*.npz, answers.json and cross_check.json with the PyTorch reference of tests/reference.

pip install '.[goldens]' && python tests/goldens/make_goldens.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER.parent), str(FOLDER.parent / "support")]

from cross_check import compare_with_transformers  # noqa: E402  (after the path is set)
from golden_files import (  # noqa: E402
    VISION_CASES,
    GoldenAnswer,
    GoldenModel,
    GoldenTurn,
    checksum,
    golden_pixels,
    size_of_grid,
    weights_checksum,
)
from pictures import picture  # noqa: E402
from reference import clip_vit, projectors  # noqa: E402
from reference.checkpoint import read_checkpoint  # noqa: E402
from reference.palo import Model  # noqa: E402

QUESTIONS = {
    "en": ["What is in this picture?", "What color is it?"],
    "zh": ["这张图片里有什么？", "它是什么颜色的？"],
    "hi": ["इस तस्वीर में क्या है?", "यह किस रंग का है?"],
    "es": ["¿Qué hay en esta imagen?", "¿De qué color es?"],
    "fr": ["Qu'y a-t-il sur cette image ?", "De quelle couleur est-ce ?"],
    "ar": ["ماذا يوجد في هذه الصورة؟", "ما لونه؟"],
    "bn": ["এই ছবিতে কী আছে?", "এর রং কী?"],
    "ru": ["Что изображено на этой картинке?", "Какого это цвета?"],
    "ur": ["اس تصویر میں کیا ہے؟", "یہ کس رنگ کا ہے؟"],
    "ja": ["この画像には何が写っていますか？", "何色ですか？"],
}
IMAGE = (97, 61)
MAX_TOKENS = 16

# (model, language, image, number of turns)
_ANSWER_CASES: list[tuple[GoldenModel, str, tuple[int, int] | None, int]] = [
    *((GoldenModel(), language, IMAGE, 1) for language in QUESTIONS),
    *((GoldenModel(), language, (61, 97), 2) for language in ("hi", "ur", "ja")),
    (GoldenModel(), "bn", None, 2),
    (GoldenModel(legacy=True), "zh", IMAGE, 2),
    (GoldenModel(image_aspect_ratio="square"), "en", IMAGE, 1),
    (GoldenModel(grid=5), "ar", IMAGE, 1),
    *((GoldenModel("mlp2x_gelu"), language, IMAGE, 2) for language in ("en", "hi")),
    (GoldenModel("mlp2x_gelu", layout="llava", lora=True), "ru", IMAGE, 2),
    *((GoldenModel("mlp3x_gelu"), language, IMAGE, 1) for language in ("fr", "ur")),
    *((GoldenModel("linear"), language, IMAGE, 1) for language in ("es", "bn")),
    *((GoldenModel("identity", grid=5), language, IMAGE, 1) for language in ("en", "ja")),
    *((GoldenModel("ldpnetv2", layout="mobilevlm"), language, IMAGE, 1) for language in ("zh", "hi")),
    (GoldenModel("ldpnet", layout="mobilevlm", seed=1), "ja", IMAGE, 1),
]


def main() -> None:
    torch.set_num_threads(1)  # the same sums on every machine
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        for projector, grid in VISION_CASES:
            save_vision(Path(folder), projector, grid)
        save_answers(Path(folder))
        differences = compare_with_transformers(Path(folder))
    (FOLDER / "cross_check.json").write_text(json.dumps(differences, indent=1) + "\n")
    print(json.dumps(differences, indent=1))


def save_vision(folder: Path, projector: str, grid: int) -> None:
    """Every stage of the vision encoder for one projector and grid."""
    size = size_of_grid(grid).for_projector(projector)
    path = GoldenModel(projector, grid=grid).write(folder / f"{projector}-{grid}")
    checkpoint = read_checkpoint(path)
    pixels = torch.from_numpy(golden_pixels(size))
    hidden = clip_vit.hidden_states(checkpoint.state, checkpoint.vision_config, pixels)
    np.savez_compressed(
        FOLDER / f"vision_{projector}_{grid}x{grid}.npz",
        patch_embeddings=clip_vit.patch_embeddings(checkpoint.state, checkpoint.vision_config, pixels).numpy(),
        hidden_states=hidden.numpy(),
        image_embeddings=projectors.project(checkpoint.state, projector, hidden).numpy(),
        weights_checksum=weights_checksum(size, projector),
        pixels_checksum=checksum(golden_pixels(size)),
    )


def save_answers(folder: Path) -> None:
    answers: list[dict[str, Any]] = []
    checksums: dict[str, str] = {}
    for i, (model, language, image, n_turns) in enumerate(_ANSWER_CASES):
        reference = Model(read_checkpoint(model.write(folder / f"answer{i}")), model.legacy)
        turns = converse(reference, QUESTIONS[language][:n_turns], image)
        answer = GoldenAnswer(model, language, image, MAX_TOKENS, turns)
        answers.append(asdict(answer))
        checksums[answer.name] = model.weights_checksum()
        print(answer.name, [(turn.finish_reason, round(min(turn.margins), 4)) for turn in turns])
    lines = ",\n".join(json.dumps(answer, ensure_ascii=False) for answer in answers)
    content = f'{{"weights_checksums": {json.dumps(checksums, indent=1)},\n"answers": [\n{lines}\n]}}\n'
    (FOLDER / "answers.json").write_text(content, encoding="utf-8")


def converse(model: Model, questions: list[str], image: tuple[int, int] | None) -> list[GoldenTurn]:
    """Ask in turn; an answer stays in the context by the token ids that it came as."""
    turns: list[GoldenTurn] = []
    context = torch.empty(0, model.checkpoint.config["hidden_size"])
    for i, question in enumerate(questions):
        if i:
            prompt = [model.next_prompt(question)]
        elif image is None:
            prompt = [model.text_prompt(question)]
        else:
            prompt = list(model.first_prompt(question))
        parts = [model.embed_tokens(tokens) for tokens in prompt]
        if i == 0 and image is not None:
            parts.insert(1, model.embed_image(picture(*image)))
        reply = model.decode(torch.cat([context, *parts]), MAX_TOKENS)
        context = torch.cat([context, *parts, model.embed_tokens(reply.token_ids)])
        margins = [round(margin, 5) for margin in reply.margins]
        turns.append(GoldenTurn(question, prompt, reply.token_ids, margins, reply.finish_reason))
    return turns


if __name__ == "__main__":
    main()
