"""One file on the hub: its hash, its size and where its bytes are for the moment."""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Lock
from typing import TypeVar
from urllib.parse import quote, urljoin

from palo_cpp.errors import DownloadError
from palo_cpp.hub.connection import Connections, Reply
from palo_cpp.hub.hashing import is_hash
from palo_cpp.hub.refusals import Retries, TemporaryFailureError, check_status, refusal
from palo_cpp.hub.settings import endpoint

Result = TypeVar("Result")


@dataclass(frozen=True)
class Located:
    """What the hub says about a file.

    Attributes:
        etag: its hash, which names it among the cache's blobs.
        size: bytes.
        url: where the bytes are; addresses of stores expire after minutes.
    """

    etag: str
    size: int
    url: str


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository at one commit.

    Attributes:
        repository: `ORG/NAME`.
        commit: git's hash, so that all files are of one state of the repository.
        path: in the repository.
        token: of the user, if any.
    """

    repository: str
    commit: str
    path: str
    token: str | None = None

    def __str__(self) -> str:
        return f"{self.repository}/{self.path}"

    @property
    def address(self) -> str:
        """The hub's address of the file, which stays the same."""
        return f"{endpoint()}/{self.repository}/resolve/{self.commit}/{quote(self.path)}"

    def connections(self) -> Connections:
        """Connections for one thread."""
        return Connections(endpoint(), self.token)

    def locate(self, connections: Connections) -> Located:
        """Ask the hub.

        Raises:
            TemporaryFailureError: it may answer later.
            DownloadError: it refuses.
        """
        reply = connections.head(self.address)
        reply.body.read()
        check_status(reply.status, reply.headers.get("Retry-After"), str(self))
        if reply.status >= 400:
            raise self.refused(reply)
        headers = reply.headers
        etag = (headers.get("X-Linked-Etag") or headers.get("ETag") or "").removeprefix("W/").strip('"')
        size = headers.get("X-Linked-Size") or (headers.get("Content-Length") if reply.status == 200 else None) or ""
        if not is_hash(etag) or not re.fullmatch(r"\d{1,15}", size):
            raise DownloadError(
                f"{self}: expected the file's hash and size from the hub, got ETag {etag[:80]!r} and size "
                f"{size[:20]!r}; check HF_ENDPOINT, or a proxy that changes answers"
            )
        return Located(etag, int(size), urljoin(reply.url, headers.get("Location") or reply.url))

    def refused(self, reply: Reply) -> DownloadError:
        """The sentence for an answer that trying again would not change."""
        code = reply.headers.get("X-Error-Code")
        return refusal(reply.status, code, str(self), self.repository, has_token=self.token is not None)


class Address:
    """Where the bytes are now, for several threads: asked again once it has expired."""

    def __init__(self, remote: RemoteFile, located: Located) -> None:
        self._remote, self._located = remote, located
        self._lock = Lock()

    @property
    def url(self) -> str:
        """The address."""
        return self._located.url

    def renew(self, connections: Connections, expired: str) -> None:
        """Ask for another one, unless another thread has.

        Raises:
            FileChangedError: the hub has another file there now.
        """
        with self._lock:
            if self._located.url != expired:
                return
            located = self._remote.locate(connections)
            if (located.etag, located.size) != (self._located.etag, self._located.size):
                raise FileChangedError(str(self._remote))
            self._located = located


class FileChangedError(Exception):
    """The file on the hub is another one than when its download began."""


def with_retries(what: str, ask: Callable[[], Result], stopped: Event | None = None) -> Result:
    """Ask again while the failures are temporary.

    Raises:
        DownloadError: they were too many.
    """
    retries = Retries(what)
    while True:
        try:
            return lost_as_temporary(ask)
        except TemporaryFailureError as failure:
            (stopped or Event()).wait(retries.wait_s(failure))


def lost_as_temporary(ask: Callable[[], Result]) -> Result:
    """Call, and turn what a lost connection raises into a temporary failure."""
    try:
        return ask()
    except DownloadError:
        raise
    except http.client.HTTPException as error:
        raise TemporaryFailureError(f"the connection was lost ({type(error).__name__})") from error
    except OSError as error:
        raise TemporaryFailureError(f"the connection was lost ({error.strerror or error})") from error
