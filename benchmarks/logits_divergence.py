"""How far logits lie from llama.cpp's with our kernels, and how far llama.cpp's own settings move them.

    python benchmarks/logits_divergence.py [OUTTYPE ...] [--seeds N] [--threads N]

Random 1.4B weights (in the cache that `palo-cpp bench --synthetic` uses), random tokens: 128 at once, 16 one by one.
Prints mean and worst of the Kullback-Leibler divergences, in nats, from llama.cpp as it is by default.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palo_cpp.bench.fidelity import compare_logits
from palo_cpp.bench.palo_sizes import PALO_MODELS
from palo_cpp.bench.synthetic import synthetic_text
from palo_cpp.ggml.llama_library import llama_library
from palo_cpp.llm.language_model import LanguageModel

N_TOGETHER, N_SINGLE, N_CTX = 128, 16, 256
FIRST_TOKEN = 259  # after the control tokens and bytes

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Side:
    """Whose kernels, and llama.cpp's settings: weights repacked for the CPU, flash attention (-1: its choice)."""

    name: str
    is_ours: bool = False
    is_repacked: bool = True
    flash_attention: int = -1


SIDES = (
    Side("palo_cpp", is_ours=True),
    Side("llama.cpp, weights not repacked", is_repacked=False),
    Side("llama.cpp, no flash attention", flash_attention=0),
)


@contextmanager
def changed(side: Side) -> Iterator[None]:
    """llama.cpp's defaults as the side has them, while a model is loaded."""
    library: Any = llama_library()
    defaults = library.llama_model_default_params, library.llama_context_default_params

    def model_parameters() -> Any:
        parameters = defaults[0]()
        parameters.use_extra_bufts = side.is_repacked
        return parameters

    def context_parameters() -> Any:
        parameters = defaults[1]()
        parameters.flash_attn_type = side.flash_attention
        return parameters

    library.llama_model_default_params, library.llama_context_default_params = model_parameters, context_parameters
    try:
        yield
    finally:
        library.llama_model_default_params, library.llama_context_default_params = defaults


def logits(path: Path, side: Side, n_seeds: int, n_threads: int) -> list[Logits]:
    """Per seed the logits [n_tokens, n_vocab] after each of its random tokens."""
    with changed(side):
        model = LanguageModel(path, n_ctx=N_CTX, n_threads=n_threads, backend="palo" if side.is_ours else "cpu")
    found = []
    for seed in range(n_seeds):
        tokens = np.random.default_rng(seed).integers(FIRST_TOKEN, model.n_vocab, N_TOGETHER + N_SINGLE).tolist()
        model.remove(0)
        together = model.decode(tokens[:N_TOGETHER], position=0, all_logits=True)
        singles = [model.decode([token], position=N_TOGETHER + i) for i, token in enumerate(tokens[N_TOGETHER:])]
        found.append(np.concatenate([together, np.reshape(singles, (N_SINGLE, -1))]))
    return found


def main() -> None:
    """Print a line per type and side."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("outtypes", nargs="*", default=["q4_0", "q4_k_m"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    for outtype in given.outtypes:
        path = synthetic_text(PALO_MODELS["mobile"], outtype)
        reference = logits(path, Side("llama.cpp"), given.seeds, given.threads)
        for side in SIDES:
            sides = logits(path, side, given.seeds, given.threads)
            found = [compare_logits(ours, theirs) for ours, theirs in zip(sides, reference, strict=True)]
            mean = np.mean([one["logits_kl"] for one in found])
            worst = [f"{one['logits_kl_max']:.2e}" for one in found]
            print(f"{outtype:8} {side.name:32} mean {mean:.2e}  worst of each seed {', '.join(worst)}", flush=True)


if __name__ == "__main__":
    main()
