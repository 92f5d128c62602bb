"""Who may ask: hosts, origins, keys, and what a server says of itself."""

from __future__ import annotations

import socket

import pytest
from click.testing import CliRunner
from running_server import RunningServer

from palo_cpp.cli import palo_cpp

KEY = "0123456789abcdef"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def locked(nano):
    with RunningServer(nano, api_key=KEY, hosts=("palo.example",), cors=("https://app.example",)) as running:
        yield running


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost:8080", "LOCALHOST", "[::1]:99", "192.168.1.7", "localhost.", socket.gethostname()],
)
def test_this_servers_own_names(server, host):
    assert server.get("/health", Host=host).status == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example:8080", "a@localhost", ""),
        *("localhost/", "localhost:80:80", "[::1", "127.0.0.1 evil.example", "palo.example", "0x7f.1.evil", "127.1"),
    ],
)
@pytest.mark.parametrize("path", ["/", "/health", "/v1/models"])
def test_other_names_are_refused(server, host, path):
    reply = server.get(path, Host=host)
    assert (reply.status, reply.json["error"]["code"]) == (403, "host")


def test_a_name_that_was_allowed(locked):
    assert locked.get("/health", Host="Palo.example:443").status == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:1", "http://127.0.0.1", "file://"]
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/generate"])
def test_pages_of_other_origins_may_not_ask(server, origin, path):
    """Also in the way that browsers send without asking first: as plain text."""
    reply = server.post(path, {"prompt": "x", "messages": []}, {"Origin": origin, "Content-Type": "text/plain"})
    assert reply.status == 403 and "Origin" in reply.message
    assert "access-control-allow-origin" not in reply.headers


def test_its_own_page_may(server):
    origin = f"http://127.0.0.1:{server.port}"
    reply = server.post(
        "/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 2}, {"Origin": origin}
    )
    assert reply.status == 200


def test_an_origin_that_was_named(locked):
    origin = {"Origin": "https://app.example"}
    asks_first = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    reply = locked.request("OPTIONS", "/v1/chat/completions", headers=asks_first)
    assert reply.status == 204 and reply.headers["access-control-allow-origin"] == "https://app.example"
    assert reply.headers["access-control-allow-headers"] == "authorization"
    reply = locked.get("/v1/models", **origin, Authorization=f"Bearer {KEY}")
    assert reply.status == 200 and reply.headers["access-control-allow-origin"] == "https://app.example"
    refused = locked.request("OPTIONS", "/v1/models", headers={**asks_first, "Origin": "https://evil.example"})
    assert refused.status == 403 and "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer wrong", f"Basic {KEY}", KEY, f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", "Bearer ü"],
)
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/api/tags", "/nothing"])
def test_no_key_no_answer(locked, header, path):
    reply = locked.request("GET", path, headers={} if header is None else {"Authorization": header.encode("latin-1")})
    assert reply.status == 401 and reply.headers["www-authenticate"] == "Bearer"
    assert KEY not in reply.body.decode()


def test_the_key_opens(locked):
    for scheme in ("Bearer", "bearer"):
        assert locked.get("/v1/models", Authorization=f"{scheme} {KEY}").status == 200
    assert locked.get("/health").status == 200 and locked.get("/").status == 200


def test_nothing_is_said_of_the_software(server):
    assert "server" not in server.get("/health").headers
    assert server.get("/health").headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "GET"])
def test_other_methods(server, method):
    assert server.request(method, "/v1/chat/completions").status == 405


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/chat/completions/", "/v1/embeddings", "/api", "/../etc/passwd", "//", "/%00"]
)
def test_other_paths(server, path):
    reply = server.post(path, {})
    assert reply.status in (404, 405) and "passwd" not in reply.message


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "palo.example", ""])
def test_other_machines_need_a_key_or_a_word(host):
    result = CliRunner().invoke(palo_cpp, ["serve", "--host", host])
    assert result.exit_code == 2 and "--no-auth" in result.stderr


def test_a_short_key_is_refused():
    result = CliRunner().invoke(palo_cpp, ["serve", "--api-key", "secret"])
    assert result.exit_code == 2 and "at least 8" in result.stderr and "secret" not in result.stderr
