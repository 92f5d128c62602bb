"""PALO, and with it LLaVA-1.5 and MobileVLM, as a `Family`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from palo_cpp.errors import ModelFormatError
from palo_cpp.families.family import Capabilities, LoadOptions, MmprojUse
from palo_cpp.families.palo.prompt import SYSTEM, prompt_prefix, prompt_segments, prompt_text
from palo_cpp.families.palo.weak_languages import weak_language_advice
from palo_cpp.ggml.gguf_header import GgufHeader
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.llm.gguf_checks import check_language_model
from palo_cpp.llm.language_model import LanguageModel
from palo_cpp.llm.text_sizes import TextSizes
from palo_cpp.segments import ImageSegment, Segment, Tokenizer, Turn
from palo_cpp.vision.encoder import Precision, VisionEncoder

# PALO-Nano, the demo that comes with the package (nano/ trains it).
NANO_NAME = "PALO-Nano"


class PaloFamily:
    """CLIP, a projector, LLaMA, and the prompt `vicuna_v1`; see `Family`."""

    name = "PALO"
    capabilities = Capabilities()
    system = SYSTEM
    defaults: Mapping[str, Any] = MappingProxyType({})  # those of `DecodingOptions` are PALO's
    image_modes: tuple[str, ...] = ("pad", "crop")
    mmproj: MmprojUse = "needed"

    def recognizes(self, text: GgufHeader) -> bool:
        """Any LLaMA: which projector goes before it is the mmproj file's matter."""
        return text.metadata.get("general.architecture") == "llama"

    def check(self, text: GgufHeader) -> None:
        """Refuse what llama.cpp would end the process over."""
        check_language_model(text)

    def sizes(self, text: GgufHeader) -> TextSizes:
        """From the keys `llama.*`."""
        return TextSizes.of(text)

    def context_bytes(self, text: GgufHeader, *, n_ctx: int) -> tuple[int, int] | None:  # noqa: ARG002
        """It is llama.cpp's."""
        return None

    def languages(self, text: GgufHeader) -> tuple[str, ...]:
        """Those that the file names; all ten where it names none."""
        named = tuple(code for code in text.languages if code in LANGUAGES)
        return named or tuple(LANGUAGES)

    def open_language_model(self, text: GgufHeader, options: LoadOptions) -> LanguageModel:
        """llama.cpp's, with our kernels under it."""
        return LanguageModel(
            text.path,
            n_ctx=options.n_ctx,
            n_threads=options.n_threads,
            n_parallel=options.n_parallel,
            backend=options.backend,
            header=text,
        )

    def open_encoder(self, mmproj: GgufHeader | None, *, n_threads: int, precision: Precision) -> VisionEncoder:
        """CLIP and projector in our C++."""
        if mmproj is None:
            raise ModelFormatError("mmproj: expected a file of vision tower and projector, got none")
        return VisionEncoder(mmproj.path, n_threads=n_threads, precision=precision)

    def prompt(self, tokenizer: Tokenizer, turns: Sequence[Turn], *, system: str) -> list[Segment]:
        """`vicuna_v1`."""
        return prompt_segments(tokenizer, turns, system=system)

    def prompt_prefix(
        self, tokenizer: Tokenizer, turns: Sequence[Turn], images: Sequence[ImageSegment], *, system: str
    ) -> list[Segment]:
        """Up to where the next question's text begins."""
        return prompt_prefix(tokenizer, turns, images, system=system)

    def prompt_text(self, turns: Sequence[Turn], *, system: str) -> str:
        """With `<image>` and `</s>` where they are."""
        return prompt_text(turns, system=system)

    def notice(self, text: GgufHeader) -> str | None:
        """What a user must know of the demo."""
        if text.metadata.get("general.name") != NANO_NAME:
            return None
        return (
            f"{NANO_NAME} is only the demo: it knows simple drawings of ten kinds of things, no photos; "
            "`palo-cpp recommend` says which PALO suits this machine, and how it is fetched"
        )

    def advice(self, text: GgufHeader, languages: Collection[str]) -> str | None:
        """MobilePALO is weak in three languages."""
        return weak_language_advice(text, languages)
