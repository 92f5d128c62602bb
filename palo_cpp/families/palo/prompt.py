"""The prompt `vicuna_v1`, byte for byte: a conversation becomes segments of tokens and of image embeddings.

Source: mbzuai-oryx/PALO, palo/conversation.py `conv_vicuna_v1` (SeparatorStyle.TWO) and palo/mm_utils.py
`tokenizer_image_token`.
"""

from __future__ import annotations

from collections.abc import Sequence

from palo_cpp.segments import ImageSegment, Segment, TextSegment, Tokenizer, Turn

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
IMAGE = "<image>"
NEWLINE = "\n"  # follows each image
END = "</s>"


def prompt_text(turns: Sequence[Turn], *, system: str = SYSTEM) -> str:
    """The prompt as one string, with `<image>` and `</s>` where they are: for people to read."""
    text = f"{system} "
    for turn in turns:
        text += f"USER: {len(turn.images) * f'{IMAGE}{NEWLINE}'}{turn.question} ASSISTANT:"
        if turn.answer is not None:
            text += f" {turn.answer}{END}"
    return text


def prompt_segments(tokenizer: Tokenizer, turns: Sequence[Turn], *, system: str = SYSTEM) -> list[Segment]:
    """Lay out a conversation as the model was trained to see it.

    An image comes first in the turn that shows it, followed by a newline. Text before and after an image is tokenized
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
    """What every prompt begins with that continues with one more question, whatever its text.

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
    """Collects text and tokenizes it in the largest stretches that the training tokenized at once."""

    def __init__(self, tokenizer: Tokenizer, system: str, turns: Sequence[Turn]) -> None:
        self._tokenizer = tokenizer
        # The first segment names it for all that follow.
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
        """What comes before a question."""
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
