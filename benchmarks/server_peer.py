"""Clients that ask about an image each at the same moment: `palo-cpp serve` beside llama-cpp-python's server.

    python benchmarks/server_peer.py [--model mobile] [--outtype q4_0] [--clients 4] [--n-gen 32] [--runs 3]
        [--peer-python PYTHON]

Both serve the same random weights of the true shapes, each in a process of its own, in turn. The clock runs from the
first request to the end of the last answer. llama-cpp-python's server needs further packages, which are no dependency:
`pip install fastapi pydantic-settings sse-starlette starlette-context PyYAML`; `--peer-python` takes it from another
environment. On a processor with AMX that has to be one whose compiler does not break it (csrc/ggml_backend/amx.h).
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from palo_cpp.bench.noise import describe_machine
from palo_cpp.bench.sizes import model_sizes
from palo_cpp.bench.synthetic import synthetic_mmproj, synthetic_text


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobile")
    parser.add_argument("--outtype", default="q4_0")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--n-gen", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peer-python", default=sys.executable)
    options = parser.parse_args()
    print(describe_machine())
    sizes = model_sizes(options.model)
    text, mmproj = synthetic_text(sizes, options.outtype, report=print), synthetic_mmproj(sizes, "f16", report=print)
    with tempfile.TemporaryDirectory() as folder:
        for path in (text, mmproj):
            (Path(folder) / path.name).symlink_to(path)
        servers = {
            "palo-cpp serve": ours(Path(folder), options.clients, options.threads),
            "llama_cpp.server": theirs(options.peer_python, text, mmproj, options.clients, options.threads),
        }
        times: dict[str, list[float]] = {name: [] for name in servers}
        for run in range(options.runs):
            for name, command in servers.items():
                elapsed_s, n_tokens = all_answered_s(command, options.clients, options.n_gen, seed=run)
                times[name].append(elapsed_s)
                print(
                    f"{name:17} run {run}: {options.clients} answers, {n_tokens} tokens, after {elapsed_s:.2f} s",
                    flush=True,
                )
    ours_s, theirs_s = (median(each) for each in times.values())
    print(f"medians: {ours_s:.2f} s and {theirs_s:.2f} s: {theirs_s / ours_s:.1f} times sooner")


def free_port() -> int:
    """A port that nobody listens to."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def ours(folder: Path, n_clients: int, n_threads: int) -> list[str]:
    """Our server; `PORT` is filled in."""
    text = next(str(path) for path in folder.iterdir() if not path.name.startswith("mmproj"))
    command = [sys.executable, "-m", "palo_cpp", "serve", "-m", text, "-p", "PORT", "-t", str(n_threads), "-c", "1024"]
    return [*command, "--parallel", str(n_clients), "--alias", "model"]


def theirs(python: str, text: Path, mmproj: Path, n_clients: int, n_threads: int) -> list[str]:
    """llama-cpp-python's; a context as large as all of ours together."""
    command = [python, "-m", "llama_cpp.server", "--model", str(text), "--clip_model_path", str(mmproj)]
    command += ["--chat_format", "llava-1-5", "--n_ctx", str(1024 * n_clients), "--n_threads", str(n_threads)]
    return [*command, "--n_threads_batch", str(n_threads), "--port", "PORT", "--model_alias", "model"]


def all_answered_s(command: list[str], n_clients: int, n_gen: int, *, seed: int) -> tuple[float, int]:
    """Seconds until the last client has its answer, and tokens of all answers."""
    port = free_port()
    filled = [part if part != "PORT" else str(port) for part in command]
    with subprocess.Popen(filled, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(port, server)
            ask(port, picture(seed + 1000), 2)  # the first request finds everything loaded
            n_tokens: list[int] = []
            threads = [
                threading.Thread(target=lambda i=i: n_tokens.append(ask(port, picture(seed * 50 + i), n_gen)))
                for i in range(n_clients)
            ]
            begun_at = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return time.perf_counter() - begun_at, sum(n_tokens)
        finally:
            server.kill()


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    """Until it answers."""
    while True:
        if server.poll() is not None:
            raise SystemExit(f"{server.args}: ended with {server.returncode}")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/v1/models")
            connection.getresponse().read()
            return
        except OSError:
            time.sleep(0.2)


def picture(seed: int) -> str:
    """A data URI of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (336, 336, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


def ask(port: int, image: str, n_gen: int) -> int:
    """Ask about a picture; tokens of the answer."""
    parts = [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": "What is in this picture?"}]
    body = {"model": "model", "messages": [{"role": "user", "content": parts}], "max_tokens": n_gen, "temperature": 1.0}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1800)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    reply = connection.getresponse()
    content = reply.read()
    if reply.status != 200:
        raise SystemExit(f"{reply.status}: {content[:500]!r}")
    return int(json.loads(content)["usage"]["completion_tokens"])


if __name__ == "__main__":
    main()
