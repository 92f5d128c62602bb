"""OpenAI's responses over HTTP: `/v1/responses`. Nothing is stored: a conversation comes whole with each request."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from palo_cpp.server.fields import Fields, kind_of
from palo_cpp.server.jobs import Done, Failed, Text, Ticket
from palo_cpp.server.openai_chat import language_header, told
from palo_cpp.server.question import MessageReader, Question
from palo_cpp.server.refusals import ClientLeft, bad_field
from palo_cpp.server.replies import EVENTS, Streamed, begun, event, following, json_response, results
from palo_cpp.server.service import Service, given, sampling_options, schema_of, token_limit

if TYPE_CHECKING:
    from palo_cpp.chat.answer import Answer

_HARMLESS = (
    *("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
    *("parallel_tool_calls", "max_tool_calls"),
)
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "previous_response_id": (),
    "conversation": (),
    "prompt": (),
    "background": (False,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "truncation": ("auto",),
    "reasoning": ({}, {"effort": "none"}),
}
_LOGPROBS = "message.output_text.logprobs"


class Responses:
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
        question, said = self._read(request, fields)
        ticket = await self._service.submit(question)
        reply = _Reply(model, said, self._service)
        if not question.is_streamed:
            answers = await results(request, ticket)
            return json_response(reply.object(answers[0]), headers=language_header(answers))
        await begun(request, ticket)
        return Streamed(ticket, reply.events(ticket), EVENTS)

    def _read(self, request: Request, fields: Fields) -> tuple[Question, dict[str, Any]]:
        """The question, and those of the fields that a response repeats."""
        reader = MessageReader(self._service.limits, self._content)
        instructions = fields.text("instructions")
        if instructions is not None:
            reader.system(instructions)
        self._read_input(reader, fields)
        messages, system = reader.read("input")
        text_format = _text_format(fields)
        n_top, include = fields.whole("top_logprobs", 0, 20), fields.texts("include", 8)
        if unknown := [name for name in include if name != _LOGPROBS]:
            raise bad_field("include", _LOGPROBS, unknown[0][:80], "nothing else is supported")
        limit = token_limit(fields, "max_output_tokens")
        options = {
            **sampling_options(fields),
            "max_tokens": limit,
            "logprobs": (n_top or 0) if include or n_top else None,
            "json_schema": schema_of(text_format, "text.format"),
        }
        is_streamed = fields.flag("stream")
        fields.harmless("stream_options", *_HARMLESS)
        fields.only(_NEUTRAL)
        lang = self._service.language(request, fields)
        fields.end()
        said = {
            "instructions": instructions,
            "max_output_tokens": limit,
            "temperature": options.get("temperature", 0.0),
            "top_p": options.get("top_p", 1.0),
            "text": {"format": text_format or {"type": "text"}},
        }
        return Question(messages, system, lang, given(options), is_streamed=is_streamed), said

    def _read_input(self, reader: MessageReader, fields: Fields) -> None:
        asked = fields.take("input")
        if isinstance(asked, str):
            reader.user(asked, ())
            return
        if not isinstance(asked, list) or not asked:
            raise bad_field("input", "text or a list of messages", kind_of(asked))
        if len(asked) > self._service.limits.n_messages:
            raise bad_field("input", f"at most {self._service.limits.n_messages} messages", str(len(asked)))
        for i, item in enumerate(asked):
            where = f"input[{i}]"
            message = Fields(item, where)
            message.only({"type": ("message",)})
            message.harmless("id", "status", "phase")
            role, content = message.needed_text("role"), message.take("content")
            message.end()
            reader.message(role, content, where)

    def _content(self, content: Any, where: str) -> tuple[str, list[str]]:
        if isinstance(content, str):
            return content, []
        if not isinstance(content, list):
            raise bad_field(where, "text or a list of parts", kind_of(content))
        texts, images = [], []
        for i, part in enumerate(content):
            fields = Fields(part, f"{where}[{i}]")
            kind = fields.needed_text("type")
            if kind in ("input_text", "output_text", "text"):
                texts.append(fields.needed_text("text"))
                fields.harmless("annotations", "logprobs")
            elif kind == "input_image":
                fields.only({"file_id": (), "detail": ("auto", "low", "high", "original")})
                name = fields.name("image_url")
                images.append(self._service.images.referred(fields.take("image_url"), name))
            else:
                raise bad_field(fields.name("type"), "input_text or input_image", kind[:80])
            fields.end()
        return "\n".join(texts), images


def _text_format(fields: Fields) -> Any:
    said = fields.take("text")
    if said is None:
        return None
    text = Fields(said, "text")
    wanted = text.take("format")
    text.only({"verbosity": ("medium",)})
    text.end()
    return wanted


class _Reply:
    """One response in OpenAI's form.

    Args:
        model: the name that it was asked for by.
        said: what it repeats of the request.
        service: the model and the rest.
    """

    def __init__(self, model: str, said: Mapping[str, Any], service: Service) -> None:
        self._service = service
        self._message_id = f"msg_{secrets.token_hex(12)}"
        self._n_events = 0
        self._frame = {
            "id": f"resp_{secrets.token_hex(12)}",
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
            **said,
            "error": None,
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "tool_choice": "none",
            "tools": [],
            "truncation": "auto",
            "metadata": {},
        }

    def object(self, answer: Answer) -> dict[str, Any]:
        """A `response` that has ended."""
        is_whole = answer.finish_reason in ("stop", "stop_string", "cancelled")
        timings = answer.timings
        return {
            **self._frame,
            "status": "completed" if is_whole else "incomplete",
            "incomplete_details": None if is_whole else {"reason": "max_output_tokens"},
            "output": [self._message(answer)],
            "usage": {
                "input_tokens": timings.n_prompt_tokens,
                "input_tokens_details": {"cached_tokens": timings.n_cached_tokens},
                "output_tokens": timings.n_generated,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": timings.n_prompt_tokens + timings.n_generated,
            },
            "palo": told(answer),
        }

    def _message(self, answer: Answer | None) -> dict[str, Any]:
        is_whole = answer is not None and answer.finish_reason in ("stop", "stop_string", "cancelled")
        return {
            "type": "message",
            "id": self._message_id,
            "status": "in_progress" if answer is None else "completed" if is_whole else "incomplete",
            "role": "assistant",
            "content": [] if answer is None else [_part(answer.text, answer)],
        }

    async def events(self, ticket: Ticket) -> AsyncIterator[str]:
        """The events from `response.created` to its end."""
        place = {"item_id": self._message_id, "output_index": 0, "content_index": 0}
        pending = {**self._frame, "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
        yield self._event("response.created", response=pending)
        yield self._event("response.in_progress", response=pending)
        yield self._event("response.output_item.added", output_index=0, item=self._message(None))
        yield self._event("response.content_part.added", **place, part=_part("", None))
        async for found in following(ticket):
            if found is None:
                yield ": still here\n\n"
            elif isinstance(found, Text):
                yield self._event("response.output_text.delta", **place, delta=found.text, logprobs=[])
            elif isinstance(found, Failed):
                if not isinstance(found.error, ClientLeft):
                    refusal = self._service.refusal(found.error)
                    failed = {"code": refusal.code or "server_error", "message": refusal.message}
                    yield self._event("response.failed", response={**pending, "status": "failed", "error": failed})
                return
            elif isinstance(found, Done):
                for line in self._end(found.result, place):
                    yield line

    def _end(self, answer: Answer, place: Mapping[str, Any]) -> list[str]:
        whole, part = self.object(answer), _part(answer.text, answer)
        return [
            self._event("response.output_text.done", **place, text=answer.text, logprobs=part["logprobs"]),
            self._event("response.content_part.done", **place, part=part),
            self._event("response.output_item.done", output_index=0, item=self._message(answer)),
            self._event(f"response.{whole['status']}", response=whole),
        ]

    def _event(self, kind: str, **fields: Any) -> str:
        number, self._n_events = self._n_events, self._n_events + 1
        return event({"type": kind, "sequence_number": number, **fields}, kind)


def _part(text: str, answer: Answer | None) -> dict[str, Any]:
    logprobs = [token.to_dict() for token in (answer.logprobs or ())] if answer else []
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
