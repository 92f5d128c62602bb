"""One connection: uvicorn's over h11, with an end to everything that is slow, and errors in one form."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from palo_cpp.server.refusals import Refusal
from palo_cpp.server.settings import Limits


class Connection(H11Protocol):
    """A connection whose headers must come, and whose responses must be taken, within a time."""

    limits = Limits()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Somebody called."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.n_connections:
            transport.abort()
            return
        self._expect_header()

    def connection_lost(self, exc: Exception | None) -> None:
        """They are gone."""
        for timer in (self._header_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes came: a whole header, or a part of one."""
        super().data_received(data)
        is_within_header = self.conn.their_state is h11.IDLE and self.conn.our_state is h11.IDLE
        if not is_within_header and self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None
        elif is_within_header:
            self._expect_header()

    def _expect_header(self) -> None:
        if self._header_timer is None and not self.transport.is_closing():
            self._header_timer = self.loop.call_later(self.limits.header_s, self.transport.abort)

    def pause_writing(self) -> None:
        """The reader has not taken what was written."""
        super().pause_writing()
        self._expect_reader()

    def resume_writing(self) -> None:
        """It has now."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def on_response_complete(self) -> None:
        """All of a response was handed over; what is left of it must be taken, too."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._expect_reader()

    def _expect_reader(self) -> None:
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.limits.write_s, self._give_up_reader)

    def _give_up_reader(self) -> None:
        self._write_timer = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        body = json.dumps(Refusal(400, f"request: expected HTTP, got something else: {msg}").to_openai()).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
