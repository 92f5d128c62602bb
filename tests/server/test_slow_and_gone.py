"""Clients that are slow, leave, or come in crowds: nobody waits for them, and whoever is honest is answered."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from running_server import RunningServer, data_uri, raw_post, read_all

URL = "/v1/chat/completions"
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def impatient(nano):
    limits = {"header_s": 0.5, "body_s": 1.0, "write_s": 1.0, "keep_alive_s": 1.0}
    with RunningServer(nano, limits=limits, n_parallel=2, n_queue=2) as running:
        yield running


def raw(body, path=URL):
    return raw_post(path, body)


def long_answer(**fields):
    """A question that this model has much to say to: random, with no end in sight."""
    return {"messages": [{"role": "user", "content": "x"}], "temperature": 100, "max_tokens": 900, "seed": 1, **fields}


def closes_within(opened, seconds):
    opened.settimeout(seconds)
    try:
        read_all(opened)
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("begin", [b"", b"P", b"POST /v1", HEAD, HEAD + b"X-A: b\r\n"])
def test_headers_that_do_not_come(impatient, begin):
    with impatient.connected() as opened:
        opened.sendall(begin)
        assert closes_within(opened, 5)


def test_headers_that_come_byte_by_byte(impatient):
    with impatient.connected() as opened:
        begun = time.monotonic()
        with pytest.raises(OSError):
            for byte in HEAD * 100:
                opened.sendall(bytes([byte]))
                time.sleep(0.02)
        assert time.monotonic() - begun < 5


def test_headers_of_a_second_request_that_do_not_come(impatient):
    with impatient.connected() as opened:
        opened.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea")
        assert closes_within(opened, 5)


@pytest.mark.parametrize("header", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
def test_a_body_that_does_not_come(impatient, header):
    begun = time.monotonic()
    said = impatient.send_raw(HEAD + header + b"\r\n\r\n" + b'{"mess'[: 0 if b"chunked" in header else None])
    assert b" 408 " in said and time.monotonic() - begun < 5


def test_an_idle_connection_is_closed(impatient):
    with impatient.connected() as opened:
        opened.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert closes_within(opened, 5)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"X\r\n\r\n",
        b"\r\n" * 100,
        bytes(1000),
    ],
)
def test_what_is_no_http(impatient, request_):
    said = impatient.send_raw(request_)
    status = said.split(b" ")[1] if said else b""
    assert status in (b"", b"400", b"403", b"408", b"431")
    assert impatient.get("/health").status == 200


@pytest.mark.parametrize("length", [10**9, 10**18, 10**19])
def test_a_giant_body_is_refused_by_its_length(server, length):
    said = server.send_raw(HEAD + b"Content-Length: %d\r\n\r\n" % length)
    assert b" 413 " in said


def test_a_giant_body_without_a_length_is_refused_when_it_is_too_large(nano):
    with RunningServer(nano, limits={"body_bytes": 200_000}) as small, small.connected() as opened:
        opened.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(OSError):
            for _ in range(10_000):
                opened.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
        assert small.server.service.metrics.text().count('status="413"') == 1


def test_many_large_bodies_at_once_do_not_fill_the_memory(nano):
    limits = {"body_bytes": 1 << 20, "bodies_bytes": 1 << 20, "body_s": 2.0}
    with RunningServer(nano, limits=limits) as small, small.connected() as opened:
        opened.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n" + bytes(900_000))
        time.sleep(0.3)
        reply = small.post(URL, bytes(300_000))
        assert reply.status == 503 and reply.headers["retry-after"]
        assert b" 408 " in read_all(opened)
        assert small.post(URL, bytes(300_000)).status == 400


def test_a_reader_that_takes_nothing_is_given_up_and_holds_nothing(impatient):
    """Its answers, some 6 MB of them, are pulled at full speed; the connection ends, and so does the work for it."""
    connections = impatient.server._server.server_state.connections
    with socket.socket() as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        opened.connect(("127.0.0.1", impatient.port))
        opened.sendall(raw(long_answer(stream=True, n=4, logprobs=True, top_logprobs=20)))
        assert opened.recv(100)
        assert impatient.idle(60)
        end = time.monotonic() + 5
        while connections and time.monotonic() < end:
            time.sleep(0.05)
        assert not connections
    assert impatient.get("/health").status == 200


def test_a_client_that_leaves_ends_its_answer_within_a_step(server):
    before = server.metric("palo_generated_tokens_total")
    with server.connected() as opened:
        opened.sendall(raw(long_answer(stream=True)))
        while b"delta" not in opened.recv(65536):
            pass
    assert server.idle(5)
    assert server.metric("palo_generated_tokens_total") - before < 300
    assert 'reason="cancelled"' in server.get("/metrics").body.decode()


@pytest.mark.parametrize("path", [URL, "/v1/describe"])
def test_a_client_that_leaves_before_a_whole_answer(server, red_circle, path):
    body = long_answer() if path == URL else {"image": data_uri(red_circle), "temperature": 100, "max_tokens": 900}
    cancelled = server.metric("palo_answers_total", "cancelled")
    with server.connected() as opened:
        opened.sendall(raw(body, path))
        time.sleep(0.3)
        assert server.server.service.desk.n_running == 1
    assert server.idle(5) and server.metric("palo_answers_total", "cancelled") > cancelled


def test_whoever_waits_and_leaves_is_never_worked_for(impatient):
    n_before = impatient.metric("palo_answers_total")
    with impatient.connected() as one, impatient.connected() as two:
        for opened in (one, two):
            opened.sendall(raw(long_answer(stream=True)))
            opened.recv(1)
        for _ in range(2):
            with impatient.connected() as third:
                third.sendall(raw(long_answer()))
                time.sleep(0.2)
                assert impatient.server.service.desk.n_waiting == 1
            time.sleep(0.2)
            assert impatient.server.service.desk.n_waiting == 0
    assert impatient.idle() and impatient.metric("palo_answers_total") == n_before + 2


def test_more_than_can_wait_are_told_when_to_come_back(impatient):
    opened = [impatient.connected() for _ in range(4)]
    connections = [each.__enter__() for each in opened]
    try:
        for connection in connections:
            connection.sendall(raw(long_answer(stream=True)))
        time.sleep(0.5)
        reply = impatient.chat("x")
        assert (reply.status, reply.json["error"]["code"]) == (503, "busy") and int(reply.headers["retry-after"]) > 0
        assert impatient.chat("x", n=3).status == 503
        assert impatient.post("/api/generate", {"prompt": "x"}).status == 503
        assert impatient.get("/health").json["waiting"] == 2
    finally:
        for each in opened:
            each.__exit__(None, None, None)
    assert impatient.idle() and impatient.chat("x").status == 200


def test_many_at_once_are_all_answered_with_their_own_image(server, nano, red_circle, blue_square):
    expected = {image: nano.ask(image, "What is this?", max_tokens=40).text for image in (red_circle, blue_square)}
    assert len(set(expected.values())) == 2
    wrong = []

    def ask(image, is_streamed):
        reply = server.chat("What is this?", image, stream=is_streamed)
        if is_streamed:
            text = "".join(event["choices"][0]["delta"].get("content", "") for event in reply.events[:-1])
        else:
            text = reply.json["choices"][0]["message"]["content"]
        if text != expected[image]:
            wrong.append(text)

    threads = [
        threading.Thread(target=ask, args=((red_circle, blue_square)[i % 2], i % 3 == 0)) for i in range(16)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_too_many_connections_are_closed(nano):
    with RunningServer(nano, limits={"n_connections": 5}) as small:
        opened = [socket.create_connection(("127.0.0.1", small.port)) for _ in range(8)]
        time.sleep(0.3)
        for connection in opened[5:]:
            assert closes_within(connection, 2)
        for connection in opened:
            connection.close()
        time.sleep(0.2)
        assert small.get("/health").status == 200
