"""What cannot be written to stdout is said on stderr, by every command; in processes of their own, on real files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import picture as draw

resource = pytest.importorskip("resource", reason="Windows has neither limits nor descriptors to close")
FULL = Path("/dev/full")
SAID = "palo-cpp: error: stdout: could not write the output: {}; send it to another place\n"

needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full on this system")
INHERITED = {name: value for name, value in os.environ.items() if not name.startswith(("PALO_CPP_", "PYTHON"))}
COMMANDS = {
    "show": ["show", "{model}"],
    "show --json": ["show", "{model}", "--json"],
    "show a folder": ["show", "{folder}"],
    "--version": ["--version"],
    "--help": ["--help"],
    "help of a command": ["ask", "--help"],
    "doctor": ["doctor", "-m", "{folder}", "--json"],
    "ask": ["ask", "{image}", "-m", "{folder}", "-n", "4"],
    "ask --json": ["ask", "{image}", "-m", "{folder}", "-n", "4", "--json"],
    "describe": ["describe", "{image}", "-m", "{folder}", "-n", "4", "--lang", "en,hi"],
    "describe --html": ["describe", "{image}", "-m", "{folder}", "-n", "4", "--html", "-"],
    "chat": ["chat", "{image}", "-m", "{folder}", "-n", "4"],
}


@pytest.fixture
def arguments(model_dir, tmp_path):
    photo = tmp_path / "चित्र تصویر.png"
    draw(64, 48).save(photo)

    def filled(name):
        places = {"model": model_dir / "PALO-Small-F16.gguf", "folder": model_dir, "image": photo}
        return [argument.format(**places) for argument in COMMANDS[name]]

    return filled


def run(arguments, environment=None, **options):
    command = [sys.executable, "-m", "palo_cpp", *arguments]
    options = {"input": "What?\n", "stderr": subprocess.PIPE, "text": True, "timeout": 120} | options
    return subprocess.run(command, env=INHERITED | (environment or {}), **options)


def errors_of(done):
    return "".join(line for line in done.stderr.splitlines(keepends=True) if not line.startswith("palo-cpp: warning:"))


@needs_full
@pytest.mark.parametrize(
    ("name", "unbuffered"), [*((name, "") for name in COMMANDS), ("show", "1"), ("--help", "1"), ("ask", "1")]
)
def test_no_room(name, unbuffered, arguments):
    with FULL.open("w") as full:
        done = run(arguments(name), {"PYTHONUNBUFFERED": unbuffered}, stdout=full)
    assert (done.returncode, errors_of(done)) == (1, SAID.format("No space left on device"))


@pytest.mark.parametrize("name", ["show", "--version", "ask", "describe --html"])
def test_stdout_is_closed(name, arguments):
    done = run(arguments(name), preexec_fn=lambda: os.close(1))
    assert (done.returncode, errors_of(done)) == (1, SAID.format("Bad file descriptor"))


def test_room_for_a_part_only(arguments, tmp_path):
    whole = run(arguments("show"), stdout=subprocess.DEVNULL)
    assert whole.returncode == 0

    with (tmp_path / "out").open("w") as file:
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # noqa: E731
        done = run(arguments("show"), stdout=file, preexec_fn=limit)
    assert (done.returncode, done.stderr) == (1, SAID.format("File too large"))
    assert (tmp_path / "out").stat().st_size == 100


@pytest.mark.parametrize("environment", [{}, {"PYTHONUNBUFFERED": "1"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_nothing_else_changes(environment):
    done = run(["--help"], environment, stdout=subprocess.PIPE)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: palo-cpp")
    assert "中文" in done.stdout and "اردو" in done.stdout
    assert done.stderr == ""


def test_a_reader_that_leaves_early_is_no_failure_worth_a_word(arguments):
    command = [sys.executable, "-m", "palo_cpp", *arguments("show")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=INHERITED) as process:
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (1, b"")


@pytest.fixture
def pipe_without_reader():
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@needs_full
def test_what_a_command_left_in_the_buffer(pipe_without_reader):
    code = "from palo_cpp import cli; cli.palo_cpp.invoke = lambda _: print('x'); cli.main()"
    command = [sys.executable, "-c", code, "show"]
    with FULL.open("w") as full:
        for stdout, said in ((full, SAID.format("No space left on device")), (pipe_without_reader, "")):
            done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, env=INHERITED, text=True)
            assert (done.returncode, done.stderr) == (1, said)


def test_without_stdin_and_stderr(arguments):
    streams = {"input": None, "stdin": None, "stderr": None}
    done = run(arguments("ask"), stdout=subprocess.PIPE, preexec_fn=lambda: (os.close(0), os.close(2)), **streams)
    assert done.returncode == 0
    assert done.stdout.strip()
    assert "palo-cpp" not in done.stdout


@pytest.mark.parametrize("command", ["ask", "chat"])
def test_an_image_that_is_not_there_is_refused_before_a_model_is_loaded(command, tmp_path):
    missing = tmp_path / "چھوٹا.jpg"
    done = run([command, missing], stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"palo-cpp: error: {missing}: no such file\n"  # and no notice about the demo
