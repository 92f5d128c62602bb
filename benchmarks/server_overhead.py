"""What the server adds to the first token: the same questions to the library and over HTTP, in turn.

    python benchmarks/server_overhead.py [-m MODEL] [-n ROUNDS] [-t THREADS]

Both sides have seen the image before: the library has it open, the context holds the prompt. What is left beside a
step of the model is the server's share: making and sending the request, base64, JSON, checks, threads, the first event.
`lang_mode` is off, so that nothing is held back.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import statistics
import threading
import time

from PIL import Image, ImageDraw

from palo_cpp import Palo
from palo_cpp.segments import ImageSegment
from palo_cpp.server.running import Server
from palo_cpp.server.settings import ServerSettings

QUESTION, N_TOKENS = "What is this?", 4


def photo(size: tuple[int, int]) -> bytes:
    """A JPEG of a drawing that Nano knows."""
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).ellipse((size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2), fill="red")
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=95)
    return data.getvalue()


def library_s(palo: Palo, opened: ImageSegment) -> float:
    """From the call to the first piece, about an image that is open."""
    begun = time.perf_counter()
    with palo.chat() as chat:
        chat.pending_images.append(opened)
        stream = chat.stream(QUESTION, max_tokens=N_TOKENS, lang_mode="off")
        next(stream)
        elapsed_s = time.perf_counter() - begun
        stream.read()
    return elapsed_s


def server_s(connection: http.client.HTTPConnection, image: bytes) -> float:
    """From the request, its body not yet made, to the first piece of text."""
    begun = time.perf_counter()
    url = f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"
    parts = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": url}}]
    body = {
        "messages": [{"role": "user", "content": parts}],
        "stream": True,
        "max_tokens": N_TOKENS,
        "lang_mode": "off",
    }
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    response = connection.getresponse()
    elapsed_s = 0.0
    while line := response.readline():
        if not elapsed_s and line.startswith(b"data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
            elapsed_s = time.perf_counter() - begun
    return elapsed_s


def measure(palo: Palo, port: int, image: bytes, n_rounds: int) -> tuple[list[float], list[float]]:
    """First tokens of both sides, in turn, in seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    with palo.chat(image) as chat:
        opened = chat.pending_images[0]
        chat.ask(QUESTION, max_tokens=1)
    sides: tuple[list[float], list[float]] = ([], [])
    for i in range(2 * n_rounds + 2):
        elapsed_s = server_s(connection, image) if i % 2 else library_s(palo, opened)
        if i >= 2:
            sides[i % 2].append(elapsed_s)
    connection.close()
    return sides


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="nano")
    parser.add_argument("-n", "--rounds", type=int, default=100)
    parser.add_argument("-t", "--threads", type=int, default=1)  # more wait for each other where others compute, too
    arguments = parser.parse_args()
    with Palo(arguments.model, n_threads=arguments.threads) as palo:
        server = Server(palo, ServerSettings(port=0))
        thread = threading.Thread(target=server.run)
        thread.start()
        port = int(server.address.rpartition(":")[2])
        try:
            print("image            library ms   server ms   difference of medians, of minima, ms")
            for size in ((320, 240), (1024, 768), (4000, 3000)):
                alone, served = measure(palo, port, photo(size), arguments.rounds)
                medians = [1e3 * statistics.median(side) for side in (alone, served)]
                least = 1e3 * (min(served) - min(alone))
                name = f"{size[0]} x {size[1]}"
                print(
                    f"{name:15}  {medians[0]:10.1f}  {medians[1]:10.1f}  {medians[1] - medians[0]:10.1f} {least:8.1f}"
                )
        finally:
            server.stop()
            thread.join()


if __name__ == "__main__":
    main()
