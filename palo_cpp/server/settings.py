"""What a server is told, and what it bears."""

from __future__ import annotations

from dataclasses import dataclass, field

_MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What is too much, too large or too slow.

    Attributes:
        n_connections: open at once.
        header_bytes, header_s: of one request.
        body_bytes, body_s: of one request.
        bodies_bytes: of all requests that are being read or answered.
        image_bytes, n_pixels: of one image; 64 megapixels take some 0.3 GiB while they are decoded.
        n_images, n_messages, n_characters: of one request; texts longer than this fit into no context.
        n_choices: answers to one request.
        write_s: a reader that takes nothing for so long is given up.
        keep_alive_s: an idle connection is closed.
        grace_s: answers under way may end when the server is stopped.
        fetch_s: one image that is fetched.
    """

    n_connections: int = 256
    header_bytes: int = 16 * 1024
    header_s: float = 10.0
    body_bytes: int = 64 * _MIB
    body_s: float = 60.0
    bodies_bytes: int = 256 * _MIB
    image_bytes: int = 20 * _MIB
    n_pixels: int = 64_000_000
    n_images: int = 8
    n_messages: int = 256
    n_characters: int = 100_000
    n_choices: int = 8
    write_s: float = 30.0
    keep_alive_s: float = 15.0
    grace_s: float = 10.0
    fetch_s: float = 15.0


@dataclass(frozen=True)
class ServerSettings:
    """How to serve.

    Attributes:
        host, port: where; port 0 takes a free one.
        api_key: what every request must carry; None asks for none.
        hosts: names beside the addresses and this machine's own by which clients may call it.
        cors: origins whose pages may use it; none but its own by default.
        allow_urls: whether images are fetched from the addresses in requests.
        aliases: further names of the model.
        n_parallel: answers under way at once.
        n_queue: requests that wait for their turn.
        logs_content: whether questions and answers are logged.
        limits: see `Limits`.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    api_key: str | None = field(default=None, repr=False)
    hosts: tuple[str, ...] = ()
    cors: tuple[str, ...] = ()
    allow_urls: bool = False
    aliases: tuple[str, ...] = ()
    n_parallel: int = 4
    n_queue: int = 32
    logs_content: bool = False
    limits: Limits = Limits()
