"""VisCPM-Chat as a `Family`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from palo_cpp.decoding.beam_search import BeamModel, BeamOptions
from palo_cpp.errors import ModelFormatError
from palo_cpp.families.family import Capabilities, LoadOptions, MmprojUse
from palo_cpp.families.viscpm.beam_model import BeeBeamModel
from palo_cpp.families.viscpm.engine import CpmBeeEngine
from palo_cpp.families.viscpm.protocol import prompt_segments, prompt_text
from palo_cpp.families.viscpm.tokenizer import BOS_ID, BeeTokenizer
from palo_cpp.ggml.gguf_header import GgufHeader
from palo_cpp.llm.cpm_bee_model import CpmBeeModel
from palo_cpp.llm.cpm_bee_sizes import estimate_cpm_bee_memory
from palo_cpp.llm.language_model import LanguageModel
from palo_cpp.llm.text_sizes import TextSizes
from palo_cpp.segments import ImageSegment, Segment, Tokenizer, Turn
from palo_cpp.vision.encoder import Precision, VisionEncoder
from palo_cpp.vision.image_encoder import ImageEncoder

ARCHITECTURE = "cpmbee"
LANGUAGES = ("zh", "en")
# The published loop takes one step more than its 512 tokens and the end: an answer that never ends has 514.
MAX_TOKENS = 514
# Buffers are made for the prompt that is there, and hardly any fills the context: this is a picture and ten turns.
_N_PROMPT = 1024
# Keys that everything below needs.
_SIZES = ("context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count")


class VisCpmFamily:
    """BEiT-3, a mapping, CPM-Bee, and requests that are trees; see `Family`."""

    name = "VisCPM"
    capabilities = Capabilities(
        reuses_prefix=False, beam=BeamOptions(opening=(BOS_ID,)), has_byte_tokens=False, n_images=1, has_system=False
    )
    system = ""
    defaults: Mapping[str, Any] = MappingProxyType({"max_tokens": MAX_TOKENS})
    image_modes: tuple[str, ...] = ("stretch",)
    mmproj: MmprojUse = "optional"  # CPM-Bee alone answers questions without a picture

    def recognizes(self, text: GgufHeader) -> bool:
        """Any CPM-Bee."""
        return text.metadata.get("general.architecture") == ARCHITECTURE

    def check(self, text: GgufHeader) -> None:
        """Refuse what has no sizes or another vocabulary."""
        for key in _SIZES:
            value = text.metadata.get(f"{ARCHITECTURE}.{key}")
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
                raise ModelFormatError(
                    f"{text.path.name}: expected a positive {ARCHITECTURE}.{key}, got {value!r}; "
                    "convert the checkpoint again"
                )
        self.tokenizer(text)

    def tokenizer(self, text: GgufHeader) -> BeeTokenizer:
        """The vocabulary, which the file holds.

        Raises:
            ModelFormatError: it is damaged.
        """
        return BeeTokenizer([token.decode("utf-8", "replace") for token in text.tokens], text.path.name)

    def sizes(self, text: GgufHeader) -> TextSizes:
        """From the keys `cpmbee.*`."""
        return TextSizes.of(text, ARCHITECTURE)

    def context_bytes(self, text: GgufHeader, *, n_ctx: int) -> tuple[int, int] | None:
        """One prompt with the paths of its answer, however many questions wait."""
        n_paths, n_prompt = self.capabilities.n_beams, min(n_ctx, _N_PROMPT)
        memory = estimate_cpm_bee_memory(text, n_ctx=n_ctx, n_paths=n_paths, n_prompt=n_prompt)
        return memory.kv_cache, memory.compute

    def languages(self, text: GgufHeader) -> tuple[str, ...]:
        """Chinese and English: the vocabulary has no other letters."""
        return tuple(code for code in text.languages if code in LANGUAGES) or LANGUAGES

    def open_language_model(self, text: GgufHeader, options: LoadOptions) -> LanguageModel | BeamModel:
        """CPM-Bee as a graph of our own."""
        assert self.capabilities.beam is not None
        model = CpmBeeModel(
            text.path,
            n_ctx=options.n_ctx,
            n_paths=self.capabilities.beam.n_beams,
            n_threads=options.n_threads,
            backend=options.backend,
            header=text,
        )
        return BeeBeamModel(CpmBeeEngine(model), self.tokenizer(text))

    def open_encoder(self, mmproj: GgufHeader | None, *, n_threads: int, precision: Precision) -> ImageEncoder | None:
        """BEiT-3, its queries and the mapping in our C++, where there is a file of them."""
        return None if mmproj is None else VisionEncoder(mmproj.path, n_threads=n_threads, precision=precision)

    def prompt(self, tokenizer: Tokenizer, turns: Sequence[Turn], *, system: str) -> list[Segment]:  # noqa: ARG002
        """The published chat's request; there is no place for a system text."""
        return prompt_segments(self._vocabulary(tokenizer), turns)

    @staticmethod
    def _vocabulary(model: Tokenizer) -> BeeTokenizer:
        vocabulary = getattr(model, "tokenizer", None)
        assert isinstance(vocabulary, BeeTokenizer)  # `open_language_model` made it
        return vocabulary

    def prompt_prefix(
        self,
        tokenizer: Tokenizer,  # noqa: ARG002
        turns: Sequence[Turn],  # noqa: ARG002
        images: Sequence[ImageSegment],  # noqa: ARG002
        *,
        system: str,  # noqa: ARG002
    ) -> list[Segment]:
        """None: a prompt sees itself in both directions, so each word changes all keys."""
        return []

    def prompt_text(self, turns: Sequence[Turn], *, system: str) -> str:  # noqa: ARG002
        """A line for each part of the request."""
        return prompt_text(turns)

    def notice(self, text: GgufHeader) -> str | None:  # noqa: ARG002
        """Nothing before anything else."""
        return None

    def advice(self, text: GgufHeader, languages: Collection[str]) -> str | None:  # noqa: ARG002
        """It is good at both of its languages."""
        return None
