"""From logits to an answer, token by token: choosing, whole characters, and knowing when to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from palo_cpp.decoding.grammar_constraint import GrammarConstraint, grammar_vocabulary
from palo_cpp.decoding.json_grammar import json_grammar
from palo_cpp.decoding.logprobs import TokenLogprob, token_logprob
from palo_cpp.decoding.options import DecodingOptions
from palo_cpp.decoding.sampler import Sampler
from palo_cpp.decoding.text_stream import TextStream
from palo_cpp.decoding.token_constraint import TokenConstraint, allowed_by_all
from palo_cpp.decoding.utf8_constraint import Utf8Constraint, utf8_masks
from palo_cpp.llm.token_table import HasTokenTable


class Decoding:
    """One answer being decoded, a token at a time; one loop, a batch of sequences or speculation may drive it.

    Attributes:
        sampler: chooses the tokens.
        token_ids: tokens chosen so far, without the one that ended the answer. Once the answer has ended, those that
            its text consists of: without a character that was not finished, without the rounds of a loop.
        n_generated: tokens chosen so far, those among them that were dropped.
        text: text given out so far.
        finish_reason: "stop" (the model ended it), "stop_string", "repetition" (it repeated itself), "length",
            "context", "cancelled"; "" while it goes on.
        first_token_at: time.perf_counter() when the first token was known.
        logprobs: of each of `token_ids`, where `logprobs` was asked for.

    Example:
        >>> while not decoding.is_finished:  # doctest: +SKIP
        ...     print(decoding.take(logits), end="")
        ...     if not decoding.is_finished:
        ...         logits = model.decode(decoding.token_ids[-1:], position=...)
        >>> print(decoding.finish())  # doctest: +SKIP
    """

    def __init__(
        self,
        vocabulary: HasTokenTable,
        options: DecodingOptions,
        constraints: Sequence[TokenConstraint] = (),
        *,
        has_byte_tokens: bool = True,
    ) -> None:
        """Begin an answer.

        Args:
            vocabulary: of the model whose logits come.
            options: how to choose and when to stop.
            constraints: which tokens may come, the most important first; they belong to this answer alone.
            has_byte_tokens: a character may take several tokens: that their bytes are UTF-8 comes before all
                constraints.
        """
        self._table = vocabulary.token_table
        self._options = options
        self._constraints: tuple[TokenConstraint, ...] = tuple(constraints)
        if options.json_schema is not None:
            grammar = GrammarConstraint(grammar_vocabulary(vocabulary), json_grammar(options.json_schema))
            self._constraints = (grammar, *self._constraints)
        if has_byte_tokens:
            self._constraints = (Utf8Constraint(utf8_masks(self._table)), *self._constraints)
        self._stream = TextStream(options.stop)
        self.sampler = Sampler(options)
        self.token_ids: list[int] = []
        self.n_generated = 0
        self.text = ""
        self.finish_reason = ""
        self.first_token_at: float | None = None
        self.logprobs: list[TokenLogprob] = []

    @property
    def is_finished(self) -> bool:
        """Whether the answer has ended; what is held back still comes from `finish`."""
        return bool(self.finish_reason)

    def take(self, logits: NDArray[np.float32]) -> str:
        """Choose the next token and record it.

        Args:
            logits: [n_vocab] f32 that follow the prompt and `token_ids`.

        Returns:
            Text that may be shown now: whole characters, often "".

        Raises:
            ModelFormatError: the logits are not numbers.
        """
        token = self.sampler.pick(logits, allowed_by_all(self._constraints))
        if self._options.logprobs is not None and not self._table.ends_generation[token]:
            self.logprobs.append(token_logprob(self._table, logits, token, self._options.logprobs))
        return self.accept(token)

    def accept(self, token: int) -> str:
        """Record the next token, however it was chosen.

        Returns:
            Text that may be shown now: whole characters, often "".
        """
        self.first_token_at = self.first_token_at or time.perf_counter()
        if self._table.ends_generation[token]:
            self.finish_reason = "stop"
            return ""
        for constraint in self._constraints:
            constraint.accept(token)
        self.token_ids.append(token)
        self.n_generated += 1
        shown = self._stream.push(self._table.pieces[token])
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
        if self._stream.repeats:  # perhaps only now, by the text that was held back
            self.finish_reason = "repetition"
        self._drop_tokens_without_text()
        return held

    def abandon(self) -> None:
        """End an answer that the user stopped: it is the text that was given out, and what is held back never comes."""
        self.finish_reason = "cancelled"
        self._drop_tokens_without_text()

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
        if self._stream.repeats:
            return "repetition"
        if self._stream.stopped:
            return "stop_string"
        if self._options.should_stop is not None and self._options.should_stop():
            return "cancelled"
        return "length" if len(self.token_ids) >= self._options.max_tokens else ""

    def _drop_tokens_without_text(self) -> None:
        """Let `token_ids` end where the text does: it goes back into the conversation, and a loop would go on there."""
        pieces = [self._table.pieces[token] for token in self.token_ids]
        data = b"".join(pieces)
        n_bytes = len(data) - self._stream.n_unfinished
        if self.finish_reason in ("repetition", "cancelled"):
            text = data.decode(errors="ignore")
            n_bytes = len(text[: len(text) - len(text.lstrip())].encode()) + len(self.text.encode())
        while pieces and len(data) - len(pieces[-1]) >= n_bytes:
            data = data[: len(data) - len(pieces.pop())]
        del self.token_ids[len(pieces) :], self.logprobs[len(pieces) :]
