"""Small random language models with true block sizes, and what two runs of one say about each other."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from palo_cpp.bench.fidelity import compare_logits
from palo_cpp.bench.palo_sizes import PALO_MODELS, PaloSizes
from palo_cpp.bench.synthetic import synthetic_text
from palo_cpp.llm.language_model import LanguageModel

Logits = NDArray[np.float32]

# KL of our logits from llama.cpp's at every position, in nats. Observed on these models: at most 3.6e-4 for Q4_0, Q8_0
# and F16, 8.8e-4 under the K types (nine draws of tokens for Q4_K_M and Q6_K).
KL_MAX = 1e-3
# The mean over many positions. Observed: 4.4e-4 at most.
KL_MEAN_MAX = 6e-4
N_FOR_MEAN = 40
# A near-tie: in the reference, our candidate stands behind by less than this share of the logits' standard deviation.
NEAR_TIE = 0.15


def sizes(name: str = "small", **changes: int) -> PaloSizes:
    """A model of 2 layers; rows of 512 and 768 inputs fit every block type."""
    small = {"n_embd": 512, "n_ff": 768, "n_layer": 2, "n_head": 8, "n_head_kv": 8, "head_dim": 64, "n_vocab": 512}
    return dataclasses.replace(
        PALO_MODELS["mobile"], name=name, text=dataclasses.replace(PALO_MODELS["mobile"].text, **{**small, **changes})
    )


def model_file(outtype: str, name: str = "small", **changes: int) -> Path:
    """The GGUF file, made when first asked for, in the folder that PALO_CPP_CACHE names."""
    return synthetic_text(sizes(name, **changes), outtype)


def tokens(n: int, seed: int = 0) -> list[int]:
    """Arbitrary tokens, none of them special."""
    drawn: list[int] = np.random.default_rng(seed).integers(259, 512, n).tolist()
    return drawn


def logits_of(model: LanguageModel, n_together: int = 40, n_single: int = 8) -> Logits:
    """Logits [n_together + n_single, n_vocab] of arbitrary tokens, the last ones decoded one by one."""
    model.remove(0)
    drawn = tokens(n_together + n_single)
    together = model.decode(drawn[:n_together], position=0, all_logits=True)
    singles = [model.decode([token], position=n_together + i) for i, token in enumerate(drawn[n_together:])]
    return np.concatenate([together, np.reshape(singles, (n_single, -1))])


def assert_close(ours: Logits, theirs: Logits) -> None:
    """The divergence is small, and the likeliest token is the same but for near-ties."""
    ours, theirs = np.atleast_2d(ours), np.atleast_2d(theirs)
    found = compare_logits(ours, theirs)
    assert found["logits_kl_max"] < KL_MAX
    assert len(theirs) < N_FOR_MEAN or found["logits_kl"] < KL_MEAN_MAX
    rows = np.arange(len(theirs))
    margins = theirs[rows, theirs.argmax(axis=1)] - theirs[rows, ours.argmax(axis=1)]
    assert margins.max() < NEAR_TIE * theirs.std()
