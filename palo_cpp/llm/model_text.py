"""What a language model knows of text, whatever its context is doing: tokens of text, and what a token means."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from palo_cpp.forked import ProcessGuard
    from palo_cpp.ggml.gguf_header import Scalar
    from palo_cpp.llm.token_table import TokenTable
    from palo_cpp.llm.vocabulary import Vocabulary


class ModelText(ABC):
    """Text and tokens of an open model; a lock of their own keeps nobody waiting for a step of the context.

    Attributes:
        path: the GGUF file.
        metadata: its metadata, key -> value.
        bos_id: id of the token that begins a prompt.
    """

    path: Path
    metadata: dict[str, Scalar]
    bos_id: int
    _guard: ProcessGuard
    _text_lock: threading.RLock
    _vocabulary: Vocabulary

    def tokenize(self, text: str, *, add_bos: bool = False, parse_special: bool = False) -> list[int]:
        """Split text into tokens as SentencePiece would; see `Vocabulary.tokenize`."""
        bos = [self.bos_id] if add_bos else []
        with self._free_text():
            return bos + self._opened().tokenize(text, parse_special=parse_special)

    def tokenize_continued(self, text: str) -> list[int]:
        """Split text into tokens without the dummy prefix space, as it continues other text."""
        with self._free_text():
            return self._opened().tokenize_continued(text)

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token means: one byte of a character, a piece of text, nothing for control tokens."""
        with self._free_text():
            return self._opened().token_bytes(token)

    def ends_generation(self, token: int) -> bool:
        """True for `</s>` and every other token that ends an answer."""
        with self._free_text():
            return self._opened().ends_generation(token)

    @property
    def token_table(self) -> TokenTable:
        """What every token means; looked up when first asked for."""
        with self._free_text():
            return self._opened().token_table

    @property
    def chat_template(self) -> str | None:
        """The Jinja template that the file carries."""
        return str(self.metadata["tokenizer.chat_template"]) if "tokenizer.chat_template" in self.metadata else None

    def _free_text(self) -> threading.RLock:
        """In a forked child it may be held by a thread that is not there: that is checked first."""
        self._guard.check(self.path.name)
        return self._text_lock

    def _opened(self) -> Vocabulary:
        self._check_open()
        return self._vocabulary

    @abstractmethod
    def _check_open(self) -> None:
        """Refuse a closed model."""
