"""The prompt `vicuna_v1`, byte for byte: a conversation becomes segments of tokens and of image embeddings.

Source: mbzuai-oryx/PALO, palo/conversation.py `conv_vicuna_v1` (SeparatorStyle.TWO) and palo/mm_utils.py
`tokenizer_image_token`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from palo_cpp.vision.embedding_cache import Features

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
IMAGE = "<image>"
NEWLINE = "\n"  # follows each image
END = "</s>"


class Tokenizer(Protocol):
    """What the prompt needs of a language model."""

    eos_id: int
    metadata: dict[str, Any]

    def tokenize(self, text: str, *, add_bos: bool = False) -> list[int]:
        """Tokens of text that stands alone, with its dummy prefix."""
        ...

    def tokenize_continued(self, text: str) -> list[int]:
        """Tokens of text without the dummy prefix."""
        ...


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

    def rows(self) -> NDArray[np.int32]:
        """Token ids [n] i32."""
        return np.array(self.tokens, dtype=np.int32)


@dataclass(frozen=True)
class ImageSegment:
    """One image in the prompt; equal to another when the pixels are, whatever file they came from.

    Attributes:
        content_hash: of the preprocessed pixels.
        n_tokens: rows that it takes.
        embed: makes image_embeddings [n_tokens, n_embd] f32, or recalls them; called only when they are not in the KV
            cache.
        size: (width, height) before preprocessing.
        preprocess: "pad" or "crop".
        elapsed_s: what opening and preprocessing took.
        square: the 8-bit pixels that it is encoded from, uint8 [image_size, image_size, 3]: what a session file keeps.
    """

    content_hash: str
    n_tokens: int
    embed: Callable[[], Features] = field(repr=False, compare=False)
    size: tuple[int, int] = field(default=(0, 0), compare=False)
    preprocess: str = field(default="", compare=False)
    elapsed_s: float = field(default=0.0, compare=False)
    square: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return self.n_tokens

    def rows(self) -> NDArray[np.float32]:
        """image_embeddings [n_tokens, n_embd] f32."""
        return self.embed().embeddings


Segment = TextSegment | ImageSegment


@dataclass(frozen=True)
class Turn:
    """One question and what was answered.

    Attributes:
        question: the user's text, as it stands.
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


def prompt_text(turns: Sequence[Turn], *, system: str = SYSTEM) -> str:
    """The prompt as one string, with `<image>` and `</s>` where they stand: for people to read."""
    text = f"{system} "
    for turn in turns:
        text += f"USER: {len(turn.images) * f'{IMAGE}{NEWLINE}'}{turn.question} ASSISTANT:"
        if turn.answer is not None:
            text += f" {turn.answer}{END}"
    return text


def prompt_segments(tokenizer: Tokenizer, turns: Sequence[Turn], *, system: str = SYSTEM) -> list[Segment]:
    """Lay out a conversation as the model was trained to see it.

    An image stands first in the turn that shows it, followed by a newline. Text before and after an image is tokenised
    apart, each with its own dummy prefix. What a user typed is never read as `</s>` or `<image>`.

    Args:
        tokenizer: the language model.
        turns: earlier questions with their answers, and the one to answer now.
        system: the text that opens the prompt.

    Returns:
        Segments in order.

    Example:
        >>> [len(s) for s in prompt_segments(model, [Turn("What is this?", images=(image,))])]  # doctest: +SKIP
        [38, 576, 13]
    """
    layout = _Layout(tokenizer, system, turns)
    for turn in turns:
        layout.turn(turn)
    return layout.segments()


def prompt_prefix(
    tokenizer: Tokenizer, turns: Sequence[Turn], images: Sequence[ImageSegment], *, system: str = SYSTEM
) -> list[Segment]:
    """What every prompt begins with that goes on with one more question, whatever its text.

    Args:
        tokenizer: the language model.
        turns: questions with their answers.
        images: shown with the next question.
        system: the text that opens the prompt.

    Returns:
        Segments in order. No piece spans the newline after an image or the space before a question, so their tokens
        are those at the beginning of the whole prompt.
    """
    layout = _Layout(tokenizer, system, turns)
    for turn in turns:
        layout.turn(turn)
    layout.opening(images)
    return layout.segments(is_prefix=True)


class _Layout:
    """Collects text and tokenises it in the largest stretches that the training tokenised at once."""

    def __init__(self, tokenizer: Tokenizer, system: str, turns: Sequence[Turn]) -> None:
        self._tokenizer = tokenizer
        # The first segment tells it for all that stand behind it.
        self._origin = next((turn.origin for turn in turns if turn.origin), "")
        self._segments: list[Segment] = []
        self._tokens: list[int] = []
        self._text = f"{system} "
        self._is_first = True
        self._follows_end = False

    def turn(self, turn: Turn) -> None:
        self.opening(turn.images)
        self._text += f"{turn.question} ASSISTANT:"
        if turn.answer_ids is not None:
            self._answer(turn.answer_ids)
        elif turn.answer is not None:
            self._text += f" {turn.answer}"
            self._answer(())

    def opening(self, images: Sequence[ImageSegment]) -> None:
        """What stands before a question."""
        self._text += "USER: "
        for image in images:
            self._close_segment()
            self._segments.append(image)
            self._text = NEWLINE

    def _answer(self, tokens: tuple[int, ...]) -> None:
        """Tokens of an answer, if not given as text, and the `</s>` that ends it."""
        self._close_text()
        self._tokens += [*tokens, self._tokenizer.eos_id]
        self._follows_end = True

    def segments(self, *, is_prefix: bool = False) -> list[Segment]:
        if is_prefix:
            self._text = self._text.rstrip(" ")
        self._close_segment()
        return self._segments

    def _close_segment(self) -> None:
        self._close_text()
        if self._tokens:
            self._segments.append(TextSegment(tuple(self._tokens), "" if self._segments else self._origin))
        self._tokens = []

    def _close_text(self) -> None:
        if not self._text:
            return
        if self._follows_end and not _is_legacy(self._tokenizer):
            self._tokens += self._tokenizer.tokenize_continued(self._text)
        else:
            self._tokens += self._tokenizer.tokenize(self._text, add_bos=self._is_first)
        self._text, self._is_first, self._follows_end = "", False, False


def _is_legacy(tokenizer: Tokenizer) -> bool:
    """Whether text after `</s>` gets a dummy prefix; the default is that of transformers' LlamaTokenizer."""
    return bool(tokenizer.metadata.get("palo.tokenizer_legacy", True))
