"""What all interfaces share: the model and its names, the desk, and how a request's fields become a question."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from palo_cpp.chat.response_format import json_schema_of
from palo_cpp.errors import ArgumentError
from palo_cpp.server.access import BODY
from palo_cpp.server.answering import Answering
from palo_cpp.server.conversations import Conversations
from palo_cpp.server.fields import Fields, parse_json
from palo_cpp.server.images import Fetch, ImageReader
from palo_cpp.server.jobs import Desk, Ticket
from palo_cpp.server.metrics import Metrics
from palo_cpp.server.question import Message, Question, with_images
from palo_cpp.server.refusals import Refusal, refusal_for
from palo_cpp.server.settings import ServerSettings

if TYPE_CHECKING:
    from palo_cpp.palo import Palo

logger = logging.getLogger("palo_cpp.server")

_MAX_WHOLE = 2**31 - 1
_SEED_MAX = 2**32 - 2
_N_STOPS = 16
# What the model itself counts.
_COUNTERS = {
    "palo_images_encoded_total": ("n_images_encoded", "Images for which the vision encoder ran."),
    "palo_steps_total": ("n_steps", "Steps of the model, each for all answers under way or for a piece of a prompt."),
    "palo_rows_total": ("n_rows", "Rows decoded in them."),
    "palo_rows_reused_total": ("n_rows_reused", "Positions of prompts that the context held already."),
    "palo_rows_repeated_total": ("n_rows_repeated", "Positions decoded again because their room was given away."),
    "palo_answers_displaced_total": ("n_displaced", "Answers under way that had to give up their room."),
}
# Bytes that are parsed and decoded within a millisecond or two, sooner than a thread would be there.
_N_AT_ONCE = 1 << 20
_LANGUAGE_RANGE = re.compile(r"\s*([A-Za-z]{1,8})(?:-[A-Za-z0-9-]*)?\s*(?:;\s*q=([01](?:\.\d{0,3})?)\s*)?")


class Service:
    """One model and all that its interfaces need.

    Args:
        palo: the model.
        settings: how it is served.
        fetch: gets images from addresses; None fetches nothing.
    """

    def __init__(self, palo: Palo, settings: ServerSettings, fetch: Fetch | None = None) -> None:
        self.palo, self.settings, self.limits = palo, settings, settings.limits
        self.images = ImageReader(settings.limits, fetch)
        self.metrics = Metrics()
        self.n_parallel = settings.n_parallel if self.shares_context else 1
        self.desk = Desk(self.n_parallel, settings.n_queue)
        self.conversations = Conversations(palo, settings.limits.n_pixels)
        self.answering = Answering(self.desk, self.conversations, self.metrics, logs_content=settings.logs_content)
        self.started_at = int(time.time())
        self.metrics.ask("palo_answers_running", "Answers under way.", lambda: self.desk.n_running)
        self.metrics.ask("palo_answers_waiting", "Answers that wait for their turn.", lambda: self.desk.n_waiting)
        for name, (field, what) in _COUNTERS.items():
            self.metrics.ask(name, what, partial(self._counter, field))

    def _counter(self, field: str) -> float:
        return float(getattr(self.palo.counters(), field))

    @property
    def shares_context(self) -> bool:
        """Whether several answers may be under way at once, each with a prefix that it keeps."""
        return self.palo.files.family.capabilities.reuses_prefix

    @property
    def n_images(self) -> int:
        """Images that a conversation may show."""
        most = self.palo.files.family.capabilities.n_images if self.palo.sees_images else 0
        return self.limits.n_images if most is None else min(most, self.limits.n_images)

    @property
    def name(self) -> str:
        """What the model is called first."""
        return self.settings.aliases[0] if self.settings.aliases else self.palo.name

    @property
    def names(self) -> tuple[str, ...]:
        """All that it may be called."""
        return tuple(dict.fromkeys((*self.settings.aliases, self.palo.name)))

    async def fields(self, request: Request) -> Fields:
        """The fields of a request."""
        body: bytes = request.scope.get(BODY, b"")
        return Fields(parse_json(body) if len(body) < _N_AT_ONCE else await asyncio.to_thread(parse_json, body))

    def check_model(self, fields: Fields) -> str:
        """The name by which a request calls the model.

        Raises:
            Refusal: it asks for another one.
        """
        name = fields.text("model") or self.name
        wanted = name.casefold().removesuffix(":latest")
        if all(wanted != known.casefold() for known in self.names):
            raise Refusal(
                404, f"model: expected {' or '.join(self.names)}, got {name[:80]}; serve it with -m, or add --alias",
                param="model", code="model_not_found",
            )  # fmt: skip
        return name

    def language(self, request: Request, fields: Fields) -> str | None:
        """The language to answer in: `lang`, else what `Accept-Language` likes best; "auto" leaves it to the model."""
        lang = fields.text("lang")
        if lang is not None:
            return None if lang.strip().casefold() == "auto" else self.known_language(lang, fields.name("lang"))
        return accepted_language(request.headers.get("accept-language", ""), self.palo.languages)

    def known_language(self, name: str, where: str) -> str:
        """The code of a language that the model knows."""
        try:
            return self.palo.language(name).code
        except ArgumentError as error:
            raise Refusal(400, f"{where}: {str(error).removeprefix('language: ')}", param=where) from None

    async def submit(self, question: Question) -> Ticket:
        """Read a question's images, and have it answered.

        Raises:
            Refusal: an image cannot be had, or there is no place.
        """
        return self.answering.submit(question, await self.files(question.messages))

    async def files(self, messages: Sequence[Message]) -> list[list[bytes]]:
        """The image files of all messages."""
        texts = [text for message in messages for text in message.images]
        if sum(map(len, texts)) < _N_AT_ONCE and not any(map(self.images.is_fetched, texts)):
            return with_images(messages, self.images)
        return await asyncio.to_thread(with_images, messages, self.images)

    def refusal(self, error: BaseException) -> Refusal:
        """What a client is told of an error that came while it was answered."""
        refusal = refusal_for(error)
        if refusal.status >= 500 and refusal.code != "busy":
            logger.error("a request could not be answered: %s", type(error).__name__, exc_info=error)
        return refusal


def sampling_options(fields: Fields) -> dict[str, Any]:
    """The decoding options that have the same names everywhere."""
    found = {
        "temperature": fields.number("temperature", 0, 100),
        "top_p": fields.number("top_p", 0, 1),
        "top_k": fields.whole("top_k", 0, _MAX_WHOLE),
        "min_p": fields.number("min_p", 0, 1),
        "seed": fields.whole("seed", 0, _SEED_MAX),
        "stop": fields.texts("stop", _N_STOPS),
        "lang_mode": fields.text("lang_mode"),
        "n_beams": fields.whole("n_beams", 1, _MAX_WHOLE),
    }
    return given(found)


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some options that say something."""
    return {name: value for name, value in options.items() if value not in (None, ())}


def token_limit(fields: Fields, *names: str) -> int | None:
    """How long an answer may become; the first of the names that is given."""
    found = [fields.whole(name, 1, _MAX_WHOLE) for name in names]
    return next((limit for limit in found if limit is not None), None)


def schema_of(response_format: Any, where: str) -> Mapping[str, Any] | None:
    """The schema that a `response_format` asks for."""
    try:
        return json_schema_of(response_format, where=where)
    except ArgumentError as error:
        raise Refusal(400, str(error), param=where) from None


def accepted_language(header: str, known: Sequence[str]) -> str | None:
    """What an `Accept-Language` likes best among the languages that a model knows; None where it names none of them.

    Args:
        header: as `hi-IN,hi;q=0.9,en;q=0.5`; what is no language range is passed over.
        known: codes.
    """
    best, best_quality = None, 0.0
    for part in header[:500].split(","):
        match = _LANGUAGE_RANGE.fullmatch(part)
        quality = float(match[2] or 1) if match else 0.0
        if match and match[1].lower() in known and quality > best_quality:
            best, best_quality = match[1].lower(), quality
    return best
