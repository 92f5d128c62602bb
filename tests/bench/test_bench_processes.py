"""Processes of the two sides that end, and models that llama.cpp's side cannot run."""

from __future__ import annotations

import json
import re
import signal
import sys
from dataclasses import replace

import pytest
from click.testing import CliRunner

from palo_cpp.bench.contestant import Setup
from palo_cpp.bench.llama_side import unsupported
from palo_cpp.bench.worker_process import WorkerProcess
from palo_cpp.cli import palo_cpp
from palo_cpp.errors import PaloError
from palo_cpp.ggml.gguf_header import GgufHeader, read_header
from palo_cpp.models.files import NANO_FOLDER

NANO = Setup(NANO_FOLDER / "PALO-Nano-Q8_0.gguf", NANO_FOLDER / "mmproj-PALO-Nano-Q8_0.gguf", n_threads=1, n_ctx=0)
REASON = "its LDP projector knows only a grid of 24x24 patches, this model has 12x12"


# --- a process that ends


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
@pytest.mark.parametrize(
    ("side", "number", "message"),
    [
        (
            *("llama_cpp", signal.SIGKILL),
            "llama.cpp: could not load PALO-Nano-Q8_0: its process ended (SIGKILL); "
            "if memory was short, close other programs or choose a smaller model",
        ),
        (
            *("llama_cpp", signal.SIGSEGV),
            "llama.cpp: could not load PALO-Nano-Q8_0: its process ended (SIGSEGV); measure without it: --vs none",
        ),
        (
            *("palo_cpp", signal.SIGSEGV),
            "palo_cpp: could not load PALO-Nano-Q8_0: its process ended (SIGSEGV); "
            "report it with the output of `palo-cpp doctor --json`",
        ),
    ],
)
def test_a_process_that_dies_is_an_error_and_no_hang(side: str, number: signal.Signals, message: str) -> None:
    """Memory is guessed at only where the process was killed, as Linux does where memory runs out."""
    with WorkerProcess(side, NANO) as process:
        process._process.send_signal(number)
        with pytest.raises(PaloError) as caught:
            process.ask("load")
    assert str(caught.value) == message


def test_the_step_is_named_that_could_not_be_done() -> None:
    with WorkerProcess("llama_cpp", NANO) as process:
        process._process.kill()
        with pytest.raises(PaloError, match=r"^llama\.cpp: could not encode the image: its process ended"):
            process.ask("save_embeddings", path="x")


def test_a_process_that_leaves_with_a_status_says_its_last_line() -> None:
    with (
        WorkerProcess("palo_cpp", NANO) as process,
        pytest.raises(PaloError, match=r"could not dance: its process ended \(status 1, AttributeError: .*'dance'\); "),
    ):
        process.ask("dance")


# --- a grid that llama.cpp does not know


def test_why_llama_cpp_is_left_out_on_the_demo() -> None:
    """What `unsupported` prevents; once this fails, llama.cpp knows other grids."""
    with WorkerProcess("llama_cpp", NANO) as process, pytest.raises(PaloError) as caught:
        process.ask("load")
    message = str(caught.value)
    assert message.startswith("llama.cpp: could not load PALO-Nano-Q8_0: its process ended (SIGABRT, ggml.c:")
    assert message.endswith(") failed); measure without it: --vs none")


@pytest.fixture
def mmproj() -> GgufHeader:
    return read_header(NANO.mmproj)


@pytest.mark.parametrize(
    ("projector", "image", "patch", "reason"),
    [
        ("ldp", 168, 14, REASON),
        ("ldpv2", 168, 14, REASON.replace("LDP", "LDPv2")),
        ("ldp", 350, 14, REASON.replace("12x12", "25x25")),
        ("ldp", 336, 14, ""),
        ("ldpv2", 384, 16, ""),
        ("mlp", 168, 14, ""),
        ("ldp", "large", 14, ""),  # for the loader to refuse
        ("ldp", 168, 0, ""),
    ],
)
def test_llama_cpp_knows_one_grid_for_ldp(
    mmproj: GgufHeader, projector: str, image: object, patch: int, reason: str
) -> None:
    keys = {"clip.projector_type": projector, "clip.vision.image_size": image, "clip.vision.patch_size": patch}
    assert unsupported(replace(mmproj, metadata={**mmproj.metadata, **keys})) == reason


def bench(*arguments: str):
    command = ["bench", "nano", "--only", "encode", "--runs", "1", *arguments]
    return CliRunner().invoke(palo_cpp, command, prog_name="palo-cpp")


def test_a_model_that_llama_cpp_cannot_run_is_measured_without_it() -> None:
    result = bench()
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert re.search(r"^encode an image, ms +[0-9.]+ +n/a$", result.stdout, re.MULTILINE)
    assert f"\nllama.cpp cannot run this model: {REASON}\n" in result.stdout


def test_a_model_that_llama_cpp_cannot_run_is_refused_where_llama_cpp_was_asked_for() -> None:
    result = bench("--vs", "llama.cpp")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"palo-cpp: error: llama.cpp: could not run this model: {REASON}; measure without it: --vs none\n"
    )


@pytest.mark.parametrize(("arguments", "reason"), [((), REASON), (("--vs", "none"), None)])
def test_json_says_why_llama_cpp_was_left_out(arguments: tuple[str, ...], reason: str | None) -> None:
    found = json.loads(bench("--json", *arguments).stdout)
    assert found["palo_cpp"]["encode_ms"] > 0
    assert (found["llama_cpp"], found["ratio"], found["llama_cpp_left_out"]) == (None, None, reason)
