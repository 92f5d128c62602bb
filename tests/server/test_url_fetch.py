"""What a stranger may make the server fetch: images from public https addresses, and nothing else, by no detour."""

from __future__ import annotations

import http.server
import ssl
import threading
import time
from pathlib import Path
from typing import ClassVar

import pytest
from running_server import RunningServer, drawing

from palo_cpp.server.refusals import Refusal
from palo_cpp.server.url_fetch import UrlFetcher, is_public, resolved

CERTIFICATE = Path(__file__).parent.parent / "data" / "images_example.pem"
IMAGE = drawing("red", "circle")

PRIVATE = [
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.9.9"),
    *("192.168.0.1", "169.254.169.254", "169.254.0.1", "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1"),
    *("198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "ff02::1", "2001:db8::1", "100::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "::ffff:0:127.0.0.1"),
    *("64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1", "fec0::1"),
    *("2001:0:4136:e378:8000:63bf:80ff:fffe", "", "localhost", "127.1", "0x7f000001", "not an address"),
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "2002:808:808::1"]


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_that_are(address):
    assert is_public(address)


def never(*_):
    raise AssertionError("something was called")


# Twelve spellings of this machine, resolved as the system resolves them, and what else names what is not public.
SPELLINGS = [
    *("127.0.0.1", "2130706433", "017700000001", "0177.0.0.1", "0x7f000001", "0x7f.0.0.1", "127.1", "127.0.1", "0"),
    *("0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:7f00:0001]"),
    *("localhost", "LOCALHOST", "localhost.", "a.localhost", "printer.local", "metadata.google.internal", "router.lan"),
    *("169.254.169.254", "2852039166", "0xa9fea9fe", "[fd00:ec2::254]", "[fe80::1]", "10.0.0.1", "192.168.1.1"),
    *("１２７.0.0.1", "127。0。0。1", "ⓛocalhost", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "intranet.corp"),
]


@pytest.mark.parametrize("host", SPELLINGS)
@pytest.mark.parametrize("port", ["", ":443"])
def test_no_spelling_reaches_this_machine(monkeypatch, host, port):
    monkeypatch.setattr("socket.create_connection", never)
    with pytest.raises(Refusal, match="image_url"):
        UrlFetcher(1000, 5)(f"https://{host}{port}/a.png")


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://images.example/a.png",
            "ftp://images.example/a",
            "file:///etc/passwd",
            "https:/etc/passwd",
            "https://",
        ),
        *("https://user@images.example/", "https://user:word@images.example/", "https://images.example:22/"),
        *("https://images.example:80/", "https://images.example:99999/", "https://images.example:x/", "https://[::1/"),
        *("https://images.example\\@127.0.0.1/", "https://images.example /", "https://images.example/\r\nHost: x"),
        *(
            "//images.example/a.png",
            "images.example/a.png",
            "https://ima\tges.example/",
            "https://\x00/",
            "https://.../",
        ),
        "https://" + "a" * 300 + ".example/",
        "https://xn--a/",
    ],
)
def test_what_is_no_such_address(monkeypatch, url):
    monkeypatch.setattr("socket.create_connection", never)
    with pytest.raises(Refusal, match="image_url"):
        UrlFetcher(1000, 5, resolve=lambda host, _: ["93.184.216.34"] if host == "127.0.0.1" else [])(url)


@pytest.mark.parametrize("addresses", [[], ["10.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["::1", "93.184.216.34"]])
def test_all_addresses_of_a_name_must_be_public(monkeypatch, addresses):
    monkeypatch.setattr("socket.create_connection", never)
    with pytest.raises(Refusal, match="public"):
        UrlFetcher(1000, 5, resolve=lambda *_: addresses)("https://images.example/a.png")


def test_a_name_that_means_another_address_the_second_time_is_asked_once(monkeypatch):
    """DNS rebinding: the connection goes to the address that was looked at."""
    asked, called = [], []

    def rebinding(host, _port):
        asked.append(host)
        return ["93.184.216.34"] if len(asked) == 1 else ["127.0.0.1"]

    def connect(place, timeout):
        called.append(place)
        raise TimeoutError(timeout)

    monkeypatch.setattr("socket.create_connection", connect)
    with pytest.raises(Refusal):
        UrlFetcher(1000, 5, resolve=rebinding)("https://images.example/a.png")
    assert called == [("93.184.216.34", 443)] and asked == ["images.example"]


class Handler(http.server.BaseHTTPRequestHandler):
    """An https server that misbehaves in the way that the path says."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[tuple[str, str]]] = []

    def do_GET(self):
        self.seen.append((self.headers["Host"], self.path))
        kind, _, rest = self.path[1:].partition("/")
        if kind == "to":
            self.answer(302, b"", Location=rest)
        elif kind == "slow":
            self.send_response(200)
            self.end_headers()
            for _ in range(100):
                time.sleep(0.1)
                self.wfile.write(b"x")
        elif kind == "slow-header":
            for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100:
                time.sleep(0.05)
                self.wfile.write(bytes([byte]))
        elif kind == "endless":
            self.send_response(200)
            self.end_headers()
            while True:
                self.wfile.write(bytes(65536))
        elif kind == "half":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"x")
            self.close_connection = True
        elif kind == "status":
            self.answer(int(rest), b"no")
        else:
            self.answer(200, IMAGE)

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class QuietServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


@pytest.fixture(scope="module")
def images_example():
    """An https server on this machine that is `images.example`; its port."""
    server = QuietServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def fetch(images_example):
    """A fetcher that takes this machine's address for the public one of two names."""
    Handler.seen.clear()
    return fetcher(images_example)


def fetcher(port, **given):
    def resolve(host, port):
        return ["127.0.0.1"] if host in ("images.example", "other.example") else resolved(host, port)

    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    made = {"resolve": resolve, "context": context, "ports": (port,), **given}
    return UrlFetcher(1 << 20, 1.0, is_allowed=lambda address: address == "127.0.0.1" or is_public(address), **made)


def test_an_image_is_fetched(fetch, images_example):
    assert fetch(f"https://images.example:{images_example}/a%20b.png?x=1&y=ä") == IMAGE
    assert Handler.seen == [(f"images.example:{images_example}", "/a%20b.png?x=1&y=%C3%A4")]


def test_a_redirect_is_followed_to_what_may_be_called(fetch, images_example):
    assert fetch(f"https://images.example:{images_example}/to/https://other.example:{images_example}/b") == IMAGE
    assert fetch(f"https://images.example:{images_example}/to//c") == IMAGE


@pytest.mark.parametrize(
    "place",
    [
        *(
            "http://images.example/",
            "https://169.254.169.254/latest/meta-data/",
            "https://2130706433/",
            "file:///etc/passwd",
        ),
        *(
            "https://localhost/",
            "https://[::1]/",
            "https://10.0.0.1/",
            "https://0/",
            "//192.168.1.1/",
            "https://a.local/",
        ),
        *("ftp://images.example/", "data:image/png;base64,AAAA", "https://u@images.example/", "gopher://127.0.0.1/"),
    ],
)
def test_a_redirect_elsewhere_is_not(images_example, place):
    here = f"https://images.example:{images_example}/"
    fetch = fetcher(images_example, ports=(443, images_example))
    fetch._is_allowed = lambda address: address == "127.0.0.1" and len(Handler.seen) == 0
    Handler.seen.clear()
    with pytest.raises(Refusal, match="image_url"):
        fetch(f"{here}to/{place}")
    assert len(Handler.seen) == 1


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("endless", "MiB"),
        ("slow", "too long"),
        ("slow-header", "too long"),
        ("half", "could not be fetched"),
        ("status/404", "404"),
        ("status/206", "206"),
        ("to/" * 5 + "x", "redirects"),
    ],
)
def test_what_is_too_large_too_slow_or_not_there(fetch, images_example, path, said):
    begun = time.monotonic()
    with pytest.raises(Refusal, match=said):
        fetch(f"https://images.example:{images_example}/{path}")
    assert time.monotonic() - begun < 3


def test_a_certificate_that_is_not_trusted(images_example):
    with pytest.raises(Refusal, match="could not be fetched"):
        fetcher(images_example, context=ssl.create_default_context())(f"https://images.example:{images_example}/")


def test_a_name_that_the_certificate_does_not_have(images_example):
    fetch = fetcher(images_example, resolve=lambda *_: ["127.0.0.1"])
    with pytest.raises(Refusal, match="could not be fetched"):
        fetch(f"https://third.example:{images_example}/")


def test_the_server_answers_about_an_address(nano, images_example):
    with RunningServer(nano, fetch=fetcher(images_example), allow_urls=True) as server:
        url = f"https://images.example:{images_example}/a.png"
        said = server.chat("?", {"type": "image_url", "image_url": {"url": url}}).json
        assert said["choices"][0]["message"]["content"] == nano.ask(IMAGE, "?", max_tokens=40).text
        assert server.chat("?", {"type": "image_url", "image_url": "https://10.0.0.1/"}).status == 400


def test_by_default_nothing_is_fetched(nano, images_example):
    Handler.seen.clear()
    with RunningServer(nano, fetch=fetcher(images_example)) as server:
        for body in ({"type": "image_url", "image_url": f"https://images.example:{images_example}/a.png"},):
            reply = server.chat("?", body)
            assert reply.status == 400 and "--allow-urls" in reply.message
    assert Handler.seen == []
