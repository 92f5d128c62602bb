"""OpenAI's chat completions over HTTP: `/v1/chat/completions`."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from palo_cpp.chat.chat_completion import FINISH_REASONS
from palo_cpp.server.fields import Fields, kind_of
from palo_cpp.server.jobs import Done, Failed, Text, Ticket
from palo_cpp.server.question import MessageReader, Question
from palo_cpp.server.refusals import ClientLeft, bad_field
from palo_cpp.server.replies import EVENTS, Streamed, begun, event, following, json_response, results
from palo_cpp.server.service import Service, given, sampling_options, schema_of, token_limit

if TYPE_CHECKING:
    from palo_cpp.chat.answer import Answer

_HARMLESS = (
    *("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
    *("parallel_tool_calls", "prediction"),  # without tools; a prediction changes the speed alone
)
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
}


class ChatCompletions:
    """The endpoint.

    Args:
        service: the model and the rest.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, request: Request) -> Response:
        """Answer a conversation."""
        fields = await self._service.fields(request)
        model = self._service.check_model(fields)
        question, with_usage = self._read(request, fields)
        ticket = await self._service.submit(question)
        reply = _Reply(model, self._service, question.n)
        if not question.is_streamed:
            answers = await results(request, ticket)
            return json_response(reply.whole([answers[i] for i in range(question.n)]), headers=language_header(answers))
        await begun(request, ticket)
        return Streamed(ticket, reply.chunks(ticket, with_usage), EVENTS)

    def _read(self, request: Request, fields: Fields) -> tuple[Question, bool]:
        limits = self._service.limits
        reader = MessageReader(limits, self._content)
        for i, message in enumerate(fields.listed("messages", limits.n_messages)):
            self._read_message(reader, message, f"messages[{i}]")
        messages, system = reader.read("messages")
        is_streamed, with_usage = fields.flag("stream"), _with_usage(fields)
        options = {
            **sampling_options(fields),
            "max_tokens": token_limit(fields, "max_completion_tokens", "max_tokens"),
            "logprobs": _logprobs(fields),
            "json_schema": schema_of(fields.take("response_format"), "response_format"),
        }
        n = fields.whole("n", 1, limits.n_choices) or 1
        lang = self._service.language(request, fields)
        fields.harmless(*_HARMLESS)
        fields.only(_NEUTRAL)
        fields.end()
        return Question(messages, system, lang, given(options), n, is_streamed), with_usage

    def _read_message(self, reader: MessageReader, message: Any, where: str) -> None:
        fields = Fields(message, where)
        role, content = fields.needed_text("role"), fields.take("content")
        fields.harmless("name")
        fields.only({"refusal": (), "tool_calls": ([],), "annotations": ([],), "audio": (), "function_call": ()})
        fields.end()
        reader.message(role, content, where)

    def _content(self, content: Any, where: str) -> tuple[str, list[str]]:
        """Text and images of one message, in whatever order its parts came."""
        if isinstance(content, str):
            return content, []
        if not isinstance(content, list):
            raise bad_field(where, "text or a list of parts", kind_of(content))
        texts, images = [], []
        for i, part in enumerate(content):
            fields = Fields(part, f"{where}[{i}]")
            kind = fields.needed_text("type")
            if kind == "text":
                texts.append(fields.needed_text("text"))
            elif kind == "image_url":
                name = fields.name("image_url")
                images.append(self._service.images.referred(fields.take("image_url"), name))
            else:
                raise bad_field(fields.name("type"), "text or image_url", kind[:80])
            fields.end()
        return "\n".join(texts), images


def _with_usage(fields: Fields) -> bool:
    said = fields.take("stream_options")
    if said is None:
        return False
    options = Fields(said, "stream_options")
    with_usage = options.flag("include_usage")
    options.harmless("include_obfuscation")
    options.end()
    return with_usage


def _logprobs(fields: Fields) -> int | None:
    is_wanted, n_top = fields.flag("logprobs"), fields.whole("top_logprobs", 0, 20)
    if n_top and not is_wanted:
        raise bad_field("top_logprobs", "logprobs beside it", "none", "set logprobs to true")
    return (n_top or 0) if is_wanted else None


def usage_of(answers: list[Answer]) -> dict[str, Any]:
    """What answers to one request cost, in OpenAI's form."""
    n_prompt = answers[0].timings.n_prompt_tokens
    n_generated = sum(answer.timings.n_generated for answer in answers)
    return {
        "prompt_tokens": n_prompt,
        "completion_tokens": n_generated,
        "total_tokens": n_prompt + n_generated,
        "prompt_tokens_details": {"cached_tokens": answers[0].timings.n_cached_tokens},
    }


def told(answer: Answer) -> dict[str, Any]:
    """What is to be known of an answer beyond OpenAI's form."""
    timings = answer.timings
    return {
        "finish_reason": answer.finish_reason,
        "language": answer.language,
        "language_detected": answer.language_detected,
        "language_ok": answer.language_ok,
        "n_turns_dropped": answer.n_turns_dropped,
        "n_images": answer.n_images,
        "n_images_encoded": timings.n_images_encoded,
        "n_prompt_tokens": timings.n_prompt_tokens,
        "n_cached_tokens": timings.n_cached_tokens,
        "n_repeated_tokens": timings.n_repeated_tokens,
        "n_generated": timings.n_generated,
        "first_token_s": round(timings.first_token_s, 4),
        "decode_s": round(timings.decode_s, 4),
    }


def language_header(answers: Mapping[Any, Answer]) -> dict[str, str]:
    """Which language the answers are in, where it is one."""
    codes = {answer.language_detected or answer.language for answer in answers.values()} - {None}
    return {"Content-Language": str(codes.pop())} if len(codes) == 1 else {}


class _Reply:
    """One reply in OpenAI's form."""

    def __init__(self, model: str, service: Service, n: int) -> None:
        self._service = service
        self._n = n
        self._frame = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}

    def whole(self, answers: list[Answer]) -> dict[str, Any]:
        """A `chat.completion`."""
        choices = [
            {
                "index": i,
                "message": {"role": "assistant", "content": answer.text, "refusal": None},
                "logprobs": _logprobs_of(answer),
                "finish_reason": FINISH_REASONS[answer.finish_reason],
                "palo": told(answer),
            }
            for i, answer in enumerate(answers)
        ]
        return {**self._frame, "object": "chat.completion", "choices": choices, "usage": usage_of(answers)}

    async def chunks(self, ticket: Ticket, with_usage: bool) -> AsyncIterator[str]:
        """`chat.completion.chunk`s: the roles, the pieces of text, the reasons for the ends, what it cost."""
        usage: dict[str, Any] = {"usage": None} if with_usage else {}
        answers: dict[int, Answer] = {}
        for i in range(self._n):
            yield self._chunk(i, {"role": "assistant", "content": ""}, usage)
        async for found in following(ticket):
            if found is None:
                yield ": still here\n\n"
            elif isinstance(found, Text):
                yield self._chunk(found.key, {"content": found.text}, usage)
            elif isinstance(found, Done):
                answers[found.key] = found.result
                yield self._chunk(found.key, {}, usage, found.result)
            elif isinstance(found, Failed):
                if not isinstance(found.error, ClientLeft):
                    yield event(self._service.refusal(found.error).to_openai())
                return
        if with_usage:
            frame = {**self._frame, "object": "chat.completion.chunk", "choices": []}
            yield event({**frame, "usage": usage_of(list(answers.values()))})
        yield "data: [DONE]\n\n"

    def _chunk(self, index: int, delta: dict[str, str], usage: dict[str, Any], ended: Answer | None = None) -> str:
        choice: dict[str, Any] = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        if ended:
            choice["finish_reason"] = FINISH_REASONS[ended.finish_reason]
            choice["logprobs"] = _logprobs_of(ended)
            choice["palo"] = told(ended)
        return event({**self._frame, "object": "chat.completion.chunk", "choices": [choice], **usage})


def _logprobs_of(answer: Answer) -> dict[str, Any] | None:
    if answer.logprobs is None:
        return None
    return {"content": [token.to_dict() for token in answer.logprobs], "refusal": None}
