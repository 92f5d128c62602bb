"""The parent's hold on the process of one side."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from types import TracebackType
from typing import Any

from palo_cpp import errors
from palo_cpp.bench.contestant import Setup
from palo_cpp.child_process import child_command
from palo_cpp.errors import PaloError

_NAMES = {"palo_cpp": "palo_cpp", "llama_cpp": "llama.cpp"}
# What could not be done where the process ended in the middle of it; by the name of `Worker`'s method.
_STEPS = {
    "begin": "start",
    "prepare": "start",
    "set_image": "preprocess the image",
    "encode": "encode the image",
    "project": "run the projector",
    "save_embeddings": "encode the image",
    "generate": "decode",
    "first_token": "decode the first token",
    "save_logits": "compute logits",
    "written": "decode answers",
    "read_speed": "measure a plain read",
    "int8_peak": "measure the peak of int8 products",
}


class WorkerProcess:
    """One side in a process of its own.

    Args:
        side: `palo_cpp` or `llama_cpp`.
        setup: what it will load.
        environment: variables to set for it.
    """

    def __init__(self, side: str, setup: Setup, environment: Mapping[str, str] | None = None) -> None:
        self.side = side
        self._name = _NAMES[side]
        self._model = setup.text.stem
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        self._process = subprocess.Popen(
            child_command("palo_cpp.bench.worker", side),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            encoding="utf-8",
            # Without ggml's backtrace, the failed assertion is the last line.
            env={"GGML_NO_BACKTRACE": "1", **os.environ, **(environment or {})},
        )
        arguments = {**asdict(setup), "text": str(setup.text), "mmproj": str(setup.mmproj)}
        try:
            self.ask("begin", **arguments)
            self.isa: str = self.ask("prepare")
        except BaseException:
            self.close()
            raise

    def ask(self, what: str, **arguments: Any) -> Any:
        """Have one thing done; see `Worker`.

        Raises:
            PaloError: of the kind that was raised there; or the process died.
        """
        assert self._process.stdin and self._process.stdout  # both are pipes
        try:
            print(json.dumps({"what": what, "arguments": arguments}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise self._died(what)
        reply = json.loads(line)
        if "error" in reply:
            raise _error(reply["error"], f"{self._name}: {reply['message']}")
        return reply["result"]

    def _died(self, what: str) -> PaloError:
        status = self._process.wait()
        self._messages.seek(0)
        lines = self._messages.read().decode("utf-8", "replace").strip().splitlines()
        reason = signal.Signals(-status).name if status < 0 else f"status {status}"
        # Of a failed assertion: the file without its folders, which are those of the build.
        said = f", {re.sub(r'^/.*/(?=[^/]+:[0-9]+: )', '', lines[-1].strip())}" if lines else ""
        step = f"load {self._model}" if what == "load" else _STEPS.get(what, what)
        return PaloError(f"{self._name}: could not {step}: its process ended ({reason}{said}); {self._fix(reason)}")

    def _fix(self, reason: str) -> str:
        if reason == "SIGKILL":  # as Linux does where memory runs out
            return "if memory was short, close other programs or choose a smaller model"
        if self.side == "llama_cpp":
            return "measure without it: --vs none"
        return "report it with the output of `palo-cpp doctor --json`"

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.close()
            self._process.wait(timeout=10)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        finally:
            self._process.stdout.close()
            self._messages.close()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is not None:
            self._process.kill()  # it may be in the middle of minutes of work
        self.close()


def _error(name: str, message: str) -> PaloError:
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, PaloError):
        return kind(message)
    return errors.OutOfMemoryError(message) if name == "MemoryError" else PaloError(message)
