"""The published VisCPM-Chat: sizes, scores, licences.

Sizes: OpenBMB/VisCPM, VisCPM/models/beit3.py (`beit3_large_patch16_224`), and the config.json of openbmb/VisCPM-Chat.
"""

from __future__ import annotations

from palo_cpp.families.published import Evaluation, License, PublishedModel, VisionCost
from palo_cpp.llm.text_sizes import TextSizes

CHECKPOINT = "openbmb/VisCPM-Chat"
N_VOCAB = 86583
_IMAGE, _PATCH, _WIDTH, _FEED_FORWARD, _N_LAYER, _N_QUERIES = 224, 16, 1024, 4096, 24, 64

TEXT = TextSizes(
    n_embd=4096,
    n_ff=10240,
    n_layer=48,
    n_head=32,
    n_head_kv=32,
    n_key=128,
    n_value=128,
    n_vocab=N_VOCAB,
    n_ctx_train=3513,
    n_ctx=3513,
    is_tied=True,
)

# Specials, keys and 6 tokens of a short question.
N_PROMPT_TOKENS = 85 - _N_QUERIES + 6
# Of a few sentences whose tokens were worked out with the published vocabulary, which is not here; two Chinese
# characters count as a word.
TOKENS_PER_WORD = {"en": 1.2, "zh": 1.3}

EVALUATION = Evaluation(
    benchmark="LLaVA-Bench (COCO), in English and translated into Chinese: 30 images, 90 questions",
    judge="GPT-4",
    source="VisCPM's README; the method is arXiv 2308.12038",
)
# Checkpoints of the repository: file -> points. The first is what `pull` takes; the second's name on the hub was not
# seen, only that its authors publish it.
SCORES = {
    "pytorch_model.bin": {"en": 81.1, "zh": 86.3},
    "pytorch_model.zhplus.bin": {"en": 79.6, "zh": 88.2},
    "pytorch_model.v1.bin": {"en": 81.5, "zh": 92.5},
}

GENERAL_MODEL_LICENSE = "General Model License (OpenBMB), for individuals and for research; other uses on request"
_TERMS = GENERAL_MODEL_LICENSE, "https://github.com/OpenBMB/General-Model-License"
_BEE_TERMS = "General Model License (OpenBMB); commercial use with a certificate", _TERMS[1]
_MIT = "MIT License", "https://github.com/microsoft/unilm/blob/master/LICENSE"


def beit3_cost(n_embd_text: int) -> VisionCost:
    """What BEiT-3 with its queries and the mapping costs: two sets of weights, and joint attention.

    Args:
        n_embd_text: width of the language model.
    """
    n_patches, n_pixels = (_IMAGE // _PATCH) ** 2, 3 * _PATCH**2
    n_tokens = n_patches + 1 + _N_QUERIES
    matrices = 4 * _WIDTH**2 + 2 * _WIDTH * _FEED_FORWARD
    # Biases of six matrices, then four layer norms of which one is as wide as the feed-forward part.
    side = matrices + 5 * _WIDTH + _FEED_FORWARD + 2 * (3 * _WIDTH + _FEED_FORWARD)
    embeddings = _WIDTH * n_pixels + _WIDTH + n_tokens * _WIDTH
    mapping = _WIDTH * n_embd_text + n_embd_text**2
    n_weights = embeddings + 2 * _N_LAYER * side + 2 * _WIDTH + mapping + 2 * n_embd_text
    token = matrices + 2 * n_tokens * _WIDTH
    # Of the last layer the queries alone are computed, and what they look at: keys and values of all.
    last = _N_QUERIES * token + (n_tokens - _N_QUERIES) * 2 * _WIDTH**2
    products = n_patches * n_pixels * _WIDTH + (_N_LAYER - 1) * n_tokens * token + last
    return VisionCost(n_weights, products + _N_QUERIES * mapping, _N_QUERIES)


def _checkpoint(title: str, file: str, variant: str = "", weights: str = "") -> PublishedModel:
    return PublishedModel(
        family="viscpm",
        title=title,
        checkpoint=CHECKPOINT,
        vision_tower="",  # it is inside
        text=TEXT,
        vision=beit3_cost(TEXT.n_embd),
        n_prompt_tokens=N_PROMPT_TOKENS,
        tokens_per_word=TOKENS_PER_WORD,
        scores=SCORES[file],
        evaluation=EVALUATION,
        licenses=(
            License(CHECKPOINT, *_TERMS),
            License("openbmb/cpm-bee-10b", *_BEE_TERMS),
            License("BEiT-3 (microsoft/unilm)", *_MIT),
        ),
        n_beams=3,
        variant=variant,
        weights=weights,
    )


# Name that users give -> model.
PUBLISHED = {
    "viscpm": _checkpoint("VisCPM-Chat", "pytorch_model.bin"),
    "viscpm-zhplus": _checkpoint("VisCPM-Chat zhplus", "pytorch_model.zhplus.bin", "zhplus", "*zhplus*.bin"),
    "viscpm-v1": _checkpoint("VisCPM-Chat v1.1", "pytorch_model.v1.bin", "v1", "pytorch_model.v1.bin"),
}
