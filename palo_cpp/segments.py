"""What all rooms speak of: turns of a conversation, and the segments of the prompt that they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# One position of the context: a token id, a row of an image, or a token whose keys and values came from elsewhere.
Cell = int | tuple[str, int]


class Tokenizer(Protocol):
    """What laying out a prompt needs of a language model."""

    eos_id: int
    metadata: dict[str, Any]

    def tokenize(self, text: str, *, add_bos: bool = False) -> list[int]:
        """Tokens of text on its own, with its dummy prefix."""
        ...

    def tokenize_continued(self, text: str) -> list[int]:
        """Tokens of text without the dummy prefix."""
        ...


class SizedTokenizer(Tokenizer, Protocol):
    """A tokenizer whose model has a context of a certain size."""

    n_ctx: int


@dataclass(frozen=True)
class TextSegment:
    """Token ids in a row.

    Attributes:
        tokens: the ids.
        origin: where keys and values of these tokens may come from, beside this process: a session file. They count
            only for a prompt that names the same.
    """

    tokens: tuple[int, ...]
    origin: str = ""

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class ImageSegment:
    """One image in the prompt; equal to another when the pixels are, whatever file they came from.

    Attributes:
        content_hash: of the preprocessed pixels.
        n_tokens: image embeddings that it becomes.
        size: (width, height) before preprocessing.
        preprocess: how it was made square.
        elapsed_s: what opening and preprocessing took.
        square: the 8-bit pixels that it is encoded from, uint8 [image_size, image_size, 3]: what a session file keeps.
    """

    content_hash: str
    n_tokens: int
    size: tuple[int, int] = field(default=(0, 0), compare=False)
    preprocess: str = field(default="", compare=False)
    elapsed_s: float = field(default=0.0, compare=False)
    square: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return self.n_tokens


Segment = TextSegment | ImageSegment


@dataclass(frozen=True)
class ImageEmbeddings:
    """What the language model gets to see of one image, and where it comes from.

    Attributes:
        rows: image_embeddings [n_image_tokens, n_embd] f32, read-only.
        is_cached: whether they were known, so that no image was encoded.
    """

    rows: NDArray[np.float32]
    is_cached: bool


@dataclass(frozen=True)
class Turn:
    """One question and what was answered.

    Attributes:
        question: the user's text, unchanged.
        answer: the assistant's text; None for the question that is to be answered now.
        answer_ids: the answer's tokens, where the model itself said it: they go back in as they came out.
        images: shown with the question, before its text.
        asked: what the user typed, where `question` is worded for a language; "" asked for a description.
        origin: the `TextSegment.origin` of prompts that contain it.
    """

    question: str
    answer: str | None = None
    answer_ids: tuple[int, ...] | None = None
    images: tuple[ImageSegment, ...] = ()
    asked: str | None = None
    origin: str = ""


def cells_of(segments: Sequence[Segment]) -> list[Cell]:
    """The positions that segments take."""
    cells: list[Cell] = []
    for segment in segments:
        if isinstance(segment, TextSegment):
            # One cell names the origin of all that follow: prompts are compared from their beginning on.
            cells += [(segment.origin, segment.tokens[0]), *segment.tokens[1:]] if segment.origin else segment.tokens
        else:
            cells += [(segment.content_hash, row) for row in range(len(segment))]
    return cells


def n_common(cells: Sequence[Cell], wanted: Sequence[Cell]) -> int:
    """Length of the longest common prefix."""
    for i, (cell, other) in enumerate(zip(cells, wanted, strict=False)):
        if cell != other:
            return i
    return min(len(cells), len(wanted))
