"""How the language model of a side is timed: prompts, tokens one after another, an image with its first token."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.float32]

# Lengths of `vicuna_v1` around the image, in tokens: the system sentence before it; a short question after it.
N_TOKENS_BEFORE, N_TOKENS_AFTER = 36, 16


class TimedText(Protocol):
    """A language model that is loaded. Nothing that one call leaves in the context counts in the next."""

    def prefill_s(self, n_tokens: int) -> float:
        """Seconds to take a prompt."""

    def generate_s(self, n_tokens: int, n_prompt: int, n_paths: int) -> float:
        """Seconds to decode tokens one by one after a prompt, on so many paths of an answer at once."""

    def first_token_s(self, encode: Callable[[], Embeddings]) -> float:
        """Seconds from preprocessed image to first token: encode, prefill of text, image and question."""


class CausalModel(Protocol):
    """A model whose tokens see those before them alone, so that a prompt may be taken in pieces."""

    def clear(self) -> None:
        """Empty the context."""

    def decode(self, inputs: Sequence[int] | Embeddings, position: int) -> int:
        """Append tokens or embeddings [n, n_embd]; the likeliest next token."""


class CausalText:
    """See `TimedText`.

    Args:
        model: llama.cpp, or ours in its place.
    """

    def __init__(self, model: CausalModel) -> None:
        self._model = model

    def prefill_s(self, n_tokens: int) -> float:
        """Seconds to take a prompt."""
        self._model.clear()
        return seconds(lambda: self._model.decode(some_tokens(n_tokens), 0))

    def generate_s(self, n_tokens: int, n_prompt: int, n_paths: int) -> float:
        """Seconds to decode tokens one by one after a prompt; there is one path."""
        assert n_paths == 1
        self._model.clear()
        self._model.decode(some_tokens(n_prompt), 0)

        def generate() -> None:
            for i, token in enumerate(some_tokens(n_tokens)):
                self._model.decode([token], n_prompt + i)

        return seconds(generate)

    def first_token_s(self, encode: Callable[[], Embeddings]) -> float:
        """Seconds from preprocessed image to first token."""
        self._model.clear()

        def answer() -> None:
            embeddings = encode()
            self._model.decode(some_tokens(N_TOKENS_BEFORE), 0)
            self._model.decode(embeddings, N_TOKENS_BEFORE)
            self._model.decode(some_tokens(N_TOKENS_AFTER), N_TOKENS_BEFORE + len(embeddings))

        return seconds(answer)


def seconds(work: Callable[[], object]) -> float:
    """How long something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def some_tokens(n: int) -> list[int]:
    """The same arbitrary tokens for every side, after special ones and LLaMA's bytes."""
    tokens: list[int] = np.random.default_rng(n).integers(259, 512, n).tolist()
    return tokens
