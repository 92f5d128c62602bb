"""Descriptions side by side: the table on a terminal, and the HTML page."""

from __future__ import annotations

import base64
import errno
import io
import json
import os
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import fake_palo
import PIL.Image
import pytest
from click.testing import CliRunner
from fake_palo import ANSWERS

from palo_cpp.cli import palo_cpp
from palo_cpp.cli.answer_table import can_tabulate, print_table, table_rows
from palo_cpp.cli.bidi import Bidi
from palo_cpp.cli.page import DescribedImage, page
from palo_cpp.cli.visual_order import n_cells, visual
from palo_cpp.languages.languages import LANGUAGES

HOSTILE = "</p></article><script>alert(1)</script> & \"q\" 'a' <img src=x onerror=alert(2)> \x1b[2J\u202e"


@pytest.fixture(autouse=True)
def palo(monkeypatch):
    return fake_palo.install(monkeypatch)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    PIL.Image.new("RGB", (900, 300), "red").save(path)
    return str(path)


def run(*arguments, **extra):
    return CliRunner().invoke(palo_cpp, ["describe", *map(str, arguments)], prog_name="palo-cpp", **extra)


def answers(codes=LANGUAGES, text=None):
    return {code: fake_palo.answer(text or ANSWERS[code], code) for code in codes}


# ---- the page


class Page(HTMLParser):
    """Elements with their attributes, and the text inside of each `article`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.articles: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "article":
            self.articles.append("")
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "article" in self.open:
            self.articles[-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def test_every_answer_names_its_language_and_direction(photo):
    found = Page(run(photo, "--lang", "all", "--html", "-").stdout)
    assert found.open == []
    articles = found.all("article")
    assert [each["lang"].partition("-")[0] for each in articles] == list(LANGUAGES)
    assert [each["dir"] for each in articles] == [language.direction for language in LANGUAGES.values()]
    for code, text in zip(LANGUAGES, found.articles, strict=True):
        assert ANSWERS[code] in text and LANGUAGES[code].own_name in text and LANGUAGES[code].english_name in text
    assert [tag for tag, _ in found.elements if tag in ("h1", "h2", "h3")] == ["h1", "h2", *["h3"] * 10]
    assert found.all("html") == [{"lang": "en", "dir": "ltr"}]


def test_the_picture_is_inside_small_and_has_a_text(photo):
    (image,) = Page(run(photo, "--lang", "hi,ur", "--html", "-").stdout).all("img")
    head, _, data = image["src"].partition(",")
    assert head == "data:image/jpeg;base64"
    small = PIL.Image.open(io.BytesIO(base64.b64decode(data)))
    assert small.size == (640, 213) == (int(image["width"]), int(image["height"]))
    assert image["alt"] == f"{photo}, described below in 2 languages"


def test_nothing_is_loaded_or_run(photo):
    text = run(photo, "--lang", "all", "--html", "-").stdout
    found = Page(text)
    assert not re.findall(r"https?:|url\(|@import", text)
    assert not {"script", "link", "iframe", "form", "object"} & {tag for tag, _ in found.elements}
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert "default-src 'none'" in found.all("meta")[1]["content"]


def test_untrusted_text_stays_text():
    images = [
        DescribedImage(HOSTILE, "data:image/jpeg;base64,", (1, 1), answers(["en", "ur"], HOSTILE)),
        DescribedImage("b\udcff.jpg", error=HOSTILE),
    ]
    text = page(images, HOSTILE)
    found = Page(text)
    assert found.open == [] and len(found.all("article")) == 2 and len(found.all("img")) == 1
    assert "script" not in {tag for tag, _ in found.elements}
    assert HOSTILE.replace("\x1b", "") in found.articles[0]
    assert found.all("img")[0]["alt"].startswith("</p></article><script>alert(1)</script> & \"q\" 'a'")
    assert "\x1b" not in text
    text.encode("utf-8")  # a name that is no UTF-8, too


def test_lines_become_paragraphs_and_cuts_are_told():
    said = answers(["ja"], "一\n\n二\n")
    assert len(Page(page([DescribedImage("a", answers=said)], "m")).all("p")) == 3  # with the note of the head
    cut = {code: fake_palo.replace(answer, finish_reason="length") for code, answer in said.items()}
    found = Page(page([DescribedImage("a", answers=cut)], "m"))
    assert found.all("p")[-1] == {"class": "note", "lang": "en", "dir": "ltr"}


def test_an_answer_in_another_language_is_told():
    said = {"es": fake_palo.answer(ANSWERS["ru"], "es"), "ru": fake_palo.answer(ANSWERS["ru"], "ru")}
    first, second = Page(page([DescribedImage("a", answers=said)], "m")).articles
    assert "Not in the language" in first and "Not in the language" not in second


def test_a_page_in_a_file_beside_what_is_printed(photo, tmp_path):
    file = tmp_path / "صفحہ.html"
    result = run(photo, "missing.jpg", photo, "--lang", "fr", "--html", file)
    assert result.exit_code == 1
    assert result.stdout == f"== {photo} · français (fr)\n{ANSWERS['fr']}\n" * 2
    found = Page(file.read_text(encoding="utf-8"))
    assert len(found.all("section")) == 3 and len(found.all("article")) == 2
    assert {"role": "alert"} in found.all("p")
    assert [each["id"] for each in found.all("h2")] == ["image-1", "image-2", "image-3"]


def test_one_language_streams_and_json_goes_with_a_file(photo, tmp_path):
    file = tmp_path / "a.html"
    assert run(photo, "--html", file).stdout == ANSWERS["en"] + "\n"
    assert ANSWERS["en"] in file.read_text(encoding="utf-8")
    said = json.loads(run(photo, "--json", "--html", file).stdout)
    assert said["images"][0]["answers"]["en"]["text"] == ANSWERS["en"]


def test_an_image_from_stdin(photo):
    with open(photo, "rb") as file:  # noqa: PTH123  # click's runner wants bytes
        result = run("-", "--lang", "en,ur", "--html", "-", input=file.read())
    assert len(Page(result.stdout).all("img")) == 1


def test_a_full_disk_leaves_the_older_page(monkeypatch, photo, tmp_path):
    file = tmp_path / "page.html"
    file.write_text("older")

    def write_bytes(self, data):
        with self.open("wb") as unfinished:
            unfinished.write(data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    result = run(photo, "--json", "--html", file)
    assert result.exit_code == 1 and json.loads(result.stdout)["images"][0]["answers"]
    assert f"palo-cpp: error: {tmp_path}: cannot write (No space left on device)" in result.stderr
    assert file.read_text() == "older" and not [path for path in tmp_path.iterdir() if "partial" in path.name]


def test_no_room_for_a_page_is_a_number_that_is_not_zero(monkeypatch, photo, tmp_path):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    result = run(photo, "--html", tmp_path / "page.html")
    assert result.exit_code == 1 and list(tmp_path.glob("*.html")) == []
    assert "expected 0.02 GiB of free space, got 0.0 GiB" in result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="a device of Linux")
def test_a_device_that_takes_nothing_is_named(photo):
    result = run(photo, "--html", "/dev/full")
    assert (result.exit_code, result.stdout) == (1, f"{ANSWERS['en']}\n")
    assert "/dev/full: could not write the page: No space left on device" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes in folders there")
def test_a_link_stays_a_link_and_a_pipe_a_pipe(photo, tmp_path):
    link = tmp_path / "link.html"
    link.symlink_to(tmp_path / "page.html")
    run(photo, "--html", link)
    assert link.is_symlink() and ANSWERS["en"] in (tmp_path / "page.html").read_text(encoding="utf-8")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    run(photo, "--html", pipe)
    assert pipe.is_fifo() and os.read(reader, 15) == b"<!doctype html>"
    os.close(reader)


@pytest.mark.parametrize("arguments", [["--json", "--html", "-"], ["--html", "no/such/folder/a.html"], ["--html", "."]])
def test_a_page_that_cannot_be_written_is_refused_before_any_work(palo, photo, arguments):
    result = run(photo, *arguments)
    assert (result.exit_code, result.stdout, palo.asked) == (2, "", [])


# ---- the table


def placed(row, width):
    """A row as a terminal shows it: each part from its column on."""
    first, _, rest = row.partition("\x1b[")
    if not rest:
        return row
    column, text = re.fullmatch(r"(\d+)G(.*)", rest).groups()
    assert int(column) - 1 - n_cells(first) >= 2  # a gap between the columns
    assert int(column) - 1 + n_cells(text) <= width
    return first + " " * (int(column) - 1 - n_cells(first)) + text


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("bidi", Bidi)
def test_rows_of_ten_languages(width, bidi):
    said = {code: fake_palo.answer(f"{text} {text}\n{text}", code) for code, text in ANSWERS.items()}
    rows = [placed(row, width) for row in table_rows("photo.jpg", said, bidi, width)]
    assert rows[0] == "photo.jpg"
    lines = [n for n, row in enumerate(rows) if row[0] == "─"]
    assert len(lines) == 11 and len({rows[n] for n in lines}) == 1 and n_cells(rows[lines[0]]) == width - 1
    for code, start, end in zip(LANGUAGES, lines, lines[1:], strict=False):
        body = rows[start + 1 : end]
        assert body[0].startswith(code) and all(row.startswith("   ") for row in body[1:])
        if LANGUAGES[code].direction == "rtl":
            assert all(n_cells(row) == width - 1 for row in body)  # to the right edge
        else:
            said_text = "".join("".join(body).removeprefix(f"{code} {LANGUAGES[code].own_name}").split())
            assert said_text == "".join(said[code].text.split())


def test_right_to_left_cells_are_what_the_terminal_needs():
    def last(bidi):
        return list(table_rows("a", answers(["en", "ur"]), bidi, 80))[-2]

    assert last(Bidi.PLAIN).endswith("G" + ANSWERS["ur"])
    assert last(Bidi.ISOLATES).endswith(f"G\u2067{ANSWERS['ur']}\u2069")
    assert last(Bidi.VISUAL) == last(Bidi.DIRECTION)
    assert last(Bidi.VISUAL).endswith("G" + visual(ANSWERS["ur"]))


def test_a_terminal_that_orders_rows_is_kept_from_it_meanwhile(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    print_table("a", answers(["ar"]), Bidi.DIRECTION)
    assert re.fullmatch("\x1b\\[8l.*\x1b\\[8h", sys.stdout.getvalue(), re.DOTALL)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    print_table("a", answers(["ar"]), Bidi.VISUAL)
    assert "\x1b[8" not in sys.stdout.getvalue()


def test_no_table_where_rows_would_be_torn():
    assert can_tabulate(["en", "ja"], Bidi.PLAIN) and can_tabulate(["ur"], Bidi.VISUAL)
    assert not can_tabulate(["en", "ur"], Bidi.PLAIN)


def test_an_answer_cannot_steer_the_terminal():
    text = "".join(table_rows("\x1b[1ma", answers(["en"], "\x1b[2J\x9b1m\ta"), Bidi.VISUAL, 80))
    assert re.findall("[\x00-\x1f\x7f-\x9f]", re.sub("\x1b\\[\\d+G", "", text)) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_table_and_one_warning_for_all_that_were_cut(monkeypatch, palo, capsys):
    palo.finish_reason = "length"
    for name in ("TMUX", "VTE_VERSION", "XTERM_VERSION", "MLTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Terminal())
        assert palo_cpp.main(["describe", "a.jpg", "b.jpg", "--lang", "fr,ur"], standalone_mode=False) == 0
        shown = sys.stdout.getvalue()
    assert shown.count("───\n") == 6 and shown.startswith("a.jpg\n─") and "\nb.jpg\n─" in shown
    assert f"\u2067{ANSWERS['ur']}\u2069" in shown and "==" not in shown
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2 and warnings[0].startswith("palo-cpp: warning: fr, ur: the answer was cut")


@pytest.mark.parametrize("reason", ["dumb", "bidi", "one"])
def test_a_terminal_without_a_table(monkeypatch, reason):
    monkeypatch.setenv("TERM", "dumb" if reason == "dumb" else "xterm-256color")
    bidi = "off" if reason == "bidi" else "visual"
    monkeypatch.setattr(sys, "stdout", Terminal())
    codes = "ur" if reason == "one" else "en,ur"
    palo_cpp.main(["describe", "a.jpg", "b.jpg", "--lang", codes, "--bidi", bidi], standalone_mode=False)
    assert "== a.jpg · اردو (ur)\n" in sys.stdout.getvalue() and "─" not in sys.stdout.getvalue()
