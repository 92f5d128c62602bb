"""How a server ends, and the command that starts it: in processes of their own."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from running_server import RunningServer

LONG = {"messages": [{"role": "user", "content": "x"}], "temperature": 100, "seed": 1}

if sys.platform == "win32":
    # There Ctrl-C is an event of the console, which a child in a test cannot be sent by itself.
    pytest.skip("signals as Ctrl-C sends them", allow_module_level=True)


@contextmanager
def serving(*arguments):
    """`palo-cpp serve` in a child; its process and its port."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PALO_CPP_")}
    command = [sys.executable, "-m", "palo_cpp", "serve", "-p", "0", "-t", "1", *arguments]
    child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        port = next(int(found[1]) for line in child.stderr if (found := re.search(r"at http://.*:(\d+)", line)))
        yield child, port
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()


@contextmanager
def asking(port, **fields):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps({**LONG, **fields}))
        with connection.getresponse() as response:
            yield response
    finally:
        connection.close()


def ask(port, **fields):
    with asking(port, **fields) as response:
        return response.read().decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_the_answers_under_way_have_ended(number):
    with serving() as (child, port), asking(port, max_tokens=300, stream=True) as response:
        response.read(1)
        child.send_signal(number)
        text = response.read().decode()
        assert '"finish_reason":"length"' in text and text.endswith("data: [DONE]\n\n")
        assert child.wait(20) == 0
        said = child.stderr.read()
        assert "Traceback" not in said and child.stdout.read() == ""


def test_a_second_time_ends_it_at_once():
    with serving() as (child, port), asking(port, max_tokens=900, stream=True, n=4) as response:
        response.read(1)
        child.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert child.poll() is None
        begun = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert child.wait(5) == 130 and time.monotonic() - begun < 2


def test_nothing_that_users_write_is_logged():
    with serving() as (child, port):
        secret = "मेरा रहस्य"
        ask(port, max_tokens=5, messages=[{"role": "user", "content": secret}])
        ask(port, max_tokens=5, messages=[{"role": "user", "content": secret}], colour=secret)
        with socket.create_connection(("127.0.0.1", port)) as opened:
            opened.sendall(b"GET /secret?key=secret HTTP/1.0\r\nHost: localhost\r\n\r\n")
            assert b"404" in opened.recv(100)
        child.send_signal(signal.SIGINT)
        said = child.stderr.read()
        assert "POST /v1/chat/completions 200" in said and "400" in said
        assert secret not in said and "secret" not in said


def test_what_users_write_is_logged_where_that_was_asked_for():
    with serving("--log-content") as (child, port):
        ask(port, max_tokens=5, messages=[{"role": "user", "content": "red\x1b[2J?"}])
        child.send_signal(signal.SIGINT)
        said = child.stderr.read()
        assert "red\\x1b[2J?" in said and "\x1b[2J" not in said


def test_a_port_that_is_taken_is_one_sentence():
    with serving() as (_child, port):
        command = [sys.executable, "-m", "palo_cpp", "serve", "-p", str(port)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 1 and "could not listen" in result.stderr and "Traceback" not in result.stderr


def test_without_the_extra_one_sentence_says_how_to_get_it(tmp_path):
    for name in ("starlette", "uvicorn"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('no', name='{name}')")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "palo_cpp", "serve"]
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith("`pip install 'palo-cpp[server]'` gets them")


def test_what_takes_longer_than_the_grace_is_ended_and_says_so(nano):
    running = RunningServer(nano, limits={"grace_s": 0.5}, n_parallel=1)
    said = []
    with running:

        def read(**fields):
            said.append(running.post("/v1/chat/completions", {**LONG, "max_tokens": 900, **fields}))

        threads = [threading.Thread(target=read, kwargs={"stream": True}) for _ in range(2)]
        for thread in threads:
            thread.start()
            time.sleep(0.3)
        running.server.stop()
        for thread in threads:
            thread.join()
    statuses = sorted(reply.status for reply in said)
    assert statuses == [200, 503]
    stream = next(reply for reply in said if reply.status == 200)
    assert stream.events[-1] == "[DONE]" and stream.events[-2]["choices"][0]["palo"]["finish_reason"] == "cancelled"
