"""From logits to an answer, token by token: choosing, whole characters, and knowing when to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from palo_cpp.decoding_options import DecodingOptions
from palo_cpp.sampler import Sampler
from palo_cpp.text_stream import TextStream
from palo_cpp.token_constraint import TokenConstraint, allowed_by_all


class Vocabulary(Protocol):
    """What decoding needs of a language model."""

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for."""
        ...

    def ends_generation(self, token: int) -> bool:
        """True for `</s>` and its like."""
        ...


class Decoding:
    """One answer being decoded, a token at a time; one loop, a batch of sequences or speculation may drive it.

    Attributes:
        sampler: chooses the tokens.
        token_ids: tokens chosen so far, without the one that ended the answer.
        text: text given out so far.
        finish_reason: "stop" (the model ended it), "stop_string", "length", "context"; "" while it goes on.
        first_token_at: time.perf_counter() when the first token was known.

    Example:
        >>> while not decoding.is_finished:  # doctest: +SKIP
        ...     print(decoding.take(logits), end="")
        ...     if not decoding.is_finished:
        ...         logits = model.decode(decoding.token_ids[-1:], position=...)
        >>> print(decoding.finish())  # doctest: +SKIP
    """

    def __init__(
        self, vocabulary: Vocabulary, options: DecodingOptions, constraints: Sequence[TokenConstraint] = ()
    ) -> None:
        """Begin an answer.

        Args:
            vocabulary: of the model whose logits come.
            options: how to choose and when to stop.
            constraints: which tokens may come, the most important first; they belong to this answer alone.
        """
        self._vocabulary = vocabulary
        self._options = options
        self._constraints = tuple(constraints)
        self._stream = TextStream(options.stop)
        self.sampler = Sampler(options)
        self.token_ids: list[int] = []
        self.text = ""
        self.finish_reason = ""
        self.first_token_at: float | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the answer has ended; what is held back still comes from `finish`."""
        return bool(self.finish_reason)

    def take(self, logits: NDArray[np.float32]) -> str:
        """Choose the next token and record it.

        Args:
            logits: [n_vocab] f32 that follow the prompt and `token_ids`; not to be called once the answer has ended.

        Returns:
            Text that may be shown now: whole characters, often "".

        Raises:
            ModelFormatError: the logits are not numbers.
        """
        token = self.sampler.pick(logits, allowed_by_all(self._constraints))
        self.first_token_at = self.first_token_at or time.perf_counter()
        if self._vocabulary.ends_generation(token):
            self.finish_reason = "stop"
            return ""
        for constraint in self._constraints:
            constraint.accept(token)
        self.token_ids.append(token)
        shown = self._stream.push(self._vocabulary.token_bytes(token))
        self.finish_reason = self._reason_to_end()
        self.text += shown
        return shown

    def end(self, reason: str) -> None:
        """End the answer from outside.

        Args:
            reason: a finish reason; without effect where the answer has ended already.
        """
        self.finish_reason = self.finish_reason or reason

    def finish(self) -> str:
        """Text that was held back for what did not come; call it once, at the end."""
        held = self._stream.finish()
        self.text += held
        return held

    def pieces(
        self, logits: NDArray[np.float32], advance: Callable[[int], NDArray[np.float32]], n_room: int
    ) -> Iterator[str]:
        """Decode until the answer ends: the plain loop.

        Args:
            logits: [n_vocab] f32 after the prompt.
            advance: appends a token to the context and returns the logits that follow.
            n_room: tokens that still fit into the context.

        Yields:
            Text as it becomes certain: whole characters, never "".
        """
        while True:
            shown = self.take(logits)
            if shown:
                yield shown
            if len(self.token_ids) > n_room:  # the last token needs no room
                self.end("context")
            if self.is_finished:
                break
            logits = advance(self.token_ids[-1])
        if held := self.finish():
            yield held

    def _reason_to_end(self) -> str:
        if self._stream.stopped:
            return "stop_string"
        return "length" if len(self.token_ids) >= self._options.max_tokens else ""
