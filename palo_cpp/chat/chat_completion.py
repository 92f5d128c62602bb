"""OpenAI's chat completions: their dictionaries in, a conversation out; an answer in, their dictionaries out."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from palo_cpp.chat.answer import Answer, AnswerStream
from palo_cpp.chat.chat import Chat
from palo_cpp.chat.response_format import json_schema_of
from palo_cpp.errors import ArgumentError
from palo_cpp.models.loaded_model import LoadedModel
from palo_cpp.segments import Turn

_OPTIONS = (
    *("max_tokens", "temperature", "top_k", "top_p", "min_p", "seed", "stop", "lang_mode"),
    *("logprobs", "json_schema", "n_beams"),
)
# Accepted because clients send them by habit, where the value asks for nothing that is not done anyway.
_HARMLESS = {"n": (None, 1), "frequency_penalty": (None, 0), "presence_penalty": (None, 0)}
_IGNORED = ("model", "user")
# Ours -> OpenAI's.
FINISH_REASONS = {
    "stop": "stop",
    "stop_string": "stop",
    "cancelled": "stop",
    "length": "length",
    "context": "length",
    "repetition": "length",  # OpenAI has no word for it, and "stop" would say that the model meant to end there
}


@dataclass(frozen=True)
class UserMessage:
    """What a user said, and the assistant's reply.

    Attributes:
        text: the question.
        images: data URIs of the images in it.
        answer: the assistant's; None for the last message, which is to be answered.
    """

    text: str
    images: tuple[str, ...] = ()
    answer: str | None = None


@dataclass(frozen=True)
class ChatRequest:
    """A conversation in OpenAI's messages.

    Attributes:
        system: text that opens the prompt; None leaves it to the model.
        messages: what the user said; all but the last have an answer.
        lang: language of the answer, if one is asked for.
        options: decoding options.
    """

    system: str | None
    messages: tuple[UserMessage, ...]
    lang: str | None
    options: dict[str, Any]

    @property
    def question(self) -> str:
        """The text to answer now."""
        return self.messages[-1].text


@dataclass
class _Reader:
    system: str | None = None
    messages: list[UserMessage] = field(default_factory=list)

    @property
    def is_asked(self) -> bool:
        """Whether a question waits for its answer."""
        return bool(self.messages) and self.messages[-1].answer is None


def read_request(messages: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any]) -> ChatRequest:
    """Read messages and parameters.

    Args:
        messages: OpenAI dictionaries.
        parameters: the further fields of a request.

    Returns:
        The conversation.

    Raises:
        ArgumentError: something in them that cannot be done, and what to do instead.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence) or not messages:
        raise ArgumentError("messages: expected a list of at least one dictionary; see create_chat_completion")
    reader = _Reader()
    for i, message in enumerate(messages):
        _read_message(reader, message, f"messages[{i}]", is_first=i == 0)
    if not reader.is_asked:
        raise ArgumentError("messages: expected a user message last, got an assistant's or none; end with the question")
    if not reader.messages[-1].text.strip() and not any(message.images for message in reader.messages):
        raise ArgumentError("messages: expected a question or an image, got neither")
    lang, options = _read_parameters(parameters)
    return ChatRequest(reader.system, tuple(reader.messages), lang, options)


def chat_for(request: ChatRequest, model: LoadedModel) -> Chat:
    """The conversation up to the question that is to be answered, whose images are shown already.

    Raises:
        ImageError: one of the images cannot be read.
    """
    *said, last = request.messages
    turns = [
        Turn(message.text, message.answer, images=tuple(map(model.embedder.open, message.images))) for message in said
    ]
    chat = Chat(model, lang=request.lang, system=request.system, turns=turns)
    for image in last.images:
        chat.add_image(image)
    return chat


def _read_message(reader: _Reader, message: Mapping[str, Any], where: str, *, is_first: bool) -> None:
    if not isinstance(message, Mapping):
        raise ArgumentError(f"{where}: expected a dictionary, got {type(message).__name__}")
    role = message.get("role")
    text, images = _read_content(message.get("content"), f"{where}.content")
    if images and role != "user":
        raise ArgumentError(f"{where}: expected images in user messages only, got one in a message of role {role!r}")
    if role in ("system", "developer"):
        if not is_first:
            raise ArgumentError(f"{where}: expected the system message first, got it later")
        reader.system = text
    elif role == "user":
        _read_user(reader, text, images, where)
    elif role == "assistant":
        if not reader.is_asked:
            raise ArgumentError(f"{where}: expected a user message before each assistant message, got none")
        reader.messages[-1] = replace(reader.messages[-1], answer=text)
    else:
        raise ArgumentError(f"{where}.role: expected system, user or assistant, got {role!r}")


def _read_user(reader: _Reader, text: str, images: list[str], where: str) -> None:
    if reader.is_asked:
        raise ArgumentError(f"{where}: expected user and assistant to take turns, got two user messages in a row")
    reader.messages.append(UserMessage(text, tuple(images)))


def _read_content(content: Any, where: str) -> tuple[str, list[str]]:
    """Text and images of one message, in whatever order its parts came."""
    if isinstance(content, str):
        return content, []
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise ArgumentError(f"{where}: expected text or a list of parts, got {type(content).__name__}")
    texts, images = [], []
    for i, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            images.append(_read_image(part.get("image_url"), f"{where}[{i}]"))
        else:
            raise ArgumentError(f"{where}[{i}]: expected a part of type text or image_url, got {kind!r}")
    return "\n".join(texts), images


def _read_image(image_url: Any, where: str) -> str:
    url = image_url.get("url") if isinstance(image_url, Mapping) else image_url
    if not isinstance(url, str):
        raise ArgumentError(f"{where}: expected image_url to be a text or {{'url': text}}, got {type(url).__name__}")
    if url[:5].lower() != "data:":
        shown = url if len(url) <= 40 else f"{url[:40]}..."
        raise ArgumentError(
            f"{where}: expected the image itself as a data URI (data:image/jpeg;base64,...), got {shown!r}; nothing is "
            "fetched from the network or from files named in a message"
        )
    return url


def _read_parameters(parameters: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    given = {name: value for name, value in parameters.items() if value is not None and name not in _IGNORED}
    if "max_completion_tokens" in given:
        given["max_tokens"] = given.pop("max_completion_tokens")
    for name, harmless in _HARMLESS.items():
        if name in given and given.pop(name) not in harmless:
            raise ArgumentError(f"{name}: expected {harmless[1]}, got {parameters[name]!r}; nothing else is offered")
    lang = given.pop("lang", None)
    n_top = given.pop("top_logprobs", 0)
    if given.pop("logprobs", False):
        given["logprobs"] = n_top
    if (schema := json_schema_of(given.pop("response_format", None))) is not None:
        given["json_schema"] = schema
    unknown = [name for name in given if name not in _OPTIONS]
    if unknown:
        raise ArgumentError(f"parameters: expected {', '.join(_OPTIONS)}, lang; got {', '.join(unknown)}")
    return lang, given


class Reply:
    """One reply in OpenAI's form.

    Args:
        model: name to put into it.
    """

    def __init__(self, model: str) -> None:
        self._frame = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}

    def whole(self, answer: Answer) -> dict[str, Any]:
        """A `chat.completion`."""
        n_prompt, n_generated = answer.timings.n_prompt_tokens, answer.timings.n_generated
        logprobs = {} if answer.logprobs is None else {"logprobs": _logprobs(answer)}
        return {
            **self._frame,
            "object": "chat.completion",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": answer.text},
                    "finish_reason": FINISH_REASONS[answer.finish_reason],
                    **logprobs,
                }
            ],
            "usage": {
                "prompt_tokens": n_prompt,
                "completion_tokens": n_generated,
                "total_tokens": n_prompt + n_generated,
            },
        }

    def chunks(self, stream: AnswerStream) -> Iterator[dict[str, Any]]:
        """`chat.completion.chunk`s: the role, the pieces of text, the reason it ended."""
        with stream:
            yield self._chunk({"role": "assistant", "content": ""})
            for piece in stream:
                yield self._chunk({"content": piece.text})
        assert stream.answer is not None  # it has ended
        yield self._chunk({}, stream.answer)

    def _chunk(self, delta: dict[str, str], ended: Answer | None = None) -> dict[str, Any]:
        reason = FINISH_REASONS[ended.finish_reason] if ended else None
        choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": reason}
        if ended and ended.logprobs is not None:
            choice["logprobs"] = _logprobs(ended)
        return {**self._frame, "object": "chat.completion.chunk", "choices": [choice]}


def _logprobs(answer: Answer) -> dict[str, Any]:
    return {"content": [token.to_dict() for token in answer.logprobs or ()]}
