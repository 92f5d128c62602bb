"""The process of one side: `python -m palo_cpp.bench.worker SIDE`, asked by its parent, one JSON object per line.

Standard output carries the answers, so everything else that might be printed goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from palo_cpp.bench.contestant import Contestant, Setup
from palo_cpp.bench.timed_text import seconds
from palo_cpp.errors import PaloError

SIDES = ("palo_cpp", "llama_cpp")
# Tokens whose logits are compared: 64 at a time, as all logits are computed, and then one by one.
N_TOKENS_LOGITS, N_TOKENS_SINGLE = 144, 16


class Worker:
    """Does what the parent asks, and says how long it took."""

    def __init__(self, contestant: Contestant) -> None:
        self._contestant = contestant

    def answer(self, what: str, arguments: dict[str, Any]) -> Any:
        """Do one thing; its name is that of a method."""
        method: Callable[..., Any] = getattr(self, what)
        return method(**arguments)

    def prepare(self) -> str:
        """Import libraries; the instruction set in use."""
        self._contestant.prepare()
        return self._contestant.isa

    def load(self) -> float:
        """Seconds to load."""
        return seconds(self._contestant.load)

    def set_image(self, path: str) -> None:
        """Take the image, an .npy file of u8 [S, S, 3]."""
        self._contestant.set_image(np.load(path))

    def encode(self) -> float:
        """Seconds to encode the image."""
        return seconds(self._contestant.encode)

    def project(self) -> float:
        """Seconds of the projector alone."""
        return self._contestant.project_s()

    def save_embeddings(self, path: str) -> None:
        """Encode the image into an .npy file."""
        np.save(path, self._contestant.encode())

    def prefill(self, n_tokens: int) -> float:
        """Seconds to take a prompt."""
        return self._contestant.text.prefill_s(n_tokens)

    def generate(self, n_tokens: int, n_prompt: int, n_paths: int) -> float:
        """Seconds to decode tokens one by one after a prompt."""
        return self._contestant.text.generate_s(n_tokens, n_prompt, n_paths)

    def save_logits(self, path: str) -> None:
        """Logits after a prompt and after tokens decoded one by one, into an .npy file; our side only."""
        contestant: Any = self._contestant
        np.save(path, contestant.logits(N_TOKENS_LOGITS, N_TOKENS_SINGLE))

    def written(self) -> dict[str, dict[str, float]]:
        """How fast each language is written; our side only."""
        contestant: Any = self._contestant
        found: dict[str, dict[str, float]] = contestant.written()
        return found

    def read_speed(self, n_bytes: int, n_threads: int) -> float | None:
        """Bytes per second of a plain read."""
        from palo_cpp.ggml.backend import read_speed

        return read_speed(n_bytes, n_threads)

    def has_our_kernels(self) -> bool:
        """Whether our kernels are known to ggml in this process."""
        from palo_cpp.ggml.backend import is_registered
        from palo_cpp.ggml.llama_library import llama_library

        return is_registered(llama_library())

    def first_token(self) -> float:
        """Seconds from preprocessed image to first token."""
        return self._contestant.text.first_token_s(self._contestant.encode)

    def int8_peak(self) -> float:
        """Operations per second of one core's int8 products in registers; 0 where that is not known."""
        from palo_cpp import _core

        return _core.int8_peak(_core.isa())

    def peak_rss(self) -> int | None:
        """Most bytes that were resident in this process at any time; None where the system does not tell."""
        return peak_rss_bytes()


def peak_rss_bytes() -> int | None:
    """Peak resident memory of this process."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    # After exec, Linux still counts the parent's peak here, which is why /proc comes first; macOS counts in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def make_contestant(side: str, setup: Setup) -> Contestant:
    """The side by its name; the other one's code is never imported."""
    if side == "llama_cpp":
        from palo_cpp.bench.llama_side import LlamaCpp

        return LlamaCpp(setup)
    from palo_cpp.bench.palo_side import PaloCpp

    return PaloCpp(setup)


def main(side: str) -> None:
    """Answer until the parent closes our input."""
    answers = _private_stdout()
    worker: Worker | None = None
    for line in sys.stdin:
        question = json.loads(line)
        reply: dict[str, Any] = {"result": None}
        try:
            if worker is None:
                worker = Worker(make_contestant(side, _setup(question["arguments"])))
            else:
                reply = {"result": worker.answer(question["what"], question["arguments"])}
        except (PaloError, MemoryError) as error:
            reply = {"error": type(error).__name__, "message": str(error)}
        print(json.dumps(reply), file=answers, flush=True)


def _private_stdout() -> IO[str]:
    """Keep the real standard output for answers, and let everything that prints print to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _setup(arguments: dict[str, Any]) -> Setup:
    return Setup(**{**arguments, "text": Path(arguments["text"]), "mmproj": Path(arguments["mmproj"])})


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except KeyboardInterrupt:
        sys.exit(130)
