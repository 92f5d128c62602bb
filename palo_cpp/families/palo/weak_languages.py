"""What a user should know about a model and a language before waiting for an answer."""

from __future__ import annotations

import logging
from collections.abc import Callable

from palo_cpp.ggml.gguf_header import GgufHeader
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.machine import memory_available

logger = logging.getLogger(__name__)

# What MobilePALO answers clearly worst in: 19.9, 24.1 and 26.8 points in the paper (arXiv 2402.14818), where its other
# languages have 32.5 and more, and PALO-7B has 51.7 and more in all ten.
WEAK_LANGUAGES = {code: LANGUAGES[code].english_name for code in ("bn", "ur", "hi")}
# Width of MobilePALO's decoder; PALO-7B's is 4096, PALO-Nano's far smaller.
_MOBILE_WIDTH = 2048
# PALO-7B as Q4_K_M: 4.4 GiB of files and 1 GiB for 2048 tokens of context.
_LARGE_MODEL_BYTES = 6 << 30


class LanguageAdvice:
    """Warns once where a MobilePALO is asked for one of its weak languages.

    Args:
        text: header of the text model.
        available: bytes of memory that can be taken; None where it cannot be told.
    """

    def __init__(self, text: GgufHeader, *, available: Callable[[], int | None] = memory_available) -> None:
        name = str(text.metadata.get("general.name", ""))
        width = text.metadata.get("llama.embedding_length", text.numbers.get("llama.embedding_length"))
        self._name = name
        self._is_due = "palo" in name.casefold() and width == _MOBILE_WIDTH
        self._available = available

    def heed(self, codes: set[str]) -> None:
        """Take note of the language of an answer to come: one code, or all that it may be."""
        if not (self._is_due and codes and codes <= WEAK_LANGUAGES.keys()):
            return
        self._is_due = False
        available = self._available()
        fits = available is None or available >= _LARGE_MODEL_BYTES
        logger.warning(
            "%s is weak in %s; PALO-7B answers better%s",
            self._name,
            ", ".join(WEAK_LANGUAGES.values()),
            ", and this machine has the memory for it" if fits else ", where 6 GiB of memory are free",
        )
