"""Fetches an image from an https address that a stranger wrote into a request.

The server may stand where the stranger may not: so it calls only public addresses, looks at them after the name was
resolved and again at every redirect, and connects to the very address that it looked at, for a second look at the name
might find another one.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Sequence
from typing import NamedTuple

from palo_cpp.server.refusals import Refusal

_N_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_PORT = 443
# Names that are public nowhere: RFC 6761, RFC 6762, RFC 8375, RFC 9476, and those of clouds.
_LOCAL_NAMES = ("localhost", "local", "internal", "intranet", "lan", "home", "corp", "arpa", "test", "alt", "onion")
_CHUNK_BYTES = 1 << 16

Resolve = Callable[[str, int], Sequence[str]]


class Target(NamedTuple):
    """Where an address leads."""

    host: str
    port: int
    path: str


def resolved(host: str, port: int) -> list[str]:
    """The addresses of a name, as the system finds them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, whatever it is wrapped in."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        # What is mapped, compatible or behind NAT64 (RFC 6052) lies in ::/8, which `is_reserved` knows.
        inner = ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is not None and not is_public(str(inner)):
            return False
        if ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


class UrlFetcher:
    """Fetches images.

    Args:
        max_bytes: of one.
        max_s: for one, redirects and all.
        resolve: from a name to addresses.
        context: what is trusted.
        is_allowed: which addresses may be called.
        ports: on which ports.
    """

    def __init__(
        self,
        max_bytes: int,
        max_s: float,
        *,
        resolve: Resolve = resolved,
        context: ssl.SSLContext | None = None,
        is_allowed: Callable[[str], bool] = is_public,
        ports: Sequence[int] = (_PORT,),
    ) -> None:
        self._max_bytes, self._max_s = max_bytes, max_s
        self._resolve, self._is_allowed, self._ports = resolve, is_allowed, ports
        self._context = context or ssl.create_default_context()

    def __call__(self, url: str) -> bytes:
        """What is there.

        Raises:
            Refusal: it must not, or cannot, be fetched.
        """
        ends_at = time.monotonic() + self._max_s
        for _ in range(_N_REDIRECTS + 1):
            target = self._target(url)
            try:
                found = self._get(target, ends_at)
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason = "it took too long" if time.monotonic() >= ends_at else type(error).__name__
                raise _refused(f"could not be fetched: {reason}") from None
            if isinstance(found, bytes):
                return found
            url = urllib.parse.urljoin(url, found)
        raise _refused(f"expected at most {_N_REDIRECTS} redirects, got more")

    def _target(self, url: str) -> Target:
        try:
            parts = urllib.parse.urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port or _PORT
            host = host.encode("idna").decode() if not host.isascii() else host
        except ValueError:
            raise _refused("expected an https address, got one that cannot be read") from None
        if parts.scheme != "https" or not host or any(c.isspace() or not c.isprintable() for c in url):
            raise _refused("expected an https address, got another")
        if parts.username is not None or port not in self._ports:
            raise _refused("expected an address without user and on the usual port, got another")
        if host.rpartition(".")[2].lower() in _LOCAL_NAMES:
            raise _refused("expected a public address, got a local name")
        path = urllib.parse.quote(parts.path or "/", safe="/%:@!$&'()*+,;=-._~")
        query = urllib.parse.quote(parts.query, safe="/?%:@!$&'()*+,;=-._~")
        return Target(host, port, f"{path}?{query}" if query else path)

    def _get(self, target: Target, ends_at: float) -> bytes | str:
        """The body, or where it has moved to."""
        addresses = self._resolve(target.host, target.port)
        if not addresses or not all(map(self._is_allowed, addresses)):
            raise _refused("expected a public address, got one that is not")
        connection = _Connection(target, addresses[0], self._context, ends_at)
        # Bytes that trickle in one by one never run into the socket's own timeout.
        watch = threading.Timer(max(ends_at - time.monotonic(), 0.001), connection.abort)
        watch.daemon = True
        watch.start()
        try:
            headers = {"User-Agent": "palo-cpp", "Accept": "image/*", "Accept-Encoding": "identity"}
            connection.request("GET", target.path, headers=headers)
            return self._answer(connection.getresponse(), ends_at)
        finally:
            watch.cancel()
            connection.close()

    def _answer(self, response: http.client.HTTPResponse, ends_at: float) -> bytes | str:
        if response.status in _REDIRECTS and (place := response.getheader("Location")):
            return place
        if response.status != 200:
            raise _refused(f"could not be fetched: the status is {response.status}")
        data = bytearray()
        while chunk := response.read1(_CHUNK_BYTES):
            data += chunk
            if len(data) > self._max_bytes:
                raise _refused(f"expected at most {self._max_bytes >> 20} MiB, got more")
        if time.monotonic() >= ends_at:  # `watch` has ended it, which looks like an end
            raise TimeoutError
        if response.length:
            raise http.client.IncompleteRead(b"")
        return bytes(data)


class _Connection(http.client.HTTPSConnection):
    """To an address that was looked at, under the name that it was found by."""

    def __init__(self, target: Target, address: str, context: ssl.SSLContext, ends_at: float) -> None:
        super().__init__(target.host, target.port, context=context)
        self._address, self._trust, self._ends_at = address, context, ends_at
        self._opened: socket.socket | None = None

    def connect(self) -> None:
        left_s = max(self._ends_at - time.monotonic(), 0.001)
        raw = socket.create_connection((self._address, self.port), timeout=left_s)
        # The handshake comes after the assignment, so that `abort` can end it.
        self.sock = self._trust.wrap_socket(raw, server_hostname=self.host, do_handshake_on_connect=False)
        self._opened = self.sock  # `sock` is None once only the response reads from it
        self.sock.do_handshake()

    def abort(self) -> None:
        """End it, whatever it is at."""
        if self._opened is not None:
            with contextlib.suppress(OSError):  # it has ended already
                self._opened.shutdown(socket.SHUT_RDWR)


def _refused(what: str) -> Refusal:
    return Refusal(400, f"image_url: {what}; send the image itself", param="image_url", code="invalid_image_url")
