"""What a user should know of MobilePALO and a language before waiting for an answer."""

from __future__ import annotations

from collections.abc import Collection

from palo_cpp.ggml.gguf_header import GgufHeader
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.machine import memory_available

# What MobilePALO answers clearly worst in: 19.9, 24.1 and 26.8 points in the paper (arXiv 2402.14818), where its other
# languages have 32.5 and more, and PALO-7B has 51.7 and more in all ten.
WEAK_LANGUAGES = {code: LANGUAGES[code].english_name for code in ("bn", "ur", "hi")}
# Width of MobilePALO's decoder; PALO-7B's is 4096, PALO-Nano's far smaller.
_MOBILE_WIDTH = 2048
# PALO-7B as Q4_K_M: 4.4 GiB of files and 1 GiB for 2048 tokens of context.
_LARGE_MODEL_BYTES = 6 << 30


def weak_language_advice(text: GgufHeader, languages: Collection[str]) -> str | None:
    """One sentence where a MobilePALO is asked for its weak languages only; None otherwise.

    Args:
        text: header of the text model.
        languages: codes: of the answer's language, or of all that it may be in.
    """
    name = str(text.metadata.get("general.name", ""))
    width = text.metadata.get("llama.embedding_length", text.numbers.get("llama.embedding_length"))
    is_mobile = "palo" in name.casefold() and width == _MOBILE_WIDTH
    if not is_mobile or not languages or not set(languages) <= WEAK_LANGUAGES.keys():
        return None
    available = memory_available()
    fits = available is None or available >= _LARGE_MODEL_BYTES
    return f"{name} is weak in {', '.join(WEAK_LANGUAGES.values())}; PALO-7B answers better" + (
        ", and this machine has the memory for it" if fits else ", where 6 GiB of memory are free"
    )
