"""A model hub on this machine, for tests: speaks the protocol that `huggingface_hub`'s client expects.

Two servers on the loopback interface: the endpoint at 127.0.0.1, and the store of large files at `localhost` and
another port, to which the endpoint redirects. `Fault`s make it fail as hubs and links do.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Condition, Thread
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from hub_repository import HubFile, Repository, file_tree, model_info

TOKEN = "hf_of_the_tests"
_PACE_BYTES = 16 * 1024


@dataclass
class Request:
    """What came and what went out."""

    method: str
    server: str  # "endpoint" or "store"
    path: str
    headers: dict[str, str]
    status: int = 0
    n_bytes: int = 0
    is_over: bool = False


@dataclass
class Fault:
    """Something that goes wrong, for the first `times` requests whose path has `where` in it.

    Attributes:
        where: part of the path.
        times: how often.
        methods: of which requests.
        status: answer with this status and no content.
        headers: beside it.
        cut_after: close the connection after so many bytes of the body.
        change: what to do with the bytes that are sent.
        redirect: answer 302 to this address.
        ignore_range: answer 200 with everything.
        stall_s: wait so long after the headers.
    """

    where: str
    times: int = 1_000_000
    methods: tuple[str, ...] = ("GET",)
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    change: Callable[[bytes], bytes] | None = None
    redirect: str = ""
    ignore_range: bool = False
    stall_s: float = 0.0


class LocalHub:
    """The hub; use `local_hub`.

    Attributes:
        repositories: name -> repository; may be changed while it runs.
        requests: all that came, in their order.
        faults: what goes wrong; may be changed while it runs.
        bytes_per_s: pace of each body; 0 is as fast as it goes.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.bytes_per_s = 0.0
        self._changed = Condition()
        self._servers = [self._serve("endpoint"), self._serve("store")]

    def _serve(self, role: str) -> ThreadingHTTPServer:
        hub = self

        class Handler(_Handler):
            def __init__(self, *args: Any) -> None:
                self.hub, self.role = hub, role
                super().__init__(*args)

        server = _Server(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._servers[0].server_port}"

    @property
    def store(self) -> str:
        return f"http://localhost:{self._servers[1].server_port}"

    def add(self, name: str, files: dict[str, bytes | Path | HubFile], **attributes: Any) -> Repository:
        """Publish a repository, or its next commit."""
        made = {path: each if isinstance(each, HubFile) else HubFile(each) for path, each in files.items()}
        self.repositories[name] = Repository(made, **attributes)
        return self.repositories[name]

    def n_bytes_served(self, where: str = "") -> int:
        """Bytes of all bodies of files, headers not counted, once all requests have ended.

        A client that has read a body, or has gone away, may ask sooner than the thread that sends it has counted.
        """
        with self._changed:
            assert self._changed.wait_for(lambda: all(r.is_over for r in self.requests), timeout=30)
        return sum(r.n_bytes for r in self.requests if where in r.path and "/api/" not in r.path)

    def next_fault(self, request: Request) -> Fault | None:
        with self._changed:
            self.requests.append(request)
            for fault in self.faults:
                if fault.times > 0 and fault.where in request.path and request.method in fault.methods:
                    fault.times -= 1
                    return fault
        return None

    def end(self, request: Request) -> None:
        with self._changed:
            request.is_over = True
            self._changed.notify_all()

    def file_of(self, sha256: str) -> HubFile | None:
        files = (file for repository in self.repositories.values() for file in repository.files.values())
        return next((file for file in files if file.lfs and file.sha256 == sha256), None)


@contextmanager
def local_hub() -> Iterator[LocalHub]:
    """A hub that runs until the block ends."""
    hub = LocalHub()
    try:
        yield hub
    finally:
        hub.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_args: Any) -> None:
        """A client that was killed resets its connection; a mistake in here shows in its test."""


class _Refusal(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Code": code, "X-Error-Message": message}


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection; `hub` and `role` come from the server that it belongs to."""

    hub: LocalHub
    role: str
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers leave in one piece

    def log_message(self, *_args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.request_ = Request(self.command, self.role, unquote(self.path), headers)
        self.fault = self.hub.next_fault(self.request_) or Fault("")
        try:
            if self.fault.status:
                raise _Refusal(self.fault.status, "", "made to fail")
            if self.fault.redirect:
                self._empty(302, {"Location": self.fault.redirect})
            else:
                (self._endpoint if self.role == "endpoint" else self._store)(urlsplit(self.path))
        except _Refusal as refusal:
            self._empty(refusal.status, {**refusal.headers, **self.fault.headers})
        except OSError:  # the client went away, perhaps killed
            self.close_connection = True
        finally:
            self.hub.end(self.request_)

    # ---- the endpoint

    def _endpoint(self, url: Any) -> None:
        path = unquote(url.path)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/revision/([^/]+)|/tree/([^/]+).*)?", path):
            name, revision, tree = found.groups()
            repository = self._repository(name, f"/api/models/{name}", needs_access=False)
            if repository:
                self._check_revision(repository, revision or tree)
                self._json(file_tree(repository) if tree else model_info(name, repository, parse_qs(url.query)))
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            name, revision, file_name = found.groups()
            repository = self._repository(name, f"/{name}", needs_access=True)
            if repository:
                self._check_revision(repository, revision)
                self._resolve(repository, file_name)
        else:
            raise _Refusal(404, "", "no such page")

    def _repository(self, name: str, prefix: str, *, needs_access: bool) -> Repository | None:
        given = self.request_.headers.get("authorization", "")
        is_known = given == f"Bearer {TOKEN}"
        repository = self.hub.repositories.get(name)
        if given and not is_known and not given.endswith("no_access"):
            raise _Refusal(401, "", "Invalid credentials in Authorization header")
        if repository is None or (repository.private and not is_known):
            raise _Refusal(404 if given else 401, "RepoNotFound", "Repository not found")
        if needs_access and repository.gated and not is_known:
            raise _Refusal(403 if given else 401, "GatedRepo", f"Access to model {name} is restricted")
        if repository.moved_to:
            new = prefix.replace(name, repository.moved_to) + self.path[len(prefix) :]
            self._empty(307, {"Location": new})
            return None
        return repository

    @staticmethod
    def _check_revision(repository: Repository, revision: str | None) -> None:
        if revision not in (None, "main", repository.commit):
            raise _Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    def _resolve(self, repository: Repository, path: str) -> None:
        if (file := repository.files.get(path)) is None:
            raise _Refusal(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": repository.commit, "ETag": f'"{file.etag}"'}
        if not file.lfs:
            self._body(file, headers)
            return
        location = f"{self.hub.store}/lfs/{file.sha256}?signature=1&name={quote(path)}"
        linked = {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.said_size), "Location": location}
        self._empty(302, {**headers, **linked})

    # ---- the store

    def _store(self, url: Any) -> None:
        file = self.hub.file_of(url.path.removeprefix("/lfs/"))
        if file is None or "signature" not in parse_qs(url.query):
            raise _Refusal(403, "", "AccessDenied")
        self._body(file, {"ETag": f'"store-{file.sha256[:32]}"'})

    # ---- bodies

    def _json(self, value: object) -> None:
        data = json.dumps(value).encode()
        self._head(200, {"Content-Type": "application/json", "Content-Length": str(len(data))})
        self._send(data)

    def _empty(self, status: int, headers: dict[str, str]) -> None:
        self._head(status, {"Content-Length": "0", **headers})

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.request_.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()

    def _body(self, file: HubFile, headers: dict[str, str]) -> None:
        start, end = 0, file.size
        asked = None if self.fault.ignore_range else re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            start, end = int(asked[1]), min(file.size, int(asked[2] or file.size - 1) + 1)
            if start >= end:
                raise _Refusal(416, "", "Range Not Satisfiable")
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
        length = {"Accept-Ranges": "bytes", "Content-Length": str(end - start)}
        self._head(206 if asked else 200, {**headers, **length})
        if self.command == "GET":
            time.sleep(self.fault.stall_s)
            self._send_file(file, start, end)

    def _send_file(self, file: HubFile, start: int, end: int) -> None:
        cut = self.fault.cut_after
        last = end if cut is None else min(end, start + cut)
        if isinstance(file.content, Path) and not self.fault.change and not self.hub.bytes_per_s:
            self._send_from_disk(file.content, start, last)
        else:
            self._send_pieces(file, start, last)
        self.close_connection |= last < end

    def _send_from_disk(self, path: Path, start: int, end: int) -> None:
        with path.open("rb") as source:
            while start < end:
                n = os.sendfile(self.connection.fileno(), source.fileno(), start, min(end - start, 1 << 20))
                self.request_.n_bytes += n
                start += n

    def _send_pieces(self, file: HubFile, start: int, end: int) -> None:
        step = _PACE_BYTES if self.hub.bytes_per_s else 1 << 20
        for at in range(start, end, step):
            piece = file.read(at, min(at + step, end))
            self._send(self.fault.change(piece) if self.fault.change else piece)
            if self.hub.bytes_per_s:
                time.sleep(len(piece) / self.hub.bytes_per_s)

    def _send(self, data: bytes) -> None:
        self.connection.sendall(data)
        self.request_.n_bytes += len(data)
