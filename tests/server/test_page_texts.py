"""The page's files: its table of texts, and what they must not contain. No browser is needed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from page_browser import SCENE, texts

from palo_cpp import server
from palo_cpp.languages.detection import is_in_language
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.server.settings import Limits

PAGE = Path(server.__file__).parent / "page"
SCRIPTS = sorted(PAGE.glob("*.js"))
HTML = (PAGE / "index.html").read_text(encoding="utf-8")
CODE = "\n".join(path.read_text(encoding="utf-8") for path in SCRIPTS)
TEXTS = texts()


@pytest.mark.parametrize("key", TEXTS)
def test_every_text_is_there_in_all_languages(key):
    entry = TEXTS[key]
    assert list(entry) == list(LANGUAGES)
    places = {code: sorted(re.findall(r"\{(\w+)\}", text)) for code, text in entry.items()}
    assert all(found == places["en"] for found in places.values()), places
    assert all(text == text.strip() and text for text in entry.values())
    assert [code for code, text in entry.items() if is_in_language(text, code) is False] == []


@pytest.mark.parametrize("code", [code for code in LANGUAGES if code != "en"])
def test_no_text_is_left_in_english(code):
    same = [key for key, entry in TEXTS.items() if entry[code] == entry["en"]]
    assert same == (["conversation"] if code == "fr" else [])  # it is the French word
    stops = (".", "。", "।", "۔")
    assert [key for key, entry in TEXTS.items() if entry[code].endswith(stops) != entry["en"].endswith(stops)] == []


def test_names_and_directions_are_those_of_the_library():
    table = json.loads((PAGE / "strings.json").read_text(encoding="utf-8"))["languages"]
    assert table == {c: {"name": lang.own_name, "direction": lang.direction} for c, lang in LANGUAGES.items()}


def test_every_text_is_used_and_every_used_text_is_there():
    used = set(re.findall(r'data-(?:text|label|alt|placeholder)="(\w+)"', HTML))
    calls = r'\b(?:announce|notice|note|withdraw|text|Refused)\("(\w+)"|(?:text|label|alt): "(\w+)"'
    used |= {first or second for first, second in re.findall(calls, CODE)}
    assert used <= set(TEXTS)
    mentioned = used | set(re.findall(r'"(\w+)"', CODE)) | {"needsScript"}
    assert set(TEXTS) <= mentioned


def test_without_scripts_it_says_so_in_all_languages():
    found = re.findall(r'<p lang="(\w+)" dir="(\w+)">(.*)</p>', HTML.partition("</noscript>")[0])
    assert {code: text for code, _, text in found} == TEXTS["needsScript"]
    assert all(LANGUAGES[code].direction == direction for code, direction, _ in found)


def test_it_names_no_other_host_and_has_nothing_inline():
    for path in PAGE.iterdir():
        if path.suffix != ".png":
            text = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
            assert not re.search(r"(?:https?:)?//[\w-]+\.\w|@import|url\(", text.replace("// ", "")), path.name
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", HTML)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", CODE)


def test_its_limits_are_those_of_the_server():
    said = dict(re.findall(r"(\w+): (\d+)", re.search(r"limits = \{(.*)\}", CODE)[1]))
    limits = Limits()
    assert {name: int(value) for name, value in said.items()} == {
        "nImages": limits.n_images,
        "imageBytes": limits.image_bytes,
        "nPixels": limits.n_pixels,
        "bodyBytes": limits.body_bytes,
    }
    assert int(re.search(r'maxlength="(\d+)"', HTML)[1]) < limits.n_characters


def test_its_example_is_the_one_of_the_examples():
    assert (PAGE / "example.png").read_bytes() == SCENE.read_bytes()


@pytest.mark.parametrize("path", [*SCRIPTS, *PAGE.glob("*.css"), PAGE / "index.html"], ids=lambda path: path.name)
def test_its_files_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
