"""The published PALO models: MobilePALO-1.7B, PALO-7B and PALO-13B.

Sizes: arXiv 2402.14818 and the `config.json` of the bases, MobileLLaMA-1.4B-Chat and vicuna-v1.5; the tower is
openai/clip-vit-large-patch14-336, of which layer 23 of 24 is the last that runs.
"""

from __future__ import annotations

from palo_cpp.families.palo.image_tokens import n_image_tokens
from palo_cpp.families.published import Evaluation, License, PublishedModel, VisionCost
from palo_cpp.llm.text_sizes import TextSizes

_CLIP = "openai/clip-vit-large-patch14-336"
_IMAGE, _PATCH, _WIDTH, _FEED_FORWARD, N_TOWER_LAYERS = 336, 14, 1024, 4096, 23
_N_VOCAB = 32000

# Tokens of `vicuna_v1` around an image: 36 before it, 16 of a short question after it.
N_PROMPT_TOKENS = 36 + 16

# LLaMA's vocabulary, over all messages of Django 5.1's catalogues that are longer than 28 characters (Chinese and
# Japanese: 14), placeholders taken out; in scripts without spaces two characters count as a word. Made by
# `python benchmarks/tokens_per_word.py VOCABULARY.gguf`. Article 1 of the Declaration of Human Rights is within 17 %.
TOKENS_PER_WORD = {
    "en": 1.35,
    "zh": 2.88,
    "hi": 5.63,
    "es": 1.85,
    "fr": 1.75,
    "ar": 5.0,
    "bn": 7.93,
    "ru": 2.62,
    "ur": 4.88,
    "ja": 2.48,
}

EVALUATION = Evaluation(
    benchmark="LLaVA-Bench (In-the-Wild), translated into the ten languages: 24 images, 60 questions",
    judge="GPT-4",
    source="PALO, arXiv 2402.14818, table 1",
)
_SCORED_IN = ("en", "zh", "fr", "es", "ru", "ja", "ar", "hi", "bn", "ur")  # the table's columns
_SCORES = {
    "mobile": (48.2, 34.0, 42.6, 40.1, 38.2, 32.5, 32.8, 26.8, 19.9, 24.1),
    "7b": (64.2, 55.7, 58.3, 61.0, 57.4, 57.5, 57.8, 57.6, 51.7, 55.3),
    "13b": (65.5, 62.1, 66.4, 65.9, 62.4, 60.6, 56.9, 66.8, 53.5, 59.6),
}

_APACHE = "Apache License 2.0", "https://www.apache.org/licenses/LICENSE-2.0"
_LLAMA_2 = "Llama 2 Community License Agreement", "https://ai.meta.com/llama/license/"
_MIT = "MIT License", "https://github.com/openai/CLIP/blob/main/LICENSE"


def clip_cost(n_layer: int, projector: str, n_embd: int) -> VisionCost:
    """What CLIP ViT-L/14-336 and a projector cost.

    Args:
        n_layer: layers of the tower that run.
        projector: `mlp` (two linear layers) or `ldp`.
        n_embd: width of the language model.
    """
    n_patches = (_IMAGE // _PATCH) ** 2
    n_tokens, n_pixels = n_patches + 1, 3 * _PATCH**2
    matrices = 4 * _WIDTH**2 + 2 * _WIDTH * _FEED_FORWARD
    layer = matrices + 4 * _WIDTH + _FEED_FORWARD + _WIDTH + 4 * _WIDTH  # biases, then two layer norms
    embeddings = _WIDTH + _WIDTH * n_pixels + n_tokens * _WIDTH + 2 * _WIDTH
    n_image = n_image_tokens(projector, _IMAGE // _PATCH)
    weights, products = _projector_cost(projector, n_embd, n_patches, n_image)
    attention = 2 * n_tokens**2 * _WIDTH
    products += n_patches * n_pixels * _WIDTH + n_layer * (n_tokens * matrices + attention)
    return VisionCost(embeddings + n_layer * layer + weights, products, n_image)


def _projector_cost(projector: str, n_embd: int, n_patches: int, n_image: int) -> tuple[int, int]:
    """(weights, multiplications)."""
    linear = _WIDTH * n_embd + n_embd**2
    weights, products = linear + 2 * n_embd, n_patches * linear
    if projector == "ldp":  # two blocks: depthwise 3x3, squeeze-and-excitation to a quarter, pointwise
        squeezed = n_embd // 4
        weights += 2 * (9 * n_embd + 2 * n_embd * squeezed + squeezed + n_embd + n_embd**2 + 4 * n_embd)
        products += (n_patches + n_image) * (n_embd**2 + 9 * n_embd)
    return weights, products


def _text(n_embd: int, n_ff: int, n_layer: int, n_head: int, n_ctx_train: int) -> TextSizes:
    n_head_width = n_embd // n_head
    return TextSizes(
        n_embd=n_embd,
        n_ff=n_ff,
        n_layer=n_layer,
        n_head=n_head,
        n_head_kv=n_head,
        n_key=n_head_width,
        n_value=n_head_width,
        n_vocab=_N_VOCAB,
        n_ctx_train=n_ctx_train,
        n_ctx=2048,  # what PALO was trained with
    )


def _model(name: str, title: str, text: TextSizes, projector: str, base: tuple[str, tuple[str, str]]) -> PublishedModel:
    checkpoint, (base_name, base_terms) = f"MBZUAI/{title}", base
    return PublishedModel(
        family="palo",
        title=title,
        checkpoint=checkpoint,
        vision_tower=_CLIP,
        text=text,
        vision=clip_cost(N_TOWER_LAYERS, projector, text.n_embd),
        n_prompt_tokens=N_PROMPT_TOKENS,
        tokens_per_word=TOKENS_PER_WORD,
        scores=dict(zip(_SCORED_IN, _SCORES[name], strict=True)),
        evaluation=EVALUATION,
        licenses=(License(checkpoint, *_APACHE), License(base_name, *base_terms), License(_CLIP, *_MIT)),
    )


# Name that users give -> model, the smallest first.
PUBLISHED = {
    "mobile": _model(
        "mobile",
        "MobilePALO-1.7B",
        _text(2048, 5632, 24, 16, 2048),
        "ldp",
        ("mtgv/MobileLLaMA-1.4B-Chat", _APACHE),
    ),
    "7b": _model("7b", "PALO-7B", _text(4096, 11008, 32, 32, 4096), "mlp", ("lmsys/vicuna-7b-v1.5", _LLAMA_2)),
    "13b": _model("13b", "PALO-13B", _text(5120, 13824, 40, 40, 4096), "mlp", ("lmsys/vicuna-13b-v1.5", _LLAMA_2)),
}
