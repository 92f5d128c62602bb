"""The package itself: what it exports, and how little it loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

import palo_cpp


def test_everything_public_is_there():
    for name in palo_cpp.__all__:
        assert getattr(palo_cpp, name) is not None
    assert set(palo_cpp.__all__) <= set(dir(palo_cpp))
    assert palo_cpp.Palo.__module__ == "palo_cpp.palo"
    assert issubclass(palo_cpp.ImageError, palo_cpp.PaloError)
    with pytest.raises(AttributeError, match="no attribute 'Nope'"):
        palo_cpp.Nope  # noqa: B018


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def test_import_loads_nothing_heavy():
    heavy = "{'numpy', 'llama_cpp', 'gguf', 'PIL', 'rich', 'sentencepiece', 'click', 'ctypes', 'palo_cpp._core'}"
    assert run(f"import sys, palo_cpp; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_import_is_fast():
    """Under 150 ms is promised; best of five, for other processes share the machine."""
    code = "import time; begun = time.perf_counter(); import palo_cpp; print(time.perf_counter() - begun)"
    assert min(float(run(code)) for _ in range(5)) < 0.15  # observed 0.003


def test_classes_import_without_llama_cpp():
    code = (
        "import sys; from palo_cpp import Palo, Chat, Answer; print('llama_cpp' in sys.modules, 'gguf' in sys.modules)"
    )
    assert run(code) == "False False"
