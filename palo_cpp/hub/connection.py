"""HTTP for the bodies of large files: kept connections, ranges, proxies, and rules about where a token may go.

Python's own `http.client` rather than the client of `huggingface_hub`: that one parses each piece of a body in Python
and reaches a third of the speed (SPEED.md).
"""

from __future__ import annotations

import http.client
import ssl
import urllib.request
from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from palo_cpp.errors import DownloadError
from palo_cpp.hub.settings import check_online, timeout_s

_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5
_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]


@dataclass
class Reply:
    """The answer to a request.

    Attributes:
        url: the address that answered, after redirects.
        status: HTTP status.
        headers: of the answer.
        body: still to be read.
        is_endpoint: whether the hub itself answered, and no store of files.
    """

    url: str
    status: int
    headers: http.client.HTTPMessage
    body: http.client.HTTPResponse
    is_endpoint: bool
    n_read: int = 0

    def read_some(self, n_bytes: int) -> bytes:
        """What has arrived, so many bytes at most; b"" at the end, or where the connection was cut."""
        piece = self.body.read1(n_bytes)
        self.n_read += len(piece)
        if self.n_read == self._length:
            self.body.close()  # Python 3.11's read1 does not count, and the next request needs it closed
        return piece

    @property
    def is_whole(self) -> bool:
        """Whether the body was read to its end, so that the connection can be used again."""
        return self.body.isclosed() and self.n_read == self._length

    @property
    def _length(self) -> int:
        return int(self.headers.get("Content-Length") or -1)


def origin_of(url: str) -> Origin:
    """Scheme, host and port of an address.

    Raises:
        DownloadError: it is not an address of http or https.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise DownloadError(
            f"{url[:200]}: expected an address that begins with https://, got another; check HF_ENDPOINT"
        )
    return parts.scheme, parts.hostname, port or _PORTS[parts.scheme]


class Connections:
    """Kept connections of one thread.

    Args:
        endpoint: the hub; the token is sent nowhere else.
        token: of the user, if any.
    """

    def __init__(self, endpoint: str, token: str | None) -> None:
        self._endpoint = origin_of(endpoint)
        self._token = token
        self._open: dict[Origin, _Route] = {}

    def get(self, url: str, first: int = 0, last: int | None = None) -> Reply:
        """Ask for the bytes from `first` to `last`, both included; follows redirects.

        Raises:
            OSError, http.client.HTTPException: the connection failed.
            DownloadError: offline, or a redirect that must not be followed.
        """
        is_range = first > 0 or last is not None
        headers = {"Range": f"bytes={first}-{'' if last is None else last}"} if is_range else {}
        return self._request("GET", url, headers, stay=False)

    def head(self, url: str) -> Reply:
        """Ask the endpoint about a file; a redirect to another host is the answer and is not followed."""
        return self._request("HEAD", url, {}, stay=True)

    def _request(self, method: str, url: str, headers: dict[str, str], *, stay: bool) -> Reply:
        for _ in range(_MOST_REDIRECTS):
            reply = self._once(method, url, headers)
            location = reply.headers.get("Location")
            if reply.status not in _REDIRECTS or not location:
                return reply
            target = urljoin(url, location)
            _check_redirect(url, target)
            if stay and origin_of(target) != self._endpoint:
                return reply
            reply.body.read()  # else the connection cannot be used again
            url = target
        raise DownloadError(
            f"{url[:200]}: could not be fetched: more than {_MOST_REDIRECTS} redirects; try again later"
        )

    def _once(self, method: str, url: str, headers: dict[str, str]) -> Reply:
        check_online(url)
        origin = origin_of(url)
        # Without "identity" a proxy may compress, and ranges and sizes would be those of something else.
        sent = {"Accept-Encoding": "identity", "User-Agent": "palo-cpp", **headers}
        if self._token and origin == self._endpoint:
            sent["Authorization"] = f"Bearer {self._token}"
        route = self._route(origin)
        try:
            route.connection.request(method, route.target(url), headers=sent | route.headers)
            response = route.connection.getresponse()
        except (OSError, http.client.HTTPException):
            self.drop(url)
            raise
        return Reply(url, response.status, response.headers, response, origin == self._endpoint)

    def _route(self, origin: Origin) -> _Route:
        if origin not in self._open:
            self._open[origin] = _connect(origin)
        return self._open[origin]

    def drop(self, url: str) -> None:
        """Close the connection to a host, whose state is not known any more."""
        if route := self._open.pop(origin_of(url), None):
            route.connection.close()

    def close(self) -> None:
        """Close all of them."""
        for route in self._open.values():
            route.connection.close()
        self._open.clear()

    def __enter__(self) -> Connections:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _check_redirect(url: str, target: str) -> None:
    if origin_of(url)[0] == "https" and origin_of(target)[0] != "https":
        raise DownloadError(
            f"{url[:200]}: expected a redirect to https, got {target[:200]}, which anybody on the way could change; "
            "check HF_ENDPOINT"
        )


@dataclass(frozen=True)
class _Route:
    """A connection, perhaps to a proxy, which without TLS wants whole addresses and its own credentials."""

    connection: http.client.HTTPConnection
    headers: dict[str, str]
    is_plain_proxy: bool = False

    def target(self, url: str) -> str:
        """What the first line of a request names."""
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return f"{parts.scheme}://{parts.netloc}{path}" if self.is_plain_proxy else path


def _connect(origin: Origin) -> _Route:
    scheme, host, port = origin
    if (proxy := _proxy(scheme, host, port)) is None:
        return _Route(_direct(scheme, host, port), {})
    at = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    connection = _direct(scheme, at.hostname or "", at.port or 80)
    if scheme == "http":
        return _Route(connection, _proxy_credentials(at), is_plain_proxy=True)
    connection.set_tunnel(host, port, headers=_proxy_credentials(at))
    return _Route(connection, {})


def _direct(scheme: str, host: str, port: int) -> http.client.HTTPConnection:
    if scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=timeout_s(), context=_tls())
    return http.client.HTTPConnection(host, port, timeout=timeout_s())


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _proxy(scheme: str, host: str, port: int) -> str | None:
    """HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, or the system's settings."""
    if urllib.request.proxy_bypass(f"{host}:{port}"):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(scheme) or proxies.get("all")


def _proxy_credentials(proxy: SplitResult) -> dict[str, str]:
    if not proxy.username:
        return {}
    plain = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(plain.encode()).decode()}"}
