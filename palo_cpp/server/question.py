"""What every interface makes of a request: a conversation, and how its last question is to be answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from palo_cpp.server.images import ImageReader
from palo_cpp.server.refusals import Refusal, bad_field
from palo_cpp.server.settings import Limits


@dataclass(frozen=True)
class Message:
    """What a user said, and the assistant's reply.

    Attributes:
        text: the question; "" asks for a description.
        images: what holds or names them, as `ImageReader.referred` returned it.
        answer: the assistant's; None for the last message, which is to be answered.
    """

    text: str
    images: tuple[str, ...] = ()
    answer: str | None = None


@dataclass(frozen=True)
class Question:
    """One request.

    Attributes:
        messages: what was said; all but the last have an answer.
        system: the text that opens the prompt; None leaves it to the model.
        lang: language of the answer; None leaves it to the model.
        options: decoding options.
        n: how many answers.
        is_streamed: whether they are written as they come.
    """

    messages: tuple[Message, ...]
    system: str | None = None
    lang: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    n: int = 1
    is_streamed: bool = False

    def options_of(self, i: int) -> dict[str, Any]:
        """The options of one of its answers: where a seed is given, each has its own."""
        options = dict(self.options)
        if i and options.get("seed") is not None:
            options["seed"] = (options["seed"] + i) % (2**32 - 1)
        return options


ReadContent = Callable[[Any, str], tuple[str, list[str]]]


class MessageReader:
    """Reads messages, one after the other.

    Args:
        limits: of one request.
        read_content: splits a message's content into text and images.
    """

    def __init__(self, limits: Limits, read_content: ReadContent) -> None:
        self._limits = limits
        self._read_content = read_content
        self._messages: list[Message] = []
        self._system: list[str] = []

    def system(self, text: str) -> None:
        """A text that opens the prompt."""
        self._system.append(text)

    def message(self, role: str, content: Any, where: str) -> None:
        """One message.

        Raises:
            Refusal: a role or an order that no prompt can hold.
        """
        text, images = self._read_content(content, f"{where}.content")
        if images and role != "user":
            raise bad_field(f"{where}.content", "images in messages of the user only", f"one of the {role}")
        if role in ("system", "developer"):
            if self._messages:
                raise bad_field(f"{where}.role", "the system's messages first", "one later")
            self.system(text)
        elif role == "user":
            self.user(text, images)
        elif role == "assistant":
            self._assistant(text, where)
        else:
            raise bad_field(f"{where}.role", "system, user or assistant", role, "leave the message out")

    def user(self, text: str, images: Sequence[str]) -> None:
        """What the user said; after another one that has no answer, it goes on with that."""
        if self._messages and self._messages[-1].answer is None:
            last = self._messages.pop()
            text = "\n".join(filter(None, (last.text, text)))
            images = (*last.images, *images)
        self._messages.append(Message(text, tuple(images)))

    def _assistant(self, text: str, where: str) -> None:
        if not self._messages or self._messages[-1].answer is not None:
            raise bad_field(f"{where}.role", "a message of the user before each one of the assistant", "none")
        self._messages[-1] = replace(self._messages[-1], answer=text)

    def read(self, where: str) -> tuple[tuple[Message, ...], str | None]:
        """All messages, and the text that opens the prompt.

        Args:
            where: the field that they came in.

        Raises:
            Refusal: nothing is asked, or too much.
        """
        if not self._messages or self._messages[-1].answer is not None:
            raise bad_field(where, "a message of the user last", "none or the assistant's", "end with the question")
        images = [image for message in self._messages for image in message.images]
        if not self._messages[-1].text.strip() and not images:
            raise bad_field(where, "a question or an image", "neither")
        if len(images) > self._limits.n_images:
            raise bad_field(where, f"at most {self._limits.n_images} images", str(len(images)))
        texts = [*self._system, *(t for m in self._messages for t in (m.text, m.answer or ""))]
        check_length(texts, self._limits, where)
        return tuple(self._messages), "\n".join(self._system) if self._system else None


def check_length(texts: Sequence[str], limits: Limits, where: str) -> None:
    """Refuse texts that no context could hold, before they are split into tokens."""
    n_characters = sum(map(len, texts))
    if n_characters > limits.n_characters:
        raise Refusal(
            400, f"{where}: expected at most {limits.n_characters} characters, got {n_characters}; shorten it",
            param=where, code="context_length_exceeded",
        )  # fmt: skip


def with_images(messages: Sequence[Message], reader: ImageReader) -> list[list[bytes]]:
    """The image files of all messages; may fetch some, so it belongs into a thread."""
    return [reader.read(message.images) for message in messages]
