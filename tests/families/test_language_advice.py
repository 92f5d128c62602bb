"""The warning where MobilePALO is asked for a language that it is weak in."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from palo_cpp.families.palo import weak_languages
from palo_cpp.families.palo.family import PaloFamily
from palo_cpp.families.palo.weak_languages import weak_language_advice
from palo_cpp.ggml.gguf_header import GgufHeader
from palo_cpp.languages.languages import LANGUAGES

GIB = 1 << 30


@pytest.fixture(autouse=True)
def available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weak_languages, "memory_available", lambda: 8 * GIB)


def header(name: str = "MobilePALO-1.7B", width: int = 2048) -> GgufHeader:
    metadata = {"general.name": name, "llama.embedding_length": width}
    return GgufHeader(Path("text.gguf"), 0, metadata, {}, {}, [], {})


@pytest.mark.parametrize("code", LANGUAGES)
def test_weak_languages_are_named(code: str) -> None:
    advice = weak_language_advice(header(), {code})
    assert (advice is not None) == (code in ("bn", "ur", "hi"))
    if advice:
        expected = "MobilePALO-1.7B is weak in Bengali, Urdu, Hindi; PALO-7B answers better, and this machine has"
        assert advice.startswith(expected)


def test_it_is_said_once(loaded, caplog: pytest.LogCaptureFixture, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(PaloFamily, "advice", lambda _self, _text, languages: "weak" if languages == {"hi"} else None)
    for codes in ({"en"}, {"hi"}, {"hi"}):
        loaded.warn_about_language(codes)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(logging.WARNING, "weak")]


def test_small_machines_are_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weak_languages, "memory_available", lambda: 2 * GIB)
    advice = weak_language_advice(header(), {"hi"})
    assert advice and advice.endswith("PALO-7B answers better, where 6 GiB of memory are free")


@pytest.mark.parametrize(("name", "width"), [("PALO-7B", 4096), ("PALO-Nano", 256), ("MobileVLM-1.7B", 2048)])
def test_other_models_get_no_advice(name: str, width: int) -> None:
    assert weak_language_advice(header(name, width), {"hi"}) is None


@pytest.mark.parametrize("codes", [set(), {"ar", "ur"}, {"en"}])
def test_a_language_that_may_be_another_is_no_reason(codes: set[str]) -> None:
    assert weak_language_advice(header(), codes) is None
    assert weak_language_advice(header(), {"ur"}) is not None


def test_every_question_is_heeded(palo, picture, monkeypatch):  # type: ignore[no-untyped-def]
    heard: list[set[str]] = []
    monkeypatch.setattr(PaloFamily, "advice", lambda _self, _text, languages: heard.append(set(languages)))
    palo.ask(picture, "यह क्या है और यहाँ कौन है?", max_tokens=1)
    palo.describe(picture, lang=["bn"], max_tokens=1)
    with palo.chat(picture, lang="ur"):
        assert heard[-1] == {"ur"}  # before the first question
    assert [codes for codes in heard if codes] == [{"hi"}, {"bn"}, {"bn"}, {"ur"}]
