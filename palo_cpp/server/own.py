"""What no other interface has: one image described in all languages at once, and image embeddings."""

from __future__ import annotations

import base64
import threading
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.server.fields import kind_of
from palo_cpp.server.jobs import Begun, Done, Failed, Job, Text, Ticket
from palo_cpp.server.openai_chat import told
from palo_cpp.server.question import Message, Question, check_length
from palo_cpp.server.refusals import ClientLeft, bad_field
from palo_cpp.server.replies import EVENTS, Streamed, begun, event, following, json_response, results
from palo_cpp.server.service import Service, given, sampling_options, token_limit

if TYPE_CHECKING:
    from palo_cpp.chat.answer import Answer

_N_EMBEDDED = 4  # images; their embeddings take 9 MB each in a 7B model


class Own:
    """The endpoints.

    Args:
        service: the model and the rest.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def describe(self, request: Request) -> Response:
        """`/v1/describe`: an image in one language, in several or in all, side by side."""
        fields = await self._service.fields(request)
        model = self._service.check_model(fields)
        image = self._service.images.referred(fields.take("image"), "image")
        codes = self._codes(fields.take("lang", "all"))
        text = fields.text("question") or ""
        check_length([text], self._service.limits, "question")
        options = {**sampling_options(fields), **given({"max_tokens": token_limit(fields, "max_tokens")})}
        is_streamed = fields.flag("stream")
        fields.end()
        ((data,),) = await self._service.files([Message(text, (image,))])
        work = _Description(
            self._service, codes, Question((Message(text),), options=options, is_streamed=is_streamed), data
        )
        ticket = self._service.desk.submit(work.stream if is_streamed else work.whole)
        frame = {"object": "palo.descriptions", "model": model}
        if is_streamed:
            await begun(request, ticket)
            return Streamed(ticket, self._events(ticket, frame), EVENTS)
        answers = (await results(request, ticket))["all"]
        return json_response({**frame, "answers": {code: _answer(code, answers[code]) for code in codes}})

    async def _events(self, ticket: Ticket, frame: dict[str, Any]) -> AsyncIterator[str]:
        """`{"lang", "delta"}` as they come, an `answer` at the end of each, and `[DONE]`."""
        async for found in following(ticket):
            if found is None:
                yield ": still here\n\n"
            elif isinstance(found, Text):
                yield event({**frame, "lang": found.key, "delta": found.text})
            elif isinstance(found, Done) and found.key != "all":
                yield event({**frame, "lang": found.key, "answer": _answer(found.key, found.result)})
            elif isinstance(found, Failed):
                if not isinstance(found.error, ClientLeft):
                    yield event(self._service.refusal(found.error).to_openai())
                return
        yield "data: [DONE]\n\n"

    def _codes(self, lang: Any) -> list[str]:
        known = self._service.palo.languages
        if isinstance(lang, str) and lang.strip().casefold() == "all":
            return list(known)
        names = lang.split(",") if isinstance(lang, str) else lang
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise bad_field("lang", '"all", a language or a list of them', kind_of(lang))
        return list(dict.fromkeys(self._service.known_language(name.strip(), "lang") for name in names))

    async def image_embeddings(self, request: Request) -> Response:
        """`/v1/image_embeddings`: what the language model gets to see of images."""
        fields = await self._service.fields(request)
        model = self._service.check_model(fields)
        given_images = fields.take("input", fields.take("image"))
        images = given_images if isinstance(given_images, list) else [given_images]
        if not 0 < len(images) <= _N_EMBEDDED:
            raise bad_field("input", f"1 to {_N_EMBEDDED} images", str(len(images)))
        texts = [self._service.images.referred(image, f"input[{i}]") for i, image in enumerate(images)]
        form = fields.text("encoding_format", "base64") or "base64"
        if form not in ("base64", "float"):
            raise bad_field("encoding_format", "base64 or float", form[:80])
        fields.harmless("user")
        fields.end()
        (files,) = await self._service.files([Message("", tuple(texts))])
        ticket = self._service.desk.submit(_Embedding(self._service, files, form).work)
        data = (await results(request, ticket))["all"]
        return json_response({"object": "list", "model": model, "data": data})


def _answer(code: str, answer: Answer) -> dict[str, Any]:
    return {"text": answer.text, "direction": LANGUAGES[code].direction, **told(answer)}


class _Description:
    """The work of one description."""

    def __init__(self, service: Service, codes: Sequence[str], question: Question, data: bytes) -> None:
        self._service, self._codes, self._question, self._data = service, codes, question, data

    @property
    def _text(self) -> str | None:
        return self._question.messages[0].text or None

    def whole(self, job: Job) -> None:
        """All answers at once: each step decodes a token of every one of them."""
        self._service.conversations.open(self._data)  # looks at its size, and keeps it for questions
        answers = self._service.palo.describe(
            self._data, lang=self._codes, question=self._text, should_stop=job.is_cancelled, **self._question.options
        )
        for answer in answers.values():
            self._service.metrics.answered(answer)
        job.emit(Done("all", answers))

    def stream(self, job: Job) -> None:
        """All answers as they come, each by a thread of its own."""
        image = self._service.conversations.open(self._data)
        errors: list[BaseException] = []
        job.emit(Begun())

        def answer(code: str) -> None:
            try:
                with self._service.palo.chat(lang=code) as chat:
                    chat.pending_images.append(image)
                    stream = chat.stream(self._text, should_stop=job.is_cancelled, **self._question.options)
                    with stream:
                        for piece in stream:
                            job.emit(Text(code, piece.text))
                    assert stream.answer is not None  # it has ended
                    self._service.metrics.answered(stream.answer)
                    job.emit(Done(code, stream.answer, is_last=False))
            except Exception as error:
                errors.append(error)
                job.cancel()

        threads = [threading.Thread(target=answer, args=(code,), daemon=True) for code in self._codes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        job.emit(Done("all", None))


class _Embedding:
    """The work of some embeddings."""

    def __init__(self, service: Service, files: Sequence[bytes], form: str) -> None:
        self._service, self._files, self._form = service, files, form

    def work(self, job: Job) -> None:
        """One image after the other, as long as somebody waits."""
        data = []
        for i, file in enumerate(self._files):
            if job.is_cancelled():
                return
            self._service.conversations.open(file)
            data.append(
                {"object": "image_embeddings", "index": i, **self._written(self._service.palo.embed_image(file))}
            )
        job.emit(Done("all", data))

    def _written(self, rows: NDArray[np.float32]) -> dict[str, Any]:
        """Rows [n_image_tokens, n_embd]: as numbers, or as their bytes, little-endian f32 row by row."""
        as_bytes = base64.b64encode(rows.astype("<f4").tobytes()).decode() if self._form == "base64" else None
        return {"shape": list(rows.shape), "embeddings": rows.tolist() if as_bytes is None else as_bytes}
