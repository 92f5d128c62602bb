"""What every language model offers, whatever its family: tokens of text, text of tokens, an end."""

from __future__ import annotations

from typing import Protocol

from palo_cpp.llm.token_table import TokenTable
from palo_cpp.segments import SizedTokenizer


class TextModel(SizedTokenizer, Protocol):
    """A loaded language model, as far as a conversation needs to know it.

    Attributes:
        n_embd: width of an embedding.
        n_vocab: tokens.
        n_threads: threads that compute.
    """

    n_embd: int
    n_vocab: int
    n_threads: int

    @property
    def token_table(self) -> TokenTable:
        """What every token means."""
        ...

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        ...

    def close(self) -> None:
        """Free the model. Closing twice does nothing."""
        ...
