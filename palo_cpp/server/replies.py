"""How answers are written: whole, or as they come, in events or lines; and what happens when the reader leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from palo_cpp.server.jobs import Done, Event, Failed, Ticket
from palo_cpp.server.refusals import ClientLeft

EVENTS, LINES = "text/event-stream; charset=utf-8", "application/x-ndjson; charset=utf-8"
# Proxies close connections on which nothing comes while a long prompt is prefilled.
_PING_S = 15.0

Result = TypeVar("Result")


def to_json(value: Any) -> str:
    """JSON on one line, its text not escaped."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A whole answer."""
    return Response(to_json(value).encode(), status, dict(headers or {}), "application/json")


def event(value: Any, kind: str | None = None) -> str:
    """One server-sent event."""
    return f"event: {kind}\ndata: {to_json(value)}\n\n" if kind else f"data: {to_json(value)}\n\n"


async def _left(receive: Receive) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _unless_left(request: Request, ticket: Ticket, waiting: Coroutine[Any, Any, Result]) -> Result:
    """Wait for something, and cancel the work where the client leaves before.

    Raises:
        ClientLeft: it did.
    """
    result, gone = asyncio.ensure_future(waiting), asyncio.ensure_future(_left(request.receive))
    try:
        await asyncio.wait({result, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            raise ClientLeft
        return result.result()
    except BaseException:
        ticket.cancel()
        raise
    finally:
        result.cancel()
        gone.cancel()


async def results(request: Request, ticket: Ticket) -> dict[Any, Any]:
    """Wait for all that comes of some work; see `Ticket.results`."""
    return await _unless_left(request, ticket, ticket.results())


async def begun(request: Request, ticket: Ticket) -> Event:
    """Wait until it is known that there will be an answer, which is the time to say 200.

    Returns:
        The first event.

    Raises:
        Exception: why there will be none.
    """
    first = await _unless_left(request, ticket, ticket.events.get())
    if isinstance(first, Failed):
        ticket.cancel()
        raise first.error
    return first


async def following(ticket: Ticket) -> AsyncIterator[Event | None]:
    """All further events; None where nothing came for a while."""
    n_left = len(ticket.jobs)
    while n_left:
        try:
            found = await asyncio.wait_for(ticket.events.get(), _PING_S)
        except asyncio.TimeoutError:
            yield None
            continue
        yield found
        n_left -= isinstance(found, Failed) or (isinstance(found, Done) and found.is_last)


class Streamed(Response):
    """A response that is written as it comes; the work ends where the client leaves.

    Args:
        ticket: the work.
        pieces: what to write.
        media_type: of the response.
        headers: of the response.
    """

    def __init__(
        self, ticket: Ticket, pieces: AsyncIterator[str], media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._ticket, self._pieces = ticket, pieces
        unbuffered = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(None, 200, {**unbuffered, **(headers or {})}, media_type)

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """As starlette's, without a length."""
        super().init_headers(headers)
        self.raw_headers = [entry for entry in self.raw_headers if entry[0] != b"content-length"]

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Write it."""
        gone = asyncio.ensure_future(_left(receive))
        gone.add_done_callback(self._on_left)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for piece in self._pieces:
                await send({"type": "http.response.body", "body": piece.encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            self._ticket.cancel()

    def _on_left(self, gone: asyncio.Future[None]) -> None:
        if not gone.cancelled():
            self._ticket.cancel()
            for _ in self._ticket.jobs:
                self._ticket.events.put_nowait(Failed(ClientLeft()))
