"""Why a request was not answered: one sentence, a status, and the field that it is about."""

from __future__ import annotations

import math
import re
from typing import Any

from palo_cpp.errors import ArgumentError, BusyError, ImageError, OutOfMemoryError, PaloError

_KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
# What the library calls something -> what a request does.
_PARAMS = {"question": "messages", "json_schema": "response_format", "language": "lang"}
_FIELD = re.compile(r"[a-z_]+(?:\[\d+\])?(?:\.[a-z_]+(?:\[\d+\])?)*(?=: )")
# About the time that the shortest answer of a small model takes: who comes back then may find a place.
RETRY_AFTER_S = 2


class ClientLeft(Exception):  # noqa: N818  # no error: clients may leave when they like
    """Nobody is there to be answered."""


class Refusal(Exception):  # noqa: N818  # an answer of its own kind
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        message: one sentence.
        param: the field it is about; None where it is about no field.
        code: for programs.
        headers: further ones of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = headers or {}

    def to_openai(self) -> dict[str, Any]:
        """In OpenAI's form."""
        kind = _KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def to_ollama(self) -> dict[str, Any]:
        """In Ollama's form, whose clients show the text."""
        return {"error": self.message}


def bad_field(param: str, expected: str, got: object, fix: str = "") -> Refusal:
    """A field with a value that cannot be used."""
    shown = got if isinstance(got, str) else type(got).__name__
    return Refusal(400, f"{param}: expected {expected}, got {shown}{f'; {fix}' if fix else ''}", param=param)


def busy(why: str, after_s: float = RETRY_AFTER_S) -> Refusal:
    """There is no place now; later there may be one."""
    return Refusal(503, why, code="busy", headers={"Retry-After": str(max(1, math.ceil(after_s)))})


def refusal_for(error: BaseException) -> Refusal:
    """What a client is told of an error; of one that nobody expected, only its kind."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, BusyError):
        return busy(" ".join(str(error).split()), error.retry_after_s)
    if isinstance(error, (ArgumentError, ImageError)):
        message = " ".join(str(error).split())
        field = _FIELD.match(message)
        code = "invalid_image" if isinstance(error, ImageError) else None
        code = "context_length_exceeded" if "expected a prompt of at most" in message else code
        return Refusal(400, message, param=_PARAMS.get(field[0], field[0]) if field else None, code=code)
    if isinstance(error, (OutOfMemoryError, MemoryError)):
        return busy(str(error) or "memory: expected enough for this request, got too little; try again later")
    if isinstance(error, PaloError):
        return Refusal(500, " ".join(str(error).split()), code="failed")
    return Refusal(500, f"unexpected {type(error).__name__}: the request could not be answered; see the server's log")
