"""A model that was loaded before `os.fork` is refused in the child, at once and in one sentence; the parent goes on."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
import numpy as np
from palo_cpp import Palo, PaloError

image = np.zeros((20, 30, 3), np.uint8)
palo = Palo("nano", n_threads=2)
expected = palo.ask(image, lang="en", max_tokens=5).text
stream, chat = palo.stream(image, lang="hi"), palo.chat(image)
next(stream)
if (pid := os.fork()) == 0:
    ways = {
        "ask": lambda: palo.ask(image), "stream": lambda: next(stream), "chat": lambda: chat.ask("What?"),
        "embed": lambda: palo.embed_image(image), "describe": lambda: palo.describe(image),
        "decode": lambda: palo.language_model.decode([1], position=0), "load": lambda: Palo("nano"),
    }
    for name, way in ways.items():
        try:
            way()
        except PaloError as error:
            print(name, "forked process" in str(error) and "after the fork" in str(error), flush=True)
    palo.close()
    sys.exit(0)
print("child", os.waitpid(pid, 0)[1], flush=True)
print("parent", palo.ask(image, lang="en", max_tokens=5).text == expected, flush=True)
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system does not fork")
def test_a_forked_child_is_refused_and_ends():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=True)
    names = ("ask", "stream", "chat", "embed", "describe", "decode", "load")
    assert done.stdout.split("\n")[:-1] == [*(f"{name} True" for name in names), "child 0", "parent True"]


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system does not fork")
def test_a_child_that_loads_for_itself_answers():
    program = PROGRAM.split("palo = ")[0] + (
        "if (pid := os.fork()) == 0:\n"
        "    print(Palo('nano', n_threads=2).ask(image, lang='en', max_tokens=5).text != '', flush=True)\n"
        "    sys.exit(0)\n"
        "print(os.waitpid(pid, 0)[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["True", "0"]
