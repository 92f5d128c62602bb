"""A server of palo_cpp in a thread of its own, and a client that knows nothing of it."""

from __future__ import annotations

import base64
import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image, ImageDraw

from palo_cpp.server.running import Server
from palo_cpp.server.settings import Limits, ServerSettings


@dataclass
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """Of an error, in either form."""
        error = self.json["error"]
        return str(error if isinstance(error, str) else error["message"])

    @property
    def events(self) -> list[Any]:
        """Of server-sent events: their data; the last is "[DONE]" where that was sent."""
        lines = [line[6:] for line in self.body.decode().split("\n") if line.startswith("data: ")]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]

    @property
    def lines(self) -> list[Any]:
        """Of newline-separated JSON."""
        return [json.loads(line) for line in self.body.decode().splitlines()]


class RunningServer:
    """A server that runs while the `with` block does.

    Args:
        palo: the model.
        fetch: as `Server` takes it.
        limits: fields of `Limits`.
        settings: fields of `ServerSettings`.
    """

    def __init__(self, palo: Any, *, fetch: Any = None, limits: dict[str, Any] | None = None, **settings: Any) -> None:
        made = replace(ServerSettings(port=0, **settings), limits=Limits(**(limits or {})))
        self.server = Server(palo, made, fetch)
        self.url = self.server.address
        self.port = int(self.url.rpartition(":")[2])
        self._thread = threading.Thread(target=self.server.run)

    def __enter__(self) -> RunningServer:
        self._thread.start()
        while True:
            try:
                self.get("/health")
                return self
            except ConnectionRefusedError:
                time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        self.server.stop()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Reply:
        return self.request("POST", path, body, headers)

    def chat(self, *parts: Any, **fields: Any) -> Reply:
        """One question to `/v1/chat/completions`."""
        return self.post("/v1/chat/completions", {"messages": [user(*parts)], "max_tokens": 40, **fields})

    def metric(self, name: str, label: str = "") -> float:
        """A number of `/metrics`, added up over all its labels, or over those that this text is in."""
        lines = self.get("/metrics").body.decode().splitlines()
        found = [line for line in lines if line.partition(" ")[0].partition("{")[0] == name and label in line]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """A bare connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as opened:
            yield opened

    def send_raw(self, data: bytes) -> bytes:
        """All that comes back for some bytes, until the server closes the connection."""
        with self.connected() as opened:
            opened.sendall(data)
            return read_all(opened)

    def idle(self, timeout_s: float = 30) -> bool:
        """Whether all work ends in time."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            desk = self.server.service.desk
            if not desk.n_running and not desk.n_waiting:
                return True
            time.sleep(0.01)
        return False


def raw_post(path: str, body: Any) -> bytes:
    """The bytes of a request, for connections that end in odd ways."""
    data = json.dumps(body).encode()
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def read_all(opened: socket.socket) -> bytes:
    """What comes until the end, however that comes."""
    data = b""
    try:
        while piece := opened.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data


def user(*parts: Any) -> dict[str, Any]:
    """A message: texts, and the files of images, in any order."""
    content = [text_part(part) if isinstance(part, str) else image_part(part) for part in parts]
    return {"role": "user", "content": content}


def text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def image_part(data: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_uri(data)}} if isinstance(data, bytes) else data


def data_uri(data: bytes) -> str:
    return f"data:image/png;base64,{encoded(data)}"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def drawing(colour: str, shape: str, size: tuple[int, int] = (300, 200)) -> bytes:
    """A PNG file."""
    picture = Image.new("RGB", size, "white")
    width, height = size
    box = (width // 5, height // 5, width // 5 + height * 3 // 5, height * 4 // 5)
    draw = ImageDraw.Draw(picture)
    (draw.ellipse if shape == "circle" else draw.rectangle)(box, fill=colour)
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()
