"""How likely the tokens of an answer were, and which others might have come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palo_cpp.llm.token_table import TokenTable

N_TOP_MAX = 20  # as OpenAI's


@dataclass(frozen=True)
class LikelyToken:
    """A token and how likely it was.

    Attributes:
        piece: its bytes; a character may take several tokens.
        logprob: natural logarithm of the probability that the model gave it, before temperature, narrowing and masks.
    """

    piece: bytes
    logprob: float

    def to_dict(self) -> dict[str, Any]:
        """In OpenAI's form: the text is for people, the bytes are exact."""
        return {
            "token": self.piece.decode("utf-8", errors="replace"),
            "bytes": list(self.piece),
            "logprob": self.logprob,
        }


@dataclass(frozen=True)
class TokenLogprob:
    """One token of an answer.

    Attributes:
        chosen: what came.
        top: the likeliest, best first, as many as were asked for.
    """

    chosen: LikelyToken
    top: tuple[LikelyToken, ...]

    def to_dict(self) -> dict[str, Any]:
        """In OpenAI's form."""
        return {**self.chosen.to_dict(), "top_logprobs": [token.to_dict() for token in self.top]}


def token_logprob(table: TokenTable, logits: NDArray[np.float32], token: int, n_top: int) -> TokenLogprob:
    """How likely a token was.

    Args:
        table: what tokens stand for.
        logits: [n_vocab] f32 from which it was chosen.
        token: its id.
        n_top: how many of the likeliest to name.
    """
    values = logits.astype(np.float64)
    values -= values.max()
    values -= np.log(np.exp(values).sum())

    def likely(i: int) -> LikelyToken:
        return LikelyToken(table.pieces[i], float(values[i]))

    best = np.argpartition(-values, min(n_top, len(values) - 1))[:n_top] if n_top else np.empty(0, np.int64)
    top = tuple(likely(int(i)) for i in best[np.argsort(-values[best], kind="stable")])
    return TokenLogprob(likely(token), top)
