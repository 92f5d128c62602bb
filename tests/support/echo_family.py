"""A second family, as unlike PALO as a family may be: it names the colour of a picture, in Chinese or in English.

One image embedding, one token for a question, whole words for tokens, beam search, no prompt reused, one file.
It goes through the same front door as PALO, so that nothing there takes PALO for granted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter
from numpy.typing import ArrayLike, NDArray
from tiny_gguf import finish

from palo_cpp.decoding.beam_search import BeamOptions
from palo_cpp.errors import ModelFormatError
from palo_cpp.families.family import Capabilities, LoadOptions, MmprojUse
from palo_cpp.ggml.gguf_header import GgufHeader
from palo_cpp.llm.text_sizes import TextSizes
from palo_cpp.llm.token_table import TokenTable
from palo_cpp.segments import ImageSegment, Segment, TextSegment, Tokenizer, Turn

# The trap is the likeliest first word, and leads to nothing that is likely: greedy decoding would fall for it.
END, EN, ZH, TRAP = range(4)
WORDS = [
    "</s>",
    "<en>",
    "<zh>",
    "Uh",
    "It",
    " is",
    " red",
    " green",
    " blue",
    ".",
    "这是",
    "红色",
    "绿色",
    "蓝色",
    "的。",
]
ANSWERS = {EN: ["It", " is", (" red", " green", " blue"), "."], ZH: ["这是", ("红色", "绿色", "蓝色"), "的。"]}


def write_echo(path: Path, languages: Sequence[str] = ("zh", "en")) -> Path:
    """Write the one file of a model."""
    writer = GGUFWriter(path, "echo")
    writer.add_name("Echo")
    writer.add_languages(list(languages))
    writer.add_string("general.type", "model")
    writer.add_tensor("weights", np.zeros(32, np.float32))
    finish(writer)
    return path


class EchoModel:
    """The language model: a `BeamModel`."""

    eos_id, n_ctx, n_embd, n_vocab, n_threads = END, 24, 3, len(WORDS), 1

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}
        self.token_table = TokenTable(tuple(word.encode() for word in WORDS), np.arange(len(WORDS)) == END)
        self.is_closed = False
        self.n_prefilled = 0
        self._busy = threading.Lock()
        self._answer: list[int] = []
        self._paths: list[list[int]] = []

    def tokenize(self, text: str, *, add_bos: bool = False) -> list[int]:
        return [ZH if any("一" <= c <= "鿿" for c in text) else EN]

    def tokenize_continued(self, text: str) -> list[int]:
        return self.tokenize(text)

    def token_table_for(self, segments: Sequence[Segment]) -> TokenTable:
        return self.token_table

    def prefill(
        self,
        segments: Sequence[Segment],
        embeddings: Mapping[str, NDArray[np.float32]],
        *,
        should_stop: Callable[[], bool] | None = None,
    ) -> NDArray[np.float32]:
        self.n_prefilled += sum(map(len, segments))
        last = segments[-1]
        image = next((each for each in segments if isinstance(each, ImageSegment)), None)
        colour = 0 if image is None else int(embeddings[image.content_hash][0].argmax())
        assert isinstance(last, TextSegment)
        words = [word if isinstance(word, str) else word[colour] for word in ANSWERS[last.tokens[-1]]]
        self._answer, self._paths = [WORDS.index(word) for word in words], [[]]
        return self._logits([[]])[0]

    def step(self, parents: Sequence[int], tokens: Sequence[int]) -> NDArray[np.float32]:
        self._paths = [[*self._paths[parent], token] for parent, token in zip(parents, tokens, strict=True)]
        return self._logits(self._paths)

    def _logits(self, paths: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        with self._busy:
            return np.stack([self._row(list(path)) for path in paths])

    def _row(self, path: list[int]) -> NDArray[np.float32]:
        row = np.zeros(len(WORDS), np.float32)
        if path == self._answer[: len(path)]:
            row[[*self._answer, END][len(path)]] = 4.0
            row[TRAP] = 5.0 if not path else 0.0
        return row

    def close(self) -> None:
        self.is_closed = True


@dataclass(frozen=True)
class EchoInfo:
    """The encoder's sizes."""

    image_size: int = 4
    n_image_tokens: int = 1
    n_embd: int = 3
    preprocess: str = "pad"
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)


class EchoEncoder:
    """The vision encoder: the mean colour."""

    version, precision, isa, n_threads, info = "echo 1", "float", "ref", 1, EchoInfo()

    def __init__(self) -> None:
        self.n_encoded = 0

    def encode(self, pixels: ArrayLike) -> NDArray[np.float32]:
        batch = np.asarray(pixels, np.float32)
        self.n_encoded += 1 if batch.ndim == 3 else len(batch)
        means: NDArray[np.float32] = batch.mean(axis=(-2, -1))[..., np.newaxis, :]
        return means

    def close(self) -> None:
        pass


class EchoFamily:
    """The family."""

    name = "Echo"
    capabilities = Capabilities(reuses_prefix=False, beam=BeamOptions(length_penalty=1.0), has_byte_tokens=False)
    system = ""
    defaults: Mapping[str, Any] = {"max_tokens": 9}
    image_modes: tuple[str, ...] = ("pad",)
    mmproj: MmprojUse = "none"

    def recognizes(self, text: GgufHeader) -> bool:
        return text.metadata.get("general.architecture") == "echo"

    def check(self, text: GgufHeader) -> None:
        if "weights" not in text.tensors:
            raise ModelFormatError(f"{text.path.name}: expected weights, got none; write it again")

    def sizes(self, text: GgufHeader) -> TextSizes:
        return TextSizes(3, 3, 1, 1, 1, 3, 3, len(WORDS), EchoModel.n_ctx, EchoModel.n_ctx)

    def context_bytes(self, text: GgufHeader, *, n_ctx: int) -> tuple[int, int] | None:
        return None

    def languages(self, text: GgufHeader) -> tuple[str, ...]:
        return text.languages

    def open_language_model(self, text: GgufHeader, options: LoadOptions) -> EchoModel:
        return EchoModel()

    def open_encoder(self, mmproj: GgufHeader | None, *, n_threads: int, precision: str) -> EchoEncoder:
        return EchoEncoder()

    def prompt(self, tokenizer: Tokenizer, turns: Sequence[Turn], *, system: str) -> list[Segment]:
        images = [image for turn in turns for image in turn.images]
        return [*images, *(TextSegment(tuple(tokenizer.tokenize(turn.question))) for turn in turns)]

    def prompt_prefix(
        self, tokenizer: Tokenizer, turns: Sequence[Turn], images: Sequence[ImageSegment], *, system: str
    ) -> list[Segment]:
        return []

    def prompt_text(self, turns: Sequence[Turn], *, system: str) -> str:
        return " | ".join(turn.question for turn in turns)

    def notice(self, text: GgufHeader) -> str | None:
        return None

    def advice(self, text: GgufHeader, languages: Collection[str]) -> str | None:
        return None
