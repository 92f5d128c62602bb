"""The warning where MobilePALO is asked for a language that it is weak in."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from palo_cpp.families.palo.weak_languages import LanguageAdvice
from palo_cpp.ggml.gguf_header import GgufHeader
from palo_cpp.languages.languages import LANGUAGES

GIB = 1 << 30


def advice(name: str = "MobilePALO-1.7B", width: int = 2048, available: int | None = 8 * GIB) -> LanguageAdvice:
    metadata = {"general.name": name, "llama.embedding_length": width}
    header = GgufHeader(Path("text.gguf"), 0, metadata, {}, {}, [], {})
    return LanguageAdvice(header, available=lambda: available)


@pytest.mark.parametrize("code", LANGUAGES)
def test_weak_languages_are_told_once(code: str, caplog: pytest.LogCaptureFixture) -> None:
    told = advice()
    for _ in range(2):
        told.heed({code})
    is_weak = code in ("bn", "ur", "hi")
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * is_weak
    if is_weak:
        expected = "MobilePALO-1.7B is weak in Bengali, Urdu, Hindi; PALO-7B answers better, and this machine has"
        assert caplog.messages[0].startswith(expected)


def test_small_machines_are_told_what_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    advice(available=2 * GIB).heed({"hi"})
    assert caplog.messages[0].endswith("PALO-7B answers better, where 6 GiB of memory are free")


@pytest.mark.parametrize(("name", "width"), [("PALO-7B", 4096), ("PALO-Nano", 256), ("MobileVLM-1.7B", 2048)])
def test_other_models_get_no_advice(name: str, width: int, caplog: pytest.LogCaptureFixture) -> None:
    advice(name, width).heed({"hi"})
    assert not caplog.records


@pytest.mark.parametrize("codes", [set(), {"ar", "ur"}, {"en"}])
def test_a_language_that_may_be_another_is_no_reason(codes: set[str], caplog: pytest.LogCaptureFixture) -> None:
    told = advice()
    told.heed(codes)
    assert not caplog.records
    told.heed({"ur"})
    assert len(caplog.records) == 1


def test_every_question_is_heeded(palo, picture, monkeypatch):  # type: ignore[no-untyped-def]
    heard: list[set[str]] = []
    monkeypatch.setattr(palo, "_engine", replace(palo._engine, heed_language=heard.append))
    palo.ask(picture, "यह क्या है और यहाँ कौन है?", max_tokens=1)
    palo.describe(picture, lang=["bn"], max_tokens=1)
    with palo.chat(picture, lang="ur"):
        assert heard[-1] == {"ur"}  # before the first question
    assert [codes for codes in heard if codes] == [{"hi"}, {"bn"}, {"bn"}, {"ur"}]
