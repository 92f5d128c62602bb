"""`--lang-mode` on the command line, and what is said where a language was not kept."""

import json

import fake_palo
import pytest
from click.testing import CliRunner
from fake_palo import ANSWERS

from palo_cpp.cli import palo_cpp


@pytest.fixture(autouse=True)
def palo(monkeypatch):
    return fake_palo.install(monkeypatch)


def run(*arguments, **extra):
    return CliRunner().invoke(palo_cpp, arguments, prog_name="palo-cpp", **extra)


def test_an_answer_in_another_language_is_told(palo):
    palo.pieces = [ANSWERS["es"]]
    result = run("ask", "photo.jpg", "--lang", "fr")
    assert (result.exit_code, result.stdout) == (0, ANSWERS["es"] + "\n")
    assert "the answer is not in fr (French, français), but in es (Spanish, español)" in result.stderr
    said = json.loads(run("ask", "photo.jpg", "--lang", "fr", "--json").stdout)
    assert (said["language_ok"], said["language_detected"]) == (False, "es")
    assert "not in" not in run("ask", "photo.jpg", "--lang", "es").stderr
    assert "not in" not in run("ask", "photo.jpg").stderr
    assert "the answer is not in hi" in run("describe", "photo.jpg", "--lang", "hi,es").stderr
    assert "the answer is not in hi" in run("chat", "photo.jpg", "--lang", "hi", input="?\n").stderr


@pytest.mark.parametrize("name", ["ask", "describe", "chat"])
def test_how_the_language_is_kept(palo, name):
    for mode in ("strict", "prefer", "off"):
        run(name, "photo.jpg", "--lang", "hi", "--lang-mode", mode, input="?\n")
        assert palo.asked.pop()["lang_mode"] == mode
    run(name, "photo.jpg", "--lang", "hi", input="?\n", env={"PALO_CPP_LANG_MODE": "strict"})
    assert palo.asked.pop()["lang_mode"] == "strict"
    result = run(name, "photo.jpg", "--lang-mode", "severe", input="?\n")
    assert result.exit_code == 2 and "'severe' is not one of 'strict', 'prefer', 'off'" in result.stderr
