"""What reaches stdout and stderr: UTF-8 whatever the locale, piece by piece, and nothing after the reader has left."""

import io
import os
import subprocess
import sys
from pathlib import Path

import fake_palo
import pytest
from fake_palo import ANSWERS

from palo_cpp.cli import palo_cpp


@pytest.fixture
def palo(monkeypatch):
    return fake_palo.install(monkeypatch)


def test_stdout_is_utf8_whatever_the_locale():
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import fake_palo; from palo_cpp.cli import main, open_model;"
        "open_model.open_palo = lambda *_: fake_palo.FakePalo(); main()"
    )
    env = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    arguments = [
        sys.executable,
        "-c",
        code,
        str(Path(__file__).parents[1] / "support"),
        "describe",
        "photo.jpg",
        "--lang",
        "all",
    ]
    said = subprocess.run(arguments, env=env, capture_output=True, check=True).stdout.decode("utf-8")
    assert all(text in said for text in ANSWERS.values())


def test_pieces_are_flushed_one_by_one(monkeypatch, palo):
    class Stream(io.StringIO):
        def flush(self):
            seen.append(self.getvalue())

    seen: list[str] = []
    monkeypatch.setattr(sys, "stdout", Stream())
    palo.pieces = ["न", "म", "स्ते"]
    with pytest.raises(SystemExit):
        palo_cpp.main(["ask", "photo.jpg"])
    assert [text for i, text in enumerate(seen) if text not in seen[:i]] == ["न", "नम", "नमस्ते", "नमस्ते\n"]


def test_python_dash_m_is_the_command():
    said = subprocess.run([sys.executable, "-m", "palo_cpp", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("palo-cpp 0.")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from palo_cpp.cli import palo_cpp; palo_cpp.main(['--help'], standalone_mode=False);"
        "heavy = {'numpy', 'llama_cpp', 'gguf', 'PIL', 'rich', 'sentencepiece', 'palo_cpp.palo'};"
        "heavy |= {'palo_cpp.languages.languages'};"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")


def test_a_reader_that_leaves_is_no_failure_to_talk_about():
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import fake_palo; from palo_cpp.cli import main, open_model;"
        "open_model.open_palo = lambda *_: fake_palo.FakePalo(pieces=['many words '] * 100_000); main()"
    )
    arguments = [sys.executable, "-c", code, str(Path(__file__).parents[1] / "support"), "ask", "photo.jpg"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.read(4) == b"many"
        process.stdout.close()
        assert process.wait(60) == 1
        assert process.stderr.read() == b""
