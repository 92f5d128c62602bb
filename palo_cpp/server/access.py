"""Who may ask, and how much: the host, the origin, the key, the size and the time of every request.

A page of any site may make its visitor's browser call this machine. It cannot hide where it is from: a browser says
the page's origin, and the name that it looked up (DNS rebinding gives that name this machine's address).
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import re
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from starlette.responses import JSONResponse

from palo_cpp.server.metrics import Metrics
from palo_cpp.server.refusals import ClientLeft, Refusal, busy
from palo_cpp.server.settings import ServerSettings

logger = logging.getLogger("palo_cpp.server.access")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

# Where a request's body lies in its scope.
BODY = "palo_cpp.body"
_OPEN_PATHS = re.compile(r"/|/health|/page/.*")  # what says nothing that is not in the package
_METHODS = "GET, POST, OPTIONS"
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]/@\s]+)(?::\d*)?")
_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


def is_address(name: str) -> bool:
    """Whether a name is an IP address: such a name cannot be made to mean another one."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


class Hosts:
    """The names by which a server may be called.

    Args:
        names: beside its addresses, `localhost` and the machine's own name.
    """

    def __init__(self, names: Iterable[str]) -> None:
        own = socket.gethostname().lower()
        self._names = {"localhost", own, f"{own.partition('.')[0]}.local", *(name.lower() for name in names)}

    def allow(self, host: str) -> bool:
        """Whether a request with this `Host` is meant for this server."""
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match[1].lower().removesuffix(".")
        return is_address(name) or name in self._names


class Access:
    """Lets requests through to an application, or refuses them.

    Args:
        app: the application.
        settings: who may ask.
        metrics: what is counted.
        paths: those that are counted by their names.
    """

    def __init__(self, app: App, settings: ServerSettings, metrics: Metrics, paths: Iterable[str]) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._paths = frozenset(paths)
        self._hosts = Hosts(settings.hosts)
        self._n_body_bytes = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await _Request(self, scope, receive, send).answer()

    # What follows is for `_Request`, which holds one request's state.

    def check(self, headers: MutableMapping[bytes, bytes], path: str) -> None:
        """Refuse whoever may not ask.

        Raises:
            Refusal: and why.
        """
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._hosts.allow(host):
            raise Refusal(
                403, "Host: expected this server's address or name, got another; --allow-host adds a name", code="host"
            )
        origin = headers.get(b"origin")
        if origin is not None and not self.allows_origin(origin, host):
            raise Refusal(
                403, "Origin: expected this server's own page, got another; --cors adds an origin", code="origin"
            )
        if self._settings.api_key is not None and not _OPEN_PATHS.fullmatch(path):
            self._check_key(headers.get(b"authorization", b""))

    def check_size(self, scope: MutableMapping[str, Any]) -> None:
        """Refuse a header that is too large: what comes at once is parsed at once, whatever the parser's limit."""
        size = len(scope["raw_path"]) + len(scope["query_string"])
        size += sum(len(name) + len(value) for name, value in scope["headers"])
        if size > self._settings.limits.header_bytes:
            raise Refusal(431, f"header: expected at most {self._settings.limits.header_bytes} bytes, got {size}")

    def allows_origin(self, origin: bytes, host: str) -> bool:
        """Whether a page of this origin may ask."""
        said = origin.decode("latin-1").lower()
        return said in (f"http://{host.lower()}", f"https://{host.lower()}") or self.shares_with(said)

    def shares_with(self, origin: str) -> bool:
        """Whether an origin was named by `--cors`."""
        return any(named in ("*", origin) for named in map(str.lower, self._settings.cors))

    def _check_key(self, authorization: bytes) -> None:
        scheme, _, key = authorization.partition(b" ")
        wanted = (self._settings.api_key or "").encode()
        if scheme.lower() != b"bearer" or not hmac.compare_digest(key.strip(), wanted):
            raise Refusal(
                401, "Authorization: expected Bearer and this server's API key, got none or another",
                code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip

    async def body(self, headers: MutableMapping[bytes, bytes], receive: Receive, taken: list[int]) -> bytes:
        """Read a request's body.

        Args:
            headers: of the request.
            receive: gives its pieces.
            taken: gets the numbers of bytes that are in memory now.

        Raises:
            Refusal: too large, too slow, or too many at once.
        """
        limits = self._settings.limits
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > limits.body_bytes:
            raise self._too_large()
        data = bytearray()

        async def read() -> None:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeft
                piece = message.get("body", b"")
                data.extend(piece)
                taken.append(len(piece))
                self._n_body_bytes += len(piece)
                if len(data) > limits.body_bytes:
                    raise self._too_large()
                if self._n_body_bytes > limits.bodies_bytes:
                    raise busy("server: expected room for this request, got too many large ones; try again later")
                if not message.get("more_body", False):
                    return

        try:
            await asyncio.wait_for(read(), limits.body_s)
        except asyncio.TimeoutError:
            raise Refusal(408, f"body: expected it within {limits.body_s:g} s, got a part of it") from None
        return bytes(data)

    def release(self, taken: list[int]) -> None:
        """A request's body is no longer in memory."""
        self._n_body_bytes -= sum(taken)

    def _too_large(self) -> Refusal:
        return Refusal(413, f"body: expected at most {self._settings.limits.body_bytes >> 20} MiB, got more")

    def note(self, method: str, path: str, status: int, elapsed_s: float) -> None:
        """Count and log a request, without anything that a user wrote."""
        named = path if path in self._paths else "other"
        self._metrics.request(named, status)
        known = method if method in ("GET", "HEAD", "POST", "OPTIONS") else "other"
        logger.info("%s %s %d %.2f s", known, named, status, elapsed_s)

    async def forward(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Let the application answer."""
        await self._app(scope, receive, send)


class _Request:
    """One request on its way."""

    def __init__(self, access: Access, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        self._access, self._scope, self._receive, self._send_on = access, scope, receive, send
        self._headers = dict(scope["headers"])
        self._path: str = scope["path"]
        self._begun_at = time.perf_counter()
        self._status = 0
        self._is_body_read = True

    async def answer(self) -> None:
        taken: list[int] = []
        try:
            if self._is_preflight():
                await self._answer_preflight()
                return
            self._access.check_size(self._scope)
            self._access.check(self._headers, self._path)
            self._is_body_read = False
            self._scope[BODY] = await self._access.body(self._headers, self._receive, taken)
            self._is_body_read = True
            await self._access.forward(self._scope, self._receive, self._send)
        except ClientLeft:  # the client left; nobody is there to be answered
            self._status = self._status or 499
        except Refusal as refusal:
            await self._refuse(refusal)
        finally:
            self._access.release(taken)
            elapsed_s = time.perf_counter() - self._begun_at
            self._access.note(self._scope["method"], self._path, self._status or 499, elapsed_s)

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            message["headers"] = [*message.get("headers", []), *_HEADERS, *self._sharing()]
            if not self._is_body_read:
                message["headers"].append((b"connection", b"close"))
        await self._send_on(message)

    def _sharing(self) -> list[tuple[bytes, bytes]]:
        origin = self._headers.get(b"origin")
        if origin is None or not self._access.shares_with(origin.decode("latin-1").lower()):
            return []
        return [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]

    def _is_preflight(self) -> bool:
        return self._scope["method"] == "OPTIONS" and b"access-control-request-method" in self._headers

    async def _answer_preflight(self) -> None:
        headers = self._sharing()
        status = 204 if headers else 403
        if headers:
            asked = self._headers.get(b"access-control-request-headers", b"authorization, content-type")
            headers = [(b"access-control-allow-methods", _METHODS.encode()), (b"access-control-max-age", b"600")]
            headers.append((b"access-control-allow-headers", asked))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": b""})

    async def _refuse(self, refusal: Refusal) -> None:
        if self._status:
            return  # a response has begun; its own end says what happened
        if self._scope["method"] == "POST":
            self._is_body_read = self._is_body_read and BODY in self._scope
        said = refusal.to_ollama() if self._path.startswith("/api/") else refusal.to_openai()
        response = JSONResponse(said, refusal.status, refusal.headers)
        await response(self._scope, self._receive, self._send)
