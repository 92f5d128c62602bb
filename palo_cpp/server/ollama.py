"""Ollama's interface: `/api/chat`, `/api/generate` and what its clients ask before them.

Errors have Ollama's form here, `{"error": text}`: its clients show the text.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from palo_cpp.chat.chat_completion import FINISH_REASONS
from palo_cpp.models.show import summarize_file
from palo_cpp.server.fields import Fields, kind_of
from palo_cpp.server.jobs import Done, Failed, Text, Ticket
from palo_cpp.server.openai_chat import told
from palo_cpp.server.question import MessageReader, Question
from palo_cpp.server.refusals import ClientLeft, bad_field
from palo_cpp.server.replies import LINES, Streamed, begun, following, json_response, results, to_json
from palo_cpp.server.service import Service, given, sampling_options, schema_of

if TYPE_CHECKING:
    from palo_cpp.chat.answer import Answer

# What a machine is to do with a model; it does not change what the model says.
_MACHINE = (
    *("num_thread", "num_gpu", "main_gpu", "num_batch", "num_keep", "low_vram", "use_mmap", "use_mlock", "numa"),
    *("f16_kv", "vocab_only", "logits_all", "penalize_newline", "repeat_last_n"),
)
_NEUTRAL_OPTIONS: dict[str, tuple[Any, ...]] = {
    "repeat_penalty": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "mirostat": (0,),
    "mirostat_tau": (),
    "mirostat_eta": (),
    "tfs_z": (1,),
    "typical_p": (1,),
}
_NEUTRAL: dict[str, tuple[Any, ...]] = {"tools": ([],), "think": (False,), "dimensions": (), "truncate": (True,)}
_NEUTRAL_PROMPT: dict[str, tuple[Any, ...]] = {"suffix": ("",), "template": ("",), "context": ([],), "raw": (False,)}

Wrap = Callable[[str], dict[str, Any]]


class Ollama:
    """The endpoints.

    Args:
        service: the model and the rest.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loaded_at = _now()

    async def chat(self, request: Request) -> Response:
        """`/api/chat`."""
        fields = await self._service.fields(request)
        model = self._service.check_model(fields)
        reader = MessageReader(self._service.limits, _plain)
        messages = fields.take("messages") or []
        if not isinstance(messages, list) or len(messages) > self._service.limits.n_messages:
            raise bad_field(
                "messages", f"a list of at most {self._service.limits.n_messages} messages", kind_of(messages)
            )
        for i, message in enumerate(messages):
            self._read_message(reader, message, f"messages[{i}]")
        return await self._answer(request, fields, model, reader if messages else None, _as_message)

    async def generate(self, request: Request) -> Response:
        """`/api/generate`."""
        fields = await self._service.fields(request)
        model = self._service.check_model(fields)
        reader = MessageReader(self._service.limits, _plain)
        if system := fields.text("system"):
            reader.system(system)
        prompt, images = fields.text("prompt") or "", self._images(fields)
        fields.only(_NEUTRAL_PROMPT)
        is_asked = bool(prompt.strip() or images)
        if is_asked:
            reader.user(prompt, images)
        return await self._answer(request, fields, model, reader if is_asked else None, _as_response)

    def _read_message(self, reader: MessageReader, said: Any, where: str) -> None:
        message = Fields(said, where)
        role, text, images = message.needed_text("role"), message.text("content") or "", self._images(message)
        message.harmless("thinking")
        message.only({"tool_calls": ([],), "tool_name": ()})
        message.end()
        if images and role != "user":
            raise bad_field(f"{where}.images", "images in messages of the user only", f"one of the {role}")
        if role == "user":
            reader.user(text, images)
        else:
            reader.message(role, text, where)

    def _images(self, fields: Fields) -> list[str]:
        images = fields.take("images", [])
        if not isinstance(images, list):
            raise bad_field(fields.name("images"), "a list of images", kind_of(images))
        return [self._service.images.referred(image, f"{fields.name('images')}[{i}]") for i, image in enumerate(images)]

    async def _answer(
        self, request: Request, fields: Fields, model: str, reader: MessageReader | None, wrap: Wrap
    ) -> Response:
        is_streamed = fields.flag("stream", True)
        options, lang = self._options(fields), self._service.language(request, fields)
        fields.harmless("keep_alive")
        fields.only(_NEUTRAL)
        fields.end()
        if reader is None:  # a way to have a model loaded, which it is
            return json_response({**_frame(model), **wrap(""), "done": True, "done_reason": "load"})
        messages, system = reader.read("messages" if wrap is _as_message else "prompt")
        question = Question(messages, system, lang, options, is_streamed=is_streamed)
        ticket = await self._service.submit(question)
        if not is_streamed:
            answer: Answer = (await results(request, ticket))[0]
            return json_response({**_frame(model), **wrap(answer.text), **_end(answer)})
        await begun(request, ticket)
        return Streamed(ticket, self._lines(ticket, model, wrap), LINES)

    def _options(self, fields: Fields) -> dict[str, Any]:
        schema = _schema(fields.take("format"))
        lang_mode = fields.text("lang_mode")
        n_top = fields.whole("top_logprobs", 0, 20)
        logprobs = (n_top or 0) if fields.flag("logprobs") else None
        options = Fields(fields.take("options", {}), "options")
        found = sampling_options(options)
        limit = options.whole("num_predict", -2, 2**31 - 1)
        n_ctx, most = options.whole("num_ctx", 1, 2**31 - 1), self._service.palo.n_ctx
        if n_ctx is not None and n_ctx > most:
            raise bad_field("options.num_ctx", f"at most {most}", str(n_ctx), "serve the model with a larger -c")
        options.harmless(*_MACHINE)
        options.only(_NEUTRAL_OPTIONS)
        options.end()
        max_tokens = limit if limit and limit > 0 else None  # -1 and -2 are "as long as it likes"
        more = {"max_tokens": max_tokens, "json_schema": schema, "lang_mode": lang_mode, "logprobs": logprobs}
        return {**found, **given(more)}

    async def _lines(self, ticket: Ticket, model: str, wrap: Wrap) -> AsyncIterator[str]:
        async for found in following(ticket):
            if isinstance(found, Text):
                yield f"{to_json({**_frame(model), **wrap(found.text), 'done': False})}\n"
            elif isinstance(found, Done):
                yield f"{to_json({**_frame(model), **wrap(''), **_end(found.result)})}\n"
            elif isinstance(found, Failed) and not isinstance(found.error, ClientLeft):
                yield f"{to_json(self._service.refusal(found.error).to_ollama())}\n"

    async def tags(self, _request: Request) -> Response:
        """`/api/tags`: the models that there are."""
        return json_response(
            {"models": [{**self._model(name), "modified_at": self._loaded_at} for name in self._names()]}
        )

    async def ps(self, _request: Request) -> Response:
        """`/api/ps`: the models that are loaded."""
        n_ctx = self._service.palo.n_ctx
        running = {"expires_at": "9999-12-31T23:59:59Z", "size_vram": 0, "context_length": n_ctx}
        return json_response({"models": [{**self._model(name), **running} for name in self._names()]})

    async def show(self, request: Request) -> Response:
        """`/api/show`: what is known of a model."""
        fields = await self._service.fields(request)
        name = fields.text("name")  # as older clients have it
        self._service.check_model(Fields({"model": fields.text("model") or name}))
        fields.harmless("verbose")
        fields.only({"system": (), "template": (), "options": ({},)})
        fields.end()
        files = self._service.palo.files
        known = {key: value for key, value in files.text.metadata.items() if isinstance(value, (str, int, float, bool))}
        template = str(known.pop("tokenizer.chat_template", ""))
        return json_response(
            {
                "modelfile": "",
                "parameters": "",
                "template": template,
                "details": self._details(),
                "model_info": known,
                "capabilities": ["completion", "vision"],
                "modified_at": self._loaded_at,
                "languages": list(self._service.palo.languages),
            }
        )

    async def version(self, _request: Request) -> Response:
        """`/api/version`: of this program, which is not Ollama."""
        import palo_cpp

        return json_response({"version": palo_cpp.__version__})

    def _names(self) -> list[str]:
        return [name if ":" in name else f"{name}:latest" for name in self._service.names]

    def _model(self, name: str) -> dict[str, Any]:
        files = self._service.palo.files
        headers = [files.text, *([files.mmproj] if files.mmproj else [])]
        size = sum(header.size_bytes for header in headers)
        return {
            "name": name,
            "model": name,
            "size": size,
            "digest": files.text.pair_id or "",
            "details": self._details(),
        }

    def _details(self) -> dict[str, Any]:
        summary = summarize_file(self._service.palo.files.text.path)
        return {
            "parent_model": "",
            "format": "gguf",
            "family": summary.architecture,
            "families": [summary.architecture, "clip"],
            "parameter_size": f"{summary.n_parameters / 1e6:.1f}M",
            "quantization_level": summary.file_type,
        }


def _plain(content: Any, where: str) -> tuple[str, list[str]]:
    if not isinstance(content, str):
        raise bad_field(where, "text", kind_of(content))
    return content, []


def _schema(wanted: Any) -> Mapping[str, Any] | None:
    """The schema of `format`: "json", or one itself."""
    if wanted in (None, ""):
        return None
    if wanted == "json":
        return {"type": "object"}
    if not isinstance(wanted, dict):
        raise bad_field("format", '"json" or a JSON schema', kind_of(wanted))
    return schema_of({"type": "json_schema", "schema": wanted}, "format")


def _as_message(text: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}}


def _as_response(text: str) -> dict[str, Any]:
    return {"response": text}


def _frame(model: str) -> dict[str, Any]:
    return {"model": model, "created_at": _now()}


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _end(answer: Answer) -> dict[str, Any]:
    timings = answer.timings
    first_ns, decode_ns = int(timings.first_token_s * 1e9), int(timings.decode_s * 1e9)
    found: dict[str, Any] = {
        "done": True,
        "done_reason": FINISH_REASONS[answer.finish_reason],
        "total_duration": first_ns + decode_ns,
        "load_duration": 0,
        "prompt_eval_count": timings.n_prompt_tokens,
        "prompt_eval_duration": int((timings.prefill_s + timings.encode_s) * 1e9),
        "eval_count": timings.n_generated,
        "eval_duration": decode_ns,
        "palo": told(answer),
    }
    if answer.logprobs is not None:
        found["logprobs"] = [token.to_dict() for token in answer.logprobs]
    return found
