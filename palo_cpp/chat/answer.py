"""What comes back from a question: the answer, what it cost, and what the model was really fed."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from palo_cpp.decoding.logprobs import TokenLogprob
from palo_cpp.languages.languages import LANGUAGES

# asyncio's own threads are few on a small machine, and each answer keeps one busy.
_N_THREADS = 64

FINISH_REASONS = ("stop", "stop_string", "repetition", "length", "context", "cancelled")


@dataclass(frozen=True)
class Timings:
    """Where the time of one answer went.

    Attributes:
        image_s: opening and preprocessing images, in seconds; 0 where that was done for an earlier question.
        encode_s: vision tower and projector, or a look into the embedding cache, or the wait for one under way; 0 where
            the KV cache held the image.
        prefill_s: reading the prompt, without encode_s.
        decode_s: from the first token to the end; with beams, all of the search.
        first_token_s: from the question to the first token.
        early_s: what was done before the question came, from opening its images to reading ahead; in no other number.
        retry_s: decoding an answer in another language that was thrown away; reading its question is in prefill_s, and
            both in first_token_s.
        n_retries: how many attempts were thrown away, 1 at most.
        n_images_encoded: images for which vision tower and projector ran in the question's own time; those that were
            known or had been begun early do not count.
        n_prompt_tokens: tokens and image embeddings of the prompt.
        n_cached_tokens: those of them that stood in the KV cache already.
        n_repeated_tokens: those of them that an earlier question's prompt had, too, and that were read again all the
            same, for the model sees a prompt as a whole.
        n_generated: tokens that were decoded for the answer.
        n_guessed: tokens that were read ahead of the model's choice, see `speculation`.
        n_guessed_right: those that it then chose: steps that were saved.
        n_drafted: tokens that a draft model was asked for; those that it was sure enough of are guesses.
        n_parallel: answers that were made side by side, this one among them: what they share counts with the first of
            them, and their decode_s is the same time.
    """

    image_s: float = 0.0
    encode_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    first_token_s: float = 0.0
    early_s: float = 0.0
    retry_s: float = 0.0
    n_retries: int = 0
    n_images_encoded: int = 0
    n_prompt_tokens: int = 0
    n_cached_tokens: int = 0
    n_repeated_tokens: int = 0
    n_generated: int = 0
    n_guessed: int = 0
    n_guessed_right: int = 0
    n_drafted: int = 0
    n_parallel: int = 1

    @property
    def repeated_s(self) -> float:
        """About what reading those again took, which is in prefill_s."""
        return self.prefill_s * self.n_repeated_tokens / max(1, self.n_prompt_tokens)

    @property
    def tokens_per_s(self) -> float:
        """Decoding speed; 0 where nothing was decoded."""
        return self.n_generated / self.decode_s if self.decode_s > 0 else 0.0


@dataclass(frozen=True)
class InputImage:
    """An image that the model was fed.

    Attributes:
        size: (width, height) of the upright image before preprocessing.
        preprocess: "pad", "crop" or "stretch".
        n_tokens: embeddings that it became.
        content_hash: SHA-256 of the preprocessed pixels.
    """

    size: tuple[int, int]
    preprocess: str
    n_tokens: int
    content_hash: str


@dataclass(frozen=True)
class Inputs:
    """What the model was fed.

    Attributes:
        prompt: the whole prompt as text, `<image>` and `</s>` where they are.
        images: the images, in the order in which they are in the prompt.
        seed: of the random choices; None where the answer was decoded greedily.
        sees_images: whether the model could have been shown one.
    """

    prompt: str
    images: tuple[InputImage, ...] = ()
    seed: int | None = None
    sees_images: bool = True


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        text: what the model said, without space around it; right where it was cut, no character is broken.
        token_ids: the tokens it chose, without the `</s>` at the end. What the text leaves out is left out here too: a
            character that was not finished, the rounds of a loop, what was not shown yet when the user stopped it.
        finish_reason: "stop" (the model ended it), "stop_string", "repetition" (it began to say the same thing over and
            over: the text ends before, with a whole sentence if there is one that had not been shown further already),
            "length" (max_tokens), "context" (the context is full) or "cancelled".
        language: code of the language that was asked for; None where none was.
        timings: what it cost.
        inputs: what the model was fed.
        n_turns_dropped: the oldest turns, which left the conversation because the context was full.
        language_detected: code of the language that the text is in; None where that cannot be determined.
        language_ok: whether that is the language that was asked for; None where none was, or it cannot be determined.
        logprobs: how likely each of `token_ids` was, where the option `logprobs` asked for it.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    language: str | None
    timings: Timings
    inputs: Inputs
    n_turns_dropped: int = 0
    language_detected: str | None = None
    language_ok: bool | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None

    @property
    def n_images(self) -> int:
        """Images that the model saw; 0 means that whatever the text says of a picture is made up."""
        return len(self.inputs.images)

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        """The text in its own direction, for notebooks, with a note where no image was seen."""
        import html  # used in notebooks only

        code = self.language or self.language_detected
        direction = LANGUAGES[code].direction if code else "auto"
        note = "" if self.n_images or not self.inputs.sees_images else "<p><small>The model saw no image.</small></p>"
        text = html.escape(self.text).replace("\n", "<br>")
        return f'<p lang="{code or ""}" dir="{direction}">{text}</p>{note}'

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain dictionaries, lists, texts and numbers, for JSON."""
        result = asdict(self)
        result["token_ids"] = list(self.token_ids)
        del result["logprobs"]
        if self.logprobs is not None:
            result["logprobs"] = [token.to_dict() for token in self.logprobs]
        result["inputs"]["images"] = [{**image, "size": list(image["size"])} for image in result["inputs"]["images"]]
        return result


@dataclass(frozen=True)
class Piece:
    """A piece of an answer: one or more whole characters; the pieces joined are the answer's text."""

    text: str

    def __str__(self) -> str:
        return self.text


class AnswerStream(Generator[Piece, None, Answer]):
    """An answer as it comes: iterate for its pieces.

    Leaving it early with `close()` stops the decoding; what was said until then is the answer. In asyncio, `async for`
    reads it without keeping the loop waiting; a task that is cancelled meanwhile closes it.

    Attributes:
        answer: the whole answer once the stream has ended or was closed; None before.

    Example:
        >>> with palo.stream("photo.jpg", lang="ur") as stream:  # doctest: +SKIP
        ...     for piece in stream:
        ...         print(piece.text, end="", flush=True)
        >>> stream.answer.finish_reason  # doctest: +SKIP
        'stop'
    """

    def __init__(
        self, pieces: Iterator[str], finish: Callable[[bool], Answer], stop: Callable[[], None] = lambda: None
    ) -> None:
        """Wrap a decoding.

        Args:
            pieces: its texts.
            finish: called once, at the end, with whether it was cut off; makes the answer.
            stop: called by whoever closes it: a thread that pulls a piece then comes back soon.
        """
        self._pieces = pieces
        self._finish = finish
        self._stop = stop
        self._pulling = threading.RLock()
        self._failed = self._is_closing = False
        self.answer: Answer | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come: the answer is there, or an error was raised."""
        return self.answer is not None or self._failed

    def send(self, _value: None) -> Piece:
        """The next piece."""
        with self._pulling:
            if self.has_ended:
                raise StopIteration(self.answer)
            try:
                return Piece(next(self._pieces))
            except StopIteration:
                self.answer = self._finish(self._is_closing)
                raise StopIteration(self.answer) from None
            except KeyboardInterrupt:
                self.close()
                raise
            except BaseException:
                self._failed = True
                raise

    def throw(self, kind: Any, value: Any = None, trace: Any = None) -> Piece:
        """End the stream with an error."""
        self.close()
        return super().throw(kind, value, trace)

    def close(self) -> None:
        """Stop decoding, from any thread; `answer` is what was said until now."""
        if self.has_ended:
            return
        self._is_closing = True
        self._stop()
        with self._pulling:
            if not self.has_ended:
                self.answer = self._finish(True)

    def read(self) -> Answer:
        """Run to the end."""
        for _ in self:
            pass
        assert self.answer is not None  # the loop ends only with an answer or an error
        return self.answer

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """Its pieces, each pulled in a thread."""
        import asyncio

        loop = asyncio.get_running_loop()
        try:
            while (piece := await loop.run_in_executor(_threads(), next, self, None)) is not None:
                yield piece
        finally:
            if not self.has_ended:
                await asyncio.shield(loop.run_in_executor(_threads(), self.close))

    def __enter__(self) -> AnswerStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@cache
def _threads() -> ThreadPoolExecutor:
    """Where answers are pulled for asyncio; threads are made as they are needed."""
    return ThreadPoolExecutor(_N_THREADS, thread_name_prefix="palo_cpp answer")
