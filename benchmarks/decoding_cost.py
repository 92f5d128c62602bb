"""What choosing a token costs beside computing it: python benchmarks/decoding_cost.py VOCABULARY.gguf [SECONDS].

Any GGUF file with a SentencePiece vocabulary will do. Text in each of three languages is spelled token by token through
`Decoding`, greedily, with logits of the true size; printed is the median of runs in microseconds of processor time per
token, without the making of the logits. `argmax` is what no decoding can go below.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from statistics import median

import numpy as np

from palo_cpp.decoding.decoding import Decoding
from palo_cpp.decoding.options import DecodingOptions
from palo_cpp.decoding.utf8_constraint import Utf8Constraint, utf8_masks
from palo_cpp.ggml.llama_library import llama_library
from palo_cpp.llm.token_table import TokenTable
from palo_cpp.llm.vocabulary import Vocabulary

TEXTS = {
    "en": "Line {i}: the dog number {j} runs over the grass, and a cat looks at {k} birds. ",
    "hi": "पंक्ति {i}: कुत्ता {j} घास पर दौड़ रहा है और बिल्ली {k} पक्षियों को देख रही है। ",
    "zh": "第{i}行：{j}号狗在草地上跑，猫看着{k}只鸟。",
}
N_TOKENS = 1000


@dataclass(frozen=True)
class Model:
    """A model with a vocabulary and nothing else."""

    token_table: TokenTable


def load(path: str) -> Vocabulary:
    """The vocabulary of a GGUF file, without its weights."""
    llama = llama_library()
    params = llama.llama_model_default_params()
    params.vocab_only = True
    return Vocabulary(llama, llama.llama_model_load_from_file(path.encode(), params), path, threading.RLock())


def us_per_token(model: Model, tokens: list[int], options: DecodingOptions) -> float:
    """Microseconds of processor time for each of the tokens."""
    logits = np.zeros(len(model.token_table.pieces), np.float32)
    decoding, spent = Decoding(model, options), 0.0
    for token in tokens:
        logits[token] = 10
        begun_at = time.thread_time()
        decoding.take(logits)
        spent += time.thread_time() - begun_at
        logits[token] = 0
    decoding.finish()
    assert decoding.token_ids == tokens, "the text was changed"
    return spent / len(tokens) * 1e6


def main() -> None:
    """Measure and print."""
    path, seconds = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 3.0
    vocabulary = load(path)
    begun_at = time.thread_time()
    model = Model(vocabulary.token_table)
    Utf8Constraint(utf8_masks(model.token_table)).allowed()
    print(f"tables, once per model: {time.thread_time() - begun_at:.2f} s for {vocabulary.n_tokens} tokens")
    for language, text in TEXTS.items():
        said = "".join(text.format(i=i, j=i * 7919 % 997, k=i * 31 % 89) for i in range(200))
        tokens = vocabulary.tokenize(said)[:N_TOKENS]
        runs, until = [], time.perf_counter() + seconds
        while time.perf_counter() < until or not runs:
            runs.append(us_per_token(model, tokens, DecodingOptions(max_tokens=N_TOKENS)))
        print(f"{language}: {median(runs):.0f} us per token, best run {min(runs):.0f}")
    logits = np.zeros(vocabulary.n_tokens, np.float32)
    begun_at = time.thread_time()
    for _ in range(N_TOKENS):
        logits.argmax()
    print(f"argmax alone: {(time.thread_time() - begun_at) / N_TOKENS * 1e6:.0f} us")


if __name__ == "__main__":
    main()
