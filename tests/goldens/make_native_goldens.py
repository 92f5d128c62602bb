"""Make native_llava.npz with transformers' own LlavaForConditionalGeneration.

pip install '.[goldens]' && python tests/goldens/make_native_goldens.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER.parent), str(FOLDER.parent / "support")]

from golden_files import checksum  # noqa: E402  (after the path is set)
from native_checkpoint import (  # noqa: E402
    NATIVE_SIZE,
    golden_pixels,
    golden_prompt,
    native_tensors,
    write_native_checkpoint,
)
from tokenizer_files import read_tokenizer_json  # noqa: E402

QUESTIONS = {
    "en": "What is in this picture?",
    "zh": "这张图片里有什么？",
    "hi": "इस तस्वीर में क्या है?",
    "es": "¿Qué hay en esta imagen?",
    "fr": "Qu'y a-t-il sur cette image ?",
    "ar": "ماذا يوجد في هذه الصورة؟",
    "bn": "এই ছবিতে কী আছে?",
    "ru": "Что изображено на этой картинке?",
    "ur": "اس تصویر میں کیا ہے؟",
    "ja": "この画像には何が写っていますか？",
}


def main() -> None:
    torch.set_num_threads(1)  # the same sums on every machine
    with tempfile.TemporaryDirectory() as folder:
        save_logits(write_native_checkpoint(Path(folder) / "llava"))


def encode(text: str) -> list[int]:
    """As a text is tokenized that stands alone."""
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(read_tokenizer_json("always")))
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def save_logits(folder: Path) -> None:
    """Logits after a question about an image, in ten languages, and the image's embeddings; all in float32."""
    model = transformers.LlavaForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    pixels = torch.from_numpy(golden_pixels())[None]
    logits, prompts = [], {}
    with torch.inference_mode():
        for language, question in QUESTIONS.items():
            before, after = [1, *encode("USER: ")], encode(f"\n{question} ASSISTANT:")
            ids = torch.tensor([golden_prompt(NATIVE_SIZE, before, after)])
            output = model(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids))
            logits.append(output.logits[0, -1].numpy())
            prompts[language] = [before, after]
        embeddings = model.get_image_features(pixel_values=pixels, return_dict=True).pooler_output[0]
    tensors = native_tensors()
    np.savez_compressed(
        FOLDER / "native_llava.npz",
        logits=np.stack(logits),
        image_embeddings=embeddings.reshape(NATIVE_SIZE.n_patches, -1).numpy(),
        prompts=json.dumps(prompts),
        weights_checksum=checksum(*(tensors[name] for name in sorted(tensors))),
        pixels_checksum=checksum(golden_pixels()),
    )


if __name__ == "__main__":
    main()
