"""What is wrong with a request is said in one sentence that names the field; no body, however odd, ends the server."""

from __future__ import annotations

import json

import pytest
from running_server import RunningServer, drawing, image_part, text_part, user

URL = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]
NESTED = 100_000

MALFORMED = {
    "empty": b"",
    "space": b"  \n",
    "text": b"hello",
    "open": b"{",
    "half a key": b'{"messages',
    "no value": b'{"messages":}',
    "a comma too many": b'{"messages":[],}',
    "no comma": b'{"model":"a" "messages":[]}',
    "single quotes": b"{'messages': []}",
    "no quotes": b"{messages: []}",
    "a comment": b'{"messages": [] /* x */}',
    "two objects": b"{}{}",
    "more after it": b"{} x",
    "a list": b"[]",
    "a number": b"1",
    "a text": b'"messages"',
    "null": b"null",
    "true": b"true",
    "NaN": b'{"temperature": NaN}',
    "Infinity": b'{"temperature": -Infinity}',
    "a number of 5000 digits": b'{"seed": ' + b"9" * 5000 + b"}",
    "a number too large": b'{"temperature": 1e999}',
    "nested lists": b'{"messages": ' + b"[" * NESTED + b"]" * NESTED + b"}",
    "nested objects": b'{"a":' * NESTED + b"1" + b"}" * NESTED,
    "latin-1": '{"messages": "é"}'.encode("latin-1"),
    "utf-16": '{"messages": []}'.encode("utf-16"),
    "half a pair": b'{"messages": [{"role": "user", "content": "\\ud83d"}]}',
    "half a pair in a key": b'{"\\uDC00": 1}',
    "a control character": b'{"model": "a\nb"}',
    "a bad escape": b'{"model": "\\x41"}',
    "a byte order mark within": b'{"messages": \xef\xbb\xbf[]}',
    "zeros": bytes(1000),
    "an image": drawing("red", "circle"),
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("path", [URL, "/v1/responses", "/v1/describe", "/api/chat"])
def test_malformed_json(server, name, path):
    reply = server.post(path, MALFORMED[name])
    assert reply.status == 400, reply.body
    assert len(reply.message) < 300 and "Traceback" not in reply.message
    assert server.get("/health").status == 200


def test_a_byte_order_mark_before_it_is_no_harm(server):
    body = b"\xef\xbb\xbf" + json.dumps({"messages": HELLO, "max_tokens": 2}).encode()
    assert server.post(URL, body).status == 200


FIELDS = [
    *[("messages", value) for value in (None, [], {}, "x", 3, [3], [[]], [None], [{}], [{"role": "user"}])],
    *[
        ("messages", [{"role": role, "content": "x"}])
        for role in ("tool", "function", "", "USER", "assistant", "system")
    ],
    *[
        ("messages", [{"role": "user", "content": content}])
        for content in ("", " ", [], {}, 3, True, [3], [{}], [None])
    ],
    ("messages", [*HELLO, {"role": "assistant", "content": "x"}]),
    ("messages", [*HELLO, {"role": "assistant", "content": "x"}, {"role": "assistant", "content": "x"}, *HELLO]),
    ("messages", [*HELLO, {"role": "system", "content": "x"}, *HELLO]),
    ("messages", [{"role": "user", "content": "x", "tool_calls": [{}]}]),
    ("messages", [{"role": "user", "content": "x", "colour": "red"}]),
    ("messages", [{"role": "user", "content": "a" * 200_000}]),
    ("messages", [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}] * 200),
    ("messages", [user({"type": "input_audio", "input_audio": {}})]),
    ("messages", [user({"type": "file", "file": {}})]),
    ("messages", [user({"type": "image_url"})]),
    ("messages", [user({"type": "image_url", "image_url": 3})]),
    ("messages", [user({"type": "image_url", "image_url": {"url": None}})]),
    ("messages", [user({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "most"}})]),
    ("messages", [user({"type": "text"})]),
    ("messages", [user({"type": "text", "text": "x", "more": 1})]),
    ("messages", [{"role": "assistant", "content": [{"type": "image_url", "image_url": "AAAA"}]}]),
    *[("temperature", value) for value in (-0.1, 101, "1", True, [], {})],
    *[("top_p", value) for value in (-1, 1.1, "x")],
    *[("top_k", value) for value in (-1, 1.5, 2**31)],
    *[("min_p", value) for value in (-1, 2)],
    *[("seed", value) for value in (-1, 2**32, 1.5, "1")],
    *[("max_tokens", value) for value in (0, -1, 1.5, "9", True)],
    *[("max_completion_tokens", value) for value in (0, "9")],
    *[("n", value) for value in (0, -1, 9, 1.5, "2", False)],
    *[("stop", value) for value in ("", [""], [3], 3, {}, ["x"] * 17)],
    *[("stream", value) for value in ("true", 1, [])],
    *[("stream_options", value) for value in (True, {"include_usage": 1}, {"colour": 1})],
    *[("logprobs", value) for value in (1, "true")],
    *[("top_logprobs", value) for value in (-1, 21, 3)],
    *[("response_format", value) for value in ("json", {}, {"type": "yaml"}, {"type": "json_schema"})],
    ("response_format", {"type": "json_schema", "json_schema": {"schema": []}}),
    *[("lang", value) for value in ("Klingon", "", "xx", 3, ["hi"])],
    *[("lang_mode", value) for value in ("always", 3)],
    *[("frequency_penalty", value) for value in (0.5, -1, "0", False)],
    ("presence_penalty", 1),
    ("logit_bias", {"50256": -100}),
    ("tools", [{"type": "function", "function": {"name": "f"}}]),
    ("tool_choice", "required"),
    ("functions", [{}]),
    ("function_call", {"name": "f"}),
    ("modalities", ["text", "audio"]),
    ("audio", {"voice": "alloy"}),
    ("reasoning_effort", "high"),
    ("verbosity", "low"),
    ("web_search_options", {"a": 1}),
    ("repetition_penalty", 1.2),
    ("grammar", "root ::= [0-9]"),
    ("कुछ", 1),
    ("model", 3),
]


@pytest.mark.parametrize(("field", "value"), FIELDS)
def test_a_field_that_cannot_be_is_named(server, field, value):
    reply = server.post(URL, {"messages": HELLO, "max_tokens": 3, field: value})
    error = reply.json["error"]
    assert reply.status == 400, reply.body
    assert (error["param"] or "").startswith(field) and field in error["message"].partition(":")[0]
    assert error["type"] == "invalid_request_error" and "\n" not in error["message"] and len(error["message"]) < 600


def test_a_schema_that_is_not_supported_names_its_keyword(server):
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 3}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    reply = server.chat("?", response_format=wanted)
    assert reply.status == 400 and "maximum" in reply.message


IMAGES = {
    "nothing": "",
    "not base64": "data:image/png;base64,@@@",
    "no image": "data:image/png;base64,AAAA",
    "no comma": "data:image/png;base64",
    "text": "data:text/plain;base64,aGVsbG8=",
    "svg": "data:image/svg+xml,<svg/>",
    "a path": "/etc/passwd",
    "a relative path": "photo.jpg",
    "a path up": "../../photo.jpg",
    "a Windows path": "C:\\photo.jpg",
    "a file": "file:///etc/passwd",
    "a file without slashes": "file:/etc/passwd",
    "a file in capitals": "FILE:///etc/passwd",
    "a file after space": " file:///etc/passwd",
    "a file of another machine": "file://server/share/a.png",
    "http": "http://example.org/a.png",
    "https": "https://example.org/a.png",
    "ftp": "ftp://example.org/a.png",
    "a socket": "unix:///var/run/docker.sock",
    "gopher": "gopher://127.0.0.1:70/",
    "javascript": "javascript:alert(1)",
    "blob": "blob:https://example.org/1",
    "jar": "jar:file:///a!/b",
    "a dictionary": "dict://127.0.0.1:11211/stat",
}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("as_object", [True, False])
def test_what_is_no_image_is_refused(server, name, as_object):
    url = IMAGES[name]
    reply = server.chat("?", {"type": "image_url", "image_url": {"url": url} if as_object else url})
    assert reply.status == 400, reply.body
    assert "root:" not in reply.message
    scheme, colon, _ = url.strip().partition(":")
    if colon and scheme not in ("data", "https"):
        assert f"got {scheme.lower()}:" in reply.message


def test_a_damaged_image(server, red_circle):
    reply = server.chat("?", red_circle[: len(red_circle) // 2])
    assert reply.status == 400 and reply.json["error"]["code"] == "invalid_image"


def test_too_many_images(server, red_circle):
    assert server.chat(*[red_circle] * 9).json["error"]["param"] == "messages"


def test_more_text_than_the_context_holds(server):
    reply = server.chat("word " * 10_000)
    error = reply.json["error"]
    assert (reply.status, error["code"], error["param"]) == (400, "context_length_exceeded", "messages")


def test_images_that_are_too_large(nano, red_circle):
    with RunningServer(nano, limits={"image_bytes": 4096, "n_pixels": 100_000, "body_bytes": 20_000}) as small:
        large = drawing("red", "circle", (400, 300))
        assert len(large) < 4096 and small.chat(red_circle, "?").status == 200
        assert "pixels" in small.chat("?", large).message
        assert small.chat("?", bytes(5000)).status == 413
        assert small.chat("?", bytes(50_000)).status == 413
        assert small.chat("?", image_part(red_circle), text_part("ok")).status == 200


def test_errors_are_the_same_in_a_stream(server):
    reply = server.chat("?", {"type": "image_url", "image_url": "AAAA"}, stream=True)
    assert reply.status == 400 and reply.json["error"]["code"] == "invalid_image"
