"""Many clients of one server, a tenth of them hostile: crashes, answers about another picture, memory, latencies.

    python benchmarks/server_soak.py [--clients 64] [--minutes 10]

`palo-cpp serve -m nano` in a process of its own. Honest clients ask about the example pictures in ten languages, some
streamed, and every answer is compared with what the library says about the same picture; an answer that belongs to
another picture is counted apart. Hostile ones read slowly, send half of a body, a giant one, malformed JSON, images
that are none or too large, and leave at random moments.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from palo_cpp import Palo

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.png"))
QUESTIONS = {
    "en": "What is in this picture?",
    "hi": "इस तस्वीर में क्या है?",
    "ur": "اس تصویر میں کیا ہے؟",
    "ja": "この画像には何が写っていますか？",
    "bn": "এই ছবিতে কী আছে?",
    "zh": "这张图片里有什么？",
}
MALFORMED = (
    "", "{", "[]", "null", "7", '"x"', "{}", '{"messages": 1}', '{"messages": []}', '{"messages": [1]}',
    '{"messages": [{"role": "user"}]}', '{"messages": [{"role": 1, "content": "x"}]}',
    '{"messages": [{"role": "user", "content": {}}]}', '{"messages": [{"role": "user", "content": [{}]}]}',
    '{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}',
    '{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": 3}]}]}',
    '{"messages": [{"role": "user", "content": "x"}], "n": 1e99}',
    '{"messages": [{"role": "user", "content": "x"}], "temperature": "hot"}',
    '{"messages": [{"role": "user", "content": "x"}], "max_tokens": -1}',
    '{"messages": [{"role": "user", "content": "x"}], "stream": "yes"}',
    '{"messages": [{"role": "user", "content": "\\ud800"}]}', '{"a": NaN}', '{"a": 1,}', "{'a': 1}", "\x00",
    '{"messages": ' + "[" * 5000, "[" * 100_000, '{"messages": [{"role": "user", "content": "x"}], "seed": []}',
    '{"messages": [{"role": "user", "content": "x"}], "stop": {"a": 1}}', "\ufeff{}",
)  # fmt: skip


@dataclass
class Seen:
    """What happened.

    Attributes:
        counts: by kind.
        latencies_s: of honest requests.
        wrong: answers that are not the library's, with what they belong to.
    """

    counts: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, kind: str) -> None:
        """One more."""
        with self.lock:
            self.counts[kind] += 1


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    expected = expected_answers()
    command = [sys.executable, "-m", "palo_cpp", "serve", "-m", "nano", "-p", "0", "--queue", "200"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        port = port_of(server)
        seen, until = Seen(), time.monotonic() + 60 * options.minutes
        clients = [
            threading.Thread(target=client, args=(n, port, expected, seen, until)) for n in range(options.clients)
        ]
        for each in clients:
            each.start()
        memory = watch(server, until)
        for each in clients:
            each.join()
        is_alive = server.poll() is None
        server.terminate()
    report(seen, memory, is_alive=is_alive)


def expected_answers() -> dict[tuple[str, str], str]:
    """(picture, language) -> what the library says."""
    with Palo("nano") as palo:
        return {
            (path.name, lang): palo.ask(str(path), question, lang=lang, max_tokens=60).text
            for path in EXAMPLES
            for lang, question in QUESTIONS.items()
        }


def port_of(server: subprocess.Popen[str]) -> int:
    """Where it listens; its further lines are dropped."""
    assert server.stderr is not None
    for line in server.stderr:
        if "http://" in line:
            port = int(line.split("http://")[1].split(":")[1].split("/")[0].split()[0])
            threading.Thread(target=lambda: [None for _ in server.stderr], daemon=True).start()
            return port
    raise SystemExit("the server did not start")


def watch(server: subprocess.Popen[str], until: float) -> list[float]:
    """MiB of memory, every two seconds."""
    memory = []
    while time.monotonic() < until and server.poll() is None:
        status = Path(f"/proc/{server.pid}/status").read_text()
        memory.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
        time.sleep(2)
    return memory


def client(n: int, port: int, expected: dict[tuple[str, str], str], seen: Seen, until: float) -> None:
    """One client: honest but for a tenth of its requests."""
    chance = random.Random(n)
    while time.monotonic() < until:
        try:
            if chance.random() < 0.1:
                kind = chance.choice(list(HOSTILE))
                HOSTILE[kind](port, chance)
                seen.count(f"hostile: {kind}")
            else:
                honest(port, chance, expected, seen)
        except (OSError, http.client.HTTPException) as error:
            seen.count(f"connection: {type(error).__name__}")


def body(name: str, question: str, lang: str, **further: object) -> bytes:
    """A question about an example picture."""
    data = base64.b64encode((EXAMPLES[0].parent / name).read_bytes()).decode()
    parts = [
        {"type": "text", "text": question},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
    ]
    values = {"messages": [{"role": "user", "content": parts}], "lang": lang, "max_tokens": 60, **further}
    return json.dumps(values).encode()


def honest(port: int, chance: random.Random, expected: dict[tuple[str, str], str], seen: Seen) -> None:
    """Ask, and compare the answer."""
    name, lang = chance.choice(list(expected))
    is_stream = chance.random() < 0.5
    begun_at = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/v1/chat/completions", body(name, QUESTIONS[lang], lang, stream=is_stream))
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    if reply.status == 503:
        seen.count("busy")
        time.sleep(min(3.0, float(reply.headers.get("Retry-After", 1))))
        return
    if reply.status != 200:
        seen.count(f"status {reply.status}")
        return
    text = streamed(content) if is_stream else json.loads(content)["choices"][0]["message"]["content"]
    with seen.lock:
        seen.counts["answered"] += 1
        seen.latencies_s.append(time.monotonic() - begun_at)
    if text != expected[name, lang]:
        others = [other for (other, code), answer in expected.items() if code == lang and answer == text]
        with seen.lock:
            seen.counts["another picture's answer" if others else "other words"] += 1
            seen.wrong.append(f"{name} {lang}: {text!r} instead of {expected[name, lang]!r} {others}")


def streamed(content: bytes) -> str:
    """The text of a stream's events."""
    events = [line[6:] for line in content.decode().splitlines() if line.startswith("data: ") and "[DONE]" not in line]
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


# ---- hostile


def opened(port: int) -> socket.socket:
    """A connection."""
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def head(n_bytes: int) -> bytes:
    """Of a request with a body of so many bytes."""
    return f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {n_bytes}\r\n\r\n".encode()


def slow_reader(port: int, chance: random.Random) -> None:
    """Reads a byte now and then, and leaves."""
    data = body(chance.choice(EXAMPLES).name, QUESTIONS["hi"], "hi", stream=True)
    with opened(port) as connection:
        connection.sendall(head(len(data)) + data)
        for _ in range(chance.randrange(2, 12)):
            connection.recv(1)
            time.sleep(0.3)


def half_body(port: int, chance: random.Random) -> None:
    """Promises more than it sends."""
    with opened(port) as connection:
        connection.sendall(head(100_000) + b"{" * chance.randrange(1, 50_000))
        time.sleep(chance.uniform(0, 2))


def giant_body(port: int, _chance: random.Random) -> None:
    """Promises, or sends in pieces, more than any limit."""
    with opened(port) as connection:
        connection.sendall(head(10_000_000_000))
        try:
            for _ in range(20):
                connection.sendall(b"x" * (1 << 20))
        except OSError:
            return  # it was refused, as it should be
        connection.recv(100)


def leaver(port: int, chance: random.Random) -> None:
    """Asks, and leaves at some moment."""
    data = body(chance.choice(EXAMPLES).name, QUESTIONS["ja"], "ja", stream=chance.random() < 0.5)
    with opened(port) as connection:
        connection.sendall(head(len(data)) + data)
        time.sleep(chance.uniform(0, 1.5))


def malformed(port: int, chance: random.Random) -> None:
    """JSON that is none, or none of a question."""
    data = chance.choice(MALFORMED).encode("utf-8", "surrogatepass")
    refused(port, data)


def hostile_image(port: int, chance: random.Random) -> None:
    """An image that is none, is cut short, or would be a gigapixel."""
    whole = EXAMPLES[0].read_bytes()
    kinds = [
        b"",
        b"no image",
        whole[: len(whole) // 2],
        whole[:40] + b"\xff" * 2000,
        gigapixel(),
        b"GIF89a" + b"\xff" * 99,
    ]
    data = base64.b64encode(chance.choice(kinds)).decode()
    parts = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}]
    refused(port, json.dumps({"messages": [{"role": "user", "content": parts}], "max_tokens": 5}).encode())


def gigapixel() -> bytes:
    """A PNG that says it has 40000x40000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = (40_000).to_bytes(4, "big") * 2
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + b"\x08\x02\0\0\0") + chunk(b"IDAT", zlib.compress(b"\0" * 99))


def refused(port: int, data: bytes) -> None:
    """Send what must be answered with 400 and its kin."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/v1/chat/completions", data)
    reply = connection.getresponse()
    reply.read()
    connection.close()
    if not (400 <= reply.status < 500 or reply.status == 503):
        raise http.client.HTTPException(f"{reply.status} for {data[:60]!r}")


HOSTILE = {
    "slow reader": slow_reader,
    "half body": half_body,
    "giant body": giant_body,
    "leaver": leaver,
    "malformed": malformed,
    "hostile image": hostile_image,
}


def report(seen: Seen, memory: list[float], *, is_alive: bool) -> None:
    """Print what happened."""
    for kind, n in sorted(seen.counts.items()):
        print(f"{n:7d}  {kind}")
    for line in seen.wrong[:5]:
        print("        ", line)
    times = sorted(seen.latencies_s)
    if times:
        print(f"latency: median {statistics.median(times):.2f} s, p99 {times[int(0.99 * (len(times) - 1))]:.2f} s")
    n = len(memory)
    print(f"server {'lives' if is_alive else 'DIED'}; memory in MiB: after a tenth {memory[n // 10]:.0f}, "
          f"half {memory[n // 2]:.0f}, end {memory[-1]:.0f}, most {max(memory):.0f}")  # fmt: skip


if __name__ == "__main__":
    main()
