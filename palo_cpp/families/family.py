"""What a family of models is: everything in which PALO and a family that is not PALO differ.

Capabilities decide what the rest of the program does, never a family's name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from palo_cpp.decoding.beam_search import BeamModel, BeamOptions
from palo_cpp.ggml.backend import BackendMode
from palo_cpp.ggml.gguf_header import GgufHeader
from palo_cpp.llm.language_model import LanguageModel
from palo_cpp.llm.text_sizes import TextSizes
from palo_cpp.segments import ImageSegment, Segment, Tokenizer, Turn
from palo_cpp.vision.encoder import Precision
from palo_cpp.vision.image_encoder import ImageEncoder


@dataclass(frozen=True)
class Capabilities:
    """What the models of a family can do.

    Attributes:
        reuses_prefix: keys and values of a prompt's beginning serve a later prompt that begins alike. Without it every
            question prefills its whole prompt, nothing is prefilled ahead or kept in session files, and answers side by
            side are made one after the other.
        beam: answers are searched on several paths with these options; None where one path is decoded, token by token.
        has_byte_tokens: tokens are pieces of UTF-8, so that a character may take several of them.
        n_images: pictures that a conversation may show; None where the context alone decides.
        has_system: prompts have a place for a text of the caller's that opens them.
    """

    reuses_prefix: bool = True
    beam: BeamOptions | None = None
    has_byte_tokens: bool = True
    n_images: int | None = None
    has_system: bool = True

    @property
    def n_beams(self) -> int:
        """Paths that are followed at once, at most and by default."""
        return self.beam.n_beams if self.beam else 1


# Whether a model has a second file, with vision tower and projector: it must, it may, or it never does.
MmprojUse = Literal["needed", "optional", "none"]


@dataclass(frozen=True)
class LoadOptions:
    """How to load a model; see `Palo`.

    Attributes:
        n_ctx: tokens of context; 0 takes what the model was trained with.
        n_threads: threads that compute; 0 takes the physical cores this process may use.
        vision_precision: arithmetic of the vision encoder.
        backend: the language model's kernels.
        n_parallel: answers at once, each with `n_ctx` tokens of context.
    """

    n_ctx: int = 0
    n_threads: int = 0
    vision_precision: Precision = "int8"
    backend: BackendMode = "auto"
    n_parallel: int = 1


class Family(Protocol):
    """One family of models.

    Attributes:
        name: for error messages and `show`.
        capabilities: what its models can do.
        system: text that opens the prompt where a caller gives none.
        defaults: decoding options of the family, where a caller gives none: fields of `DecodingOptions`.
        image_modes: ways to make an image square, the default of old files first.
        mmproj: whether a model has a second file, with vision tower and projector.
    """

    name: str
    capabilities: Capabilities
    system: str
    defaults: Mapping[str, Any]
    image_modes: tuple[str, ...]
    mmproj: MmprojUse

    def recognizes(self, text: GgufHeader) -> bool:
        """Whether a file of a language model is one of this family."""
        ...

    def check(self, text: GgufHeader) -> None:
        """Refuse a file of this family that could not be loaded.

        Raises:
            ModelFormatError: what is wrong with it.
        """
        ...

    def sizes(self, text: GgufHeader) -> TextSizes:
        """The language model's sizes; the header was checked."""
        ...

    def context_bytes(self, text: GgufHeader, *, n_ctx: int) -> tuple[int, int] | None:
        """(Keys and values, buffers to compute with) of a context that is not llama.cpp's; None where it is."""
        ...

    def languages(self, text: GgufHeader) -> tuple[str, ...]:
        """Codes of the languages that the model answers in."""
        ...

    def open_language_model(self, text: GgufHeader, options: LoadOptions) -> LanguageModel | BeamModel:
        """Load the language model: a `LanguageModel`, or a `BeamModel` where `capabilities.beam` says so."""
        ...

    def open_encoder(self, mmproj: GgufHeader | None, *, n_threads: int, precision: Precision) -> ImageEncoder | None:
        """Load what turns pixels into image embeddings; None where the model has nothing that does, and reads texts."""
        ...

    def prompt(self, tokenizer: Tokenizer, turns: Sequence[Turn], *, system: str) -> list[Segment]:
        """Lay out a conversation as the model was trained to see it; the last turn is to be answered."""
        ...

    def prompt_prefix(
        self, tokenizer: Tokenizer, turns: Sequence[Turn], images: Sequence[ImageSegment], *, system: str
    ) -> list[Segment]:
        """What every prompt begins with that continues these turns and shows these images next.

        Empty where `capabilities.reuses_prefix` is not given.
        """
        ...

    def prompt_text(self, turns: Sequence[Turn], *, system: str) -> str:
        """The prompt as one string, for people to read."""
        ...

    def notice(self, text: GgufHeader) -> str | None:
        """What a user must know of this model before anything else; None where there is nothing."""
        ...

    def advice(self, text: GgufHeader, languages: Collection[str]) -> str | None:
        """What a user should know before an answer in one of these languages; None where there is nothing.

        Args:
            text: header of the language model's file.
            languages: codes: one, or all that the answer may be in.
        """
        ...
