"""Text to tokens and back, through llama.cpp's SentencePiece tokenizer."""

from __future__ import annotations

import ctypes
import functools
import re
from typing import Any

import numpy as np

from palo_cpp.errors import ArgumentError, ModelFormatError
from palo_cpp.llm.gguf_checks import checked_tokens
from palo_cpp.llm.token_table import TokenTable

# Bytes of a token's text: almost all fit into the first, none that llama.cpp loads is longer than the last.
_PIECE_SIZES = (64, 4096, 1 << 16, 1 << 20)


class Vocabulary:
    """The tokens of one loaded model, which must outlive it.

    Attributes:
        n_tokens: how many there are.
        bos_id, eos_id: `<s>` and `</s>`.
    """

    def __init__(self, llama: Any, model: Any, name: str, lock: Any) -> None:
        self._llama = llama
        self._vocab = llama.llama_model_get_vocab(model)
        self._name = name
        self._lock = lock
        self.n_tokens: int = llama.llama_vocab_n_tokens(self._vocab)
        self.bos_id: int = llama.llama_vocab_bos(self._vocab)
        self.eos_id: int = llama.llama_vocab_eos(self._vocab)

    def tokenize(self, text: str, *, parse_special: bool = False) -> list[int]:
        """Split text into tokens as SentencePiece would, with its dummy prefix space.

        Args:
            text: any text; "" gives no tokens.
            parse_special: read `</s>` and its like as the control tokens they spell. Off, they stay text.

        Returns:
            Token ids.

        Raises:
            ArgumentError: the text is not Unicode, or longer than 2 GiB.
        """
        tokens = self._tokenize(text, parse_special)
        if not parse_special and "<" in text and any(map(self._is_control, tokens)):
            return self._tokenize_harmlessly(text)
        return tokens

    def tokenize_continued(self, text: str) -> list[int]:
        """Split text into tokens without the dummy prefix space, as it continues other text.

        llama.cpp always adds the prefix, so a newline goes first (no piece spans one) and its tokens are cut off.
        """
        prefix, tokens = self.tokenize("\n"), self.tokenize("\n" + text)
        if tokens[: len(prefix)] != prefix:
            raise ModelFormatError(f"{self._name}: expected a tokenizer whose pieces end at newlines; convert it again")
        return tokens[len(prefix) :]

    def _tokenize_harmlessly(self, text: str) -> list[int]:
        """Tokenize text that spells a control token, which llama.cpp's merges may build by accident.

        Differs from SentencePiece: pieces break after each `<`, because else the text could end the conversation.
        """
        first, *rest = re.split(r"(?<=<)", text)
        tokens = self._tokenize(first, False)
        for part in filter(None, rest):
            tokens += self._tokenize("\n" + part, False)[len(self._tokenize("\n", False)) :]
        return tokens

    def _tokenize(self, text: str, parse_special: bool) -> list[int]:
        data = _utf8(text)
        size = len(data) + 2  # a token is at least a byte, and the prefix adds one
        if size >= 2**31:
            raise ArgumentError(f"text: expected less than 2 GiB, got {len(data)} bytes; shorten it")
        buffer = (ctypes.c_int32 * size)()
        with self._lock:
            n = self._llama.llama_tokenize(self._vocab, data, len(data), buffer, size, False, parse_special)
        if n < 0:
            raise ModelFormatError(f"{self._name}: expected at most {size} tokens, got {-n}; convert the model again")
        return list(buffer[:n])

    def _is_control(self, token: int) -> bool:
        return bool(self._llama.llama_vocab_is_control(self._vocab, token))

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token means: one byte of a character, a piece of text, nothing for control tokens."""
        (checked,) = checked_tokens([token], self.n_tokens)
        return self.token_table.pieces[int(checked)]

    def ends_generation(self, token: int) -> bool:
        """True for `</s>` and every other token that ends an answer."""
        (checked,) = checked_tokens([token], self.n_tokens)
        return bool(self.token_table.ends_generation[int(checked)])

    @functools.cached_property
    def token_table(self) -> TokenTable:
        """All tokens, looked up when first asked for."""
        with self._lock:
            buffer = ctypes.create_string_buffer(_PIECE_SIZES[0])
            pieces = tuple(self._piece(token, buffer) for token in range(self.n_tokens))
            is_end = self._llama.llama_vocab_is_eog
            ends = np.fromiter((is_end(self._vocab, token) for token in range(self.n_tokens)), np.bool_, self.n_tokens)
        return TokenTable(pieces, ends)

    def _piece(self, token: int, buffer: ctypes.Array[ctypes.c_char]) -> bytes:
        n = self._llama.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)
        if n >= 0:
            return buffer.raw[:n]
        if len(buffer) == _PIECE_SIZES[-1]:
            raise ModelFormatError(
                f"{self._name}: expected tokens below 1 MiB, got a longer one; convert the model again"
            )
        size = next(size for size in _PIECE_SIZES if size > len(buffer))
        return self._piece(token, ctypes.create_string_buffer(size))


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise ArgumentError("text: expected Unicode, got half of a surrogate pair; check how it was decoded") from None
