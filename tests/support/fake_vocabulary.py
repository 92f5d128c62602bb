"""A language model that says what a test wants: its vocabulary, and answers decoded with it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from palo_cpp.decoding.decoding import Decoding
from palo_cpp.decoding.options import DecodingOptions
from palo_cpp.llm.token_table import TokenTable

EOS = 256


class FakeModel:
    """A vocabulary of the 256 bytes, `</s>` and words, the first of them with the id EOS + 1."""

    def __init__(self, words: Sequence[bytes] = ()) -> None:
        self.words = words

    @cached_property
    def token_table(self) -> TokenTable:
        pieces = (*(bytes([byte]) for byte in range(EOS)), b"", *self.words)
        return TokenTable(pieces, np.arange(len(pieces)) == EOS)

    def logits(self, *tokens: int) -> np.ndarray:
        """The first of the tokens is the likeliest, the next one the second; all others follow by their number."""
        logits = -np.arange(len(self.token_table.pieces), dtype=np.float32)
        logits[list(tokens)] = 10 + np.arange(len(tokens), 0, -1, dtype=np.float32)
        return logits


def decode(
    tokens: Sequence[int], model: FakeModel | None = None, n_room: int = 10_000, **options: Any
) -> tuple[Decoding, list[str]]:
    """Let a model say `tokens`, then `</s>` for ever."""
    model = model or FakeModel()
    script = itertools.chain(tokens, itertools.repeat(EOS))
    decoding = Decoding(model, DecodingOptions(**options))
    pieces = list(decoding.pieces(model.logits(next(script), EOS), lambda _: model.logits(next(script), EOS), n_room))
    assert decoding.text == "".join(pieces)
    assert "" not in pieces
    return decoding, pieces
