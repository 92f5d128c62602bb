"""From logits to an answer: choosing tokens, whole characters, and knowing when to stop."""

from __future__ import annotations

import codecs
import ctypes
import secrets
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import ArgumentError, ModelFormatError
from palo_cpp.llama_library import llama_library

# What PALO's evaluation allows an answer (palo/eval/model_vqa.py, max_new_tokens).
DEFAULT_MAX_TOKENS = 1024
_SEED_MAX = 2**32 - 2  # 2**32 - 1 asks llama.cpp for a random seed


@dataclass(frozen=True)
class DecodingOptions:
    """How an answer is decoded. The default is greedy: the same question has the same answer.

    Attributes:
        max_tokens: tokens after which the answer is cut.
        temperature: 0 is greedy; higher is more random.
        top_k: keep the k likeliest tokens; 0 keeps all.
        top_p: keep the likeliest tokens that together have this probability; 1 keeps all.
        min_p: keep tokens with at least this share of the likeliest one's probability; 0 keeps all.
        seed: of the random choices; None draws one.
        stop: text that ends the answer and is not part of it.
    """

    max_tokens: int = DEFAULT_MAX_TOKENS
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()))
        self._check_number("max_tokens", 1, 2**31 - 1, whole=True)
        self._check_number("temperature", 0.0, 100.0)
        self._check_number("top_k", 0, 2**31 - 1, whole=True)
        self._check_number("top_p", 0.0, 1.0)
        self._check_number("min_p", 0.0, 1.0)
        if self.seed is not None:
            self._check_number("seed", 0, _SEED_MAX, whole=True)
        for text in self.stop:
            if not isinstance(text, str) or not text:
                raise ArgumentError(f"stop: expected texts that are not empty, got {text!r}")

    def _check_number(self, name: str, low: float, high: float, *, whole: bool = False) -> None:
        value = getattr(self, name)
        kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            kind = "a whole number" if whole else "a number"
            raise ArgumentError(f"{name}: expected {kind} from {low} to {high}, got {value!r}")


class Vocabulary(Protocol):
    """What decoding needs of a language model."""

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for."""
        ...

    def ends_generation(self, token: int) -> bool:
        """True for `</s>` and its like."""
        ...


class Sampler:
    """Chooses the next token: the likeliest, or by chance through llama.cpp's own samplers."""

    def __init__(self, options: DecodingOptions) -> None:
        self._chain: Any = None
        self.seed: int | None = None
        if options.temperature > 0:
            self.seed = secrets.randbelow(_SEED_MAX) if options.seed is None else int(options.seed)
            self._chain = _sampler_chain(options, self.seed)
            weakref.finalize(self, llama_library().llama_sampler_free, self._chain)

    def pick(self, logits: NDArray[np.float32]) -> int:
        """Choose a token.

        Args:
            logits: [n_vocab] f32.

        Returns:
            Its id.

        Raises:
            ModelFormatError: the logits are not numbers, so the weights are damaged.
        """
        best = int(logits.argmax())  # the first NaN, if there is one
        if not np.isfinite(logits[best]):
            raise ModelFormatError(
                f"logits: expected numbers, got {logits[best]}; the weights are damaged: copy or convert them anew"
            )
        return best if self._chain is None else self._draw(logits)

    def _draw(self, logits: NDArray[np.float32]) -> int:
        llama = llama_library()
        candidates = np.empty(len(logits), dtype=[("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        candidates["id"] = np.arange(len(logits))
        candidates["logit"] = logits
        candidates["p"] = 0.0
        data = candidates.ctypes.data_as(ctypes.POINTER(llama.llama_token_data))
        array = llama.llama_token_data_array(data=data, size=len(logits), selected=-1, sorted=False)
        llama.llama_sampler_apply(self._chain, ctypes.byref(array))
        token = int(array.data[array.selected].id)
        llama.llama_sampler_accept(self._chain, token)
        return token


def _sampler_chain(options: DecodingOptions, seed: int) -> Any:
    """The order is llama.cpp's: narrow the choice first, then heat it."""
    llama = llama_library()
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    for sampler in (
        llama.llama_sampler_init_top_k(int(options.top_k)),
        llama.llama_sampler_init_top_p(options.top_p, 1),
        llama.llama_sampler_init_min_p(options.min_p, 1),
        llama.llama_sampler_init_temp(options.temperature),
        llama.llama_sampler_init_dist(seed),
    ):
        llama.llama_sampler_chain_add(chain, sampler)
    return chain


class TextStream:
    """Turns the bytes of tokens into text that may be shown at once.

    A character whose bytes have not all come is held back, and so is text that may become a stop string, and space
    that may turn out to be the end: PALO strips its answers, so that the pieces joined are the final text.
    Bytes that can never become a character are U+FFFD; a character cut off by the end of the answer is left out.
    """

    def __init__(self, stop: tuple[str, ...] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stop = stop
        self._held = ""
        self._space = ""
        self._has_begun = False
        self.stopped = False

    def push(self, data: bytes) -> str:
        """Add the bytes of one token.

        Returns:
            Text to show now, often "".
        """
        if self.stopped:
            return ""
        self._held += self._decoder.decode(data)
        ends = [(at + len(text), at) for text in self._stop if (at := self._held.find(text)) >= 0]
        if ends:
            self.stopped = True
            return self._strip(self._held[: min(ends)[1]])
        n_held = max((_overlap(self._held, text) for text in self._stop), default=0)
        ready = self._held[: len(self._held) - n_held]
        self._held = self._held[len(ready) :]
        return self._strip(ready)

    def finish(self) -> str:
        """Text that was held back for what did not come."""
        return "" if self.stopped else self._strip(self._held)

    def _strip(self, text: str) -> str:
        text = self._space + text
        if not self._has_begun:
            text = text.lstrip()
        shown = text.rstrip()
        self._space = text[len(shown) :]
        self._has_begun = self._has_begun or bool(shown)
        return shown


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)


class Decoding:
    """One answer being decoded; iterate for its pieces of text.

    Attributes:
        token_ids: tokens chosen so far, without the one that ended the answer.
        text: text given out so far.
        finish_reason: "stop" (the model ended it), "stop_string", "length", "context"; "" while it goes on.
        first_token_at: time.perf_counter() when the first token was known.
    """

    def __init__(self, vocabulary: Vocabulary, options: DecodingOptions) -> None:
        self._vocabulary = vocabulary
        self._options = options
        self.sampler = Sampler(options)
        self.token_ids: list[int] = []
        self.text = ""
        self.finish_reason = ""
        self.first_token_at: float | None = None

    def pieces(
        self, logits: NDArray[np.float32], advance: Callable[[int], NDArray[np.float32]], n_room: int
    ) -> Iterator[str]:
        """Decode until the answer ends.

        Args:
            logits: [n_vocab] f32 after the prompt.
            advance: appends a token to the context and returns the logits that follow.
            n_room: tokens that still fit into the context.

        Yields:
            Text as it becomes certain: whole characters, never "".
        """
        stream = TextStream(self._options.stop)
        while not self.finish_reason:
            token = self.sampler.pick(logits)
            self.first_token_at = self.first_token_at or time.perf_counter()
            if self._vocabulary.ends_generation(token):
                self.finish_reason = "stop"
                break
            self.token_ids.append(token)
            yield from self._shown(stream.push(self._vocabulary.token_bytes(token)))
            self.finish_reason = self._reason_to_end(stream, n_room)
            if not self.finish_reason:
                logits = advance(token)
        yield from self._shown(stream.finish())

    def _reason_to_end(self, stream: TextStream, n_room: int) -> str:
        if stream.stopped:
            return "stop_string"
        if len(self.token_ids) >= self._options.max_tokens:
            return "length"
        return "context" if len(self.token_ids) > n_room else ""

    def _shown(self, text: str) -> Iterator[str]:
        self.text += text
        if text:
            yield text
