"""The vocabulary as GGUF stores it, from either of the files that a LLaMA tokenizer comes in.

Which ids a GGUF tokenizer gives depends on tokens, scores and types; rules are those of llama.cpp's
conversion/base.py, `_create_vocab_sentencepiece`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palo_cpp.errors import ModelFormatError

# gguf.TokenType; SentencePiece's ModelProto.SentencePiece.Type uses the same numbers.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_ADDED_SCORE, _PADDING_SCORE = -1000.0, -10000.0  # upstream's; llama.cpp never merges to such tokens


@dataclass(frozen=True)
class TokenTable:
    """The vocabulary as GGUF stores it: one entry of each list for each row of the embedding matrix.

    Attributes:
        tokens: their text, a space as "\u2581".
        scores: llama.cpp merges first what has the highest.
        types: numbers of gguf.TokenType.
        bos_id: of `<s>`.
        eos_id: of `</s>`.
        unk_id: of `<unk>`.
        add_space_prefix: a space comes before the first word of a text.
        legacy: it comes before the first word after a special token too.
        warnings: where llama.cpp may give other ids, one sentence each.
    """

    tokens: list[bytes]
    scores: list[float]
    types: list[int]
    bos_id: int
    eos_id: int
    unk_id: int
    add_space_prefix: bool
    legacy: bool
    warnings: list[str]


class TokenRows:
    """The three columns of the table while they are filled; every row is unused at first."""

    def __init__(self, path: Path, n_vocab: int) -> None:
        """Make `n_vocab` unused rows; `path` is named in complaints."""
        self._path, self._n_vocab = path, n_vocab
        self.tokens = [f"[PAD{i}]".encode() for i in range(n_vocab)]
        self.scores = [_PADDING_SCORE] * n_vocab
        self.types = [UNUSED] * n_vocab
        self._without_row: list[str] = []

    def put(self, token_id: Any, text: bytes | str, score: float, kind: int) -> None:
        """Set one row; ids without a row in the embedding matrix are left out, as upstream does."""
        shown = repr(text if isinstance(text, str) else text.decode("utf-8", "replace"))
        if type(token_id) is not int or token_id < 0:
            raise ModelFormatError(f"{self._path.parent}: token {shown}: expected an id, got {token_id!r}")
        if token_id >= self._n_vocab:
            self._without_row.append(f"{token_id} {shown}")
            return
        try:
            self.tokens[token_id] = text.encode() if isinstance(text, str) else text
        except UnicodeEncodeError:  # JSON can escape half a surrogate pair
            raise ModelFormatError(
                f"{self._path.parent}: token {shown}: expected Unicode text, got half a character"
            ) from None
        self.scores[token_id], self.types[token_id] = score, kind

    @property
    def warnings(self) -> list[str]:
        """Which tokens were left out, in one sentence."""
        n = len(self._without_row)
        if not n:
            return []
        what = f"token {self._without_row[0]} has" if n == 1 else f"{n} tokens (as {self._without_row[0]}) have"
        return [f"{self._path.parent}: {what} no row in the embedding matrix"]

    def put_added(self, token_id: Any, text: str, *, special: bool) -> None:
        """Set the row of a token that was added to the trained vocabulary; the vocabulary's own types say more."""
        has_row = type(token_id) is int and 0 <= token_id < self._n_vocab
        if has_row and self.types[token_id] in (UNKNOWN, CONTROL, BYTE):
            return
        # Spaces are pieces' "\u2581" in the JSON, but llama.cpp looks for added tokens in the plain text.
        content = text if special else text.replace("\u2581", " ")
        self.put(token_id, content, _ADDED_SCORE, CONTROL if special else USER_DEFINED)

    def checked_id(self, name: str, token_id: Any) -> int:
        """The id of a special token, which must have a row."""
        if type(token_id) is not int or not 0 <= token_id < self._n_vocab:
            raise ModelFormatError(f"{self._path}: {name}: expected a token id below {self._n_vocab}, got {token_id!r}")
        return token_id
