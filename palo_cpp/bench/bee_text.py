"""CPM-Bee as it is timed: whole prompts, whose tokens see each other, then one path of an answer or several."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from palo_cpp.bench.timed_text import N_TOKENS_AFTER, Embeddings, seconds, some_tokens
from palo_cpp.llm.cpm_bee_model import CpmBeeModel
from palo_cpp.llm.cpm_bee_prompt import BeePrompt

# A chat's request has nodes 0 to 7 and its answer is node 8 (families/viscpm/protocol.py). How they relate decides
# which bias is added, which takes no other time.
_ANSWER = 8
_RELATION = 10  # of two keys
_N_BEFORE, _N_AROUND = 7, 16 + 3  # tokens of a request before its image, and of all of it but image and question


class BeeText:
    """See `TimedText`.

    Args:
        model: the language model.
    """

    def __init__(self, model: CpmBeeModel) -> None:
        self._model = model
        self._held = 0  # tokens of the prompt that the model holds, if no answer's

    def prefill_s(self, n_tokens: int) -> float:
        """Seconds to take a prompt."""
        elapsed_s = seconds(lambda: self._model.prefill(_prompt(n_tokens)))
        self._held = n_tokens
        return elapsed_s

    def generate_s(self, n_tokens: int, n_prompt: int, n_paths: int) -> float:
        """Seconds to decode tokens one by one after a prompt, which is taken once for several calls."""
        if self._held == n_prompt:
            self._model.rewind()
        else:
            self.prefill_s(n_prompt)
        self._step([0] * n_paths, 0)
        # As in a search: one path goes on twice, another ends.
        parents = [0, *range(n_paths - 1)]

        def generate() -> None:
            for i in range(n_tokens):
                self._step(parents, i + 1)

        return seconds(generate)

    def first_token_s(self, encode: Callable[[], Embeddings]) -> float:
        """Seconds from preprocessed image to first token."""
        self._held = 0

        def answer() -> None:
            embeddings = encode()
            n_tokens = _N_AROUND + len(embeddings) + N_TOKENS_AFTER + 1  # the last one begins the answer
            self._model.prefill(_prompt(n_tokens, {_N_BEFORE: embeddings}))

        return seconds(answer)

    def logits(self, n_tokens: int, n_single: int) -> NDArray[np.float32]:
        """Logits [n_single + 1, n_vocab] after a prompt and after each token that is decoded one by one."""
        self._held = 0
        found = [self._model.prefill(_prompt(n_tokens - n_single))]
        found += [self._step([0], i)[0] for i in range(n_single)]
        return np.stack(found)

    def _step(self, parents: list[int], position: int) -> NDArray[np.float32]:
        n = len(parents)
        tokens = some_tokens(position + n)[-n:]
        return self._model.step(parents, tokens, segments=[_ANSWER] * n, positions=[position] * n)


def _prompt(n: int, images: dict[int, Embeddings] | None = None) -> BeePrompt:
    """A request of `n` tokens, all of which are context."""
    nodes = [min(_ANSWER - 1, i * _ANSWER // n) for i in range(n)]
    relations = np.where(np.eye(_ANSWER + 1, dtype=bool), 0, _RELATION).astype(np.int32)
    return BeePrompt(some_tokens(n), [0] * n, nodes, range(n), np.ones(n, np.int32), relations, images or {})
