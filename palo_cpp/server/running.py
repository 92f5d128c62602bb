"""Serves until it is told to stop: once to end in order, twice to end at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from palo_cpp.errors import ArgumentError
from palo_cpp.server.app import application
from palo_cpp.server.images import Fetch
from palo_cpp.server.protocol import Connection
from palo_cpp.server.service import Service
from palo_cpp.server.settings import ServerSettings
from palo_cpp.server.url_fetch import UrlFetcher

if TYPE_CHECKING:
    from palo_cpp.palo import Palo

_EXIT_INTERRUPTED = 130
_N_BACKLOG = 128
# After answers were ended, their last events are still written.
_WRITING_S = 5.0


def listening_socket(settings: ServerSettings) -> socket.socket:
    """A socket at the address of the settings.

    Raises:
        ArgumentError: it cannot be had, and why.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # Named, for asyncio sends small packets at once (TCP_NODELAY) only on sockets that say they are TCP.
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
            listener.listen(_N_BACKLOG)  # from now on whoever calls is answered, if later
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError, OverflowError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ArgumentError(
            f"address: could not listen at {settings.host} port {settings.port}: {reason}; choose another with "
            "--host or --port"
        ) from None
    return listener


class Server:
    """One model being served.

    Args:
        palo: the model; it stays open.
        settings: how it is served.
        fetch: gets images from addresses, where the settings allow it; None takes the one with all its rules.
    """

    def __init__(self, palo: Palo, settings: ServerSettings, fetch: Fetch | None = None) -> None:
        limits = settings.limits
        if settings.allow_urls and fetch is None:
            fetch = UrlFetcher(limits.image_bytes, limits.fetch_s)
        self.service = Service(palo, settings, fetch if settings.allow_urls else None)
        self._socket = listening_socket(settings)
        protocol = type("LimitedConnection", (Connection,), {"limits": limits})
        config = uvicorn.Config(
            application(self.service),
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(limits.keep_alive_s),
            h11_max_incomplete_event_size=limits.header_bytes,
            timeout_graceful_shutdown=int(limits.grace_s + _WRITING_S),
        )
        self._server = _UvicornServer(config, self._begin_to_stop)
        self._is_stopping = threading.Event()

    @property
    def address(self) -> str:
        """Where it can be called."""
        host, port = self._socket.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def run(self) -> None:
        """Serve until `stop`, or until a signal asks for it."""
        try:
            asyncio.run(self._server.serve([self._socket]))
        finally:
            self._begin_to_stop()
            self.service.desk.close(0)

    def stop(self) -> None:
        """End in order: no new requests, answers under way may end."""
        self._server.should_exit = True
        self._begin_to_stop()

    def _begin_to_stop(self) -> None:
        if not self._is_stopping.is_set():
            self._is_stopping.set()
            close = self.service.desk.close
            threading.Thread(target=close, args=(self.service.limits.grace_s,), daemon=True).start()


class _UvicornServer(uvicorn.Server):
    """uvicorn's, with Ctrl-C as every command of palo-cpp has it."""

    def __init__(self, config: uvicorn.Config, begin_to_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._begin_to_stop = begin_to_stop

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals over for as long as it serves."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self.should_exit:
            os._exit(_EXIT_INTERRUPTED)  # somewhere a thread may be within the model, and would be waited for
        self.should_exit = True
        self._begin_to_stop()
