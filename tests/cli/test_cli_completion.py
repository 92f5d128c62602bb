"""What Tab completes in a chat: commands, and paths with spaces and in all scripts."""

from __future__ import annotations

import sys

import pytest
from terminals import Terminal

from palo_cpp.cli.chat_commands import COMMANDS
from palo_cpp.cli.completion import completions, folder_entries
from palo_cpp.cli.typed_paths import split_line

FOLDERS = {
    "": ["cat.jpg", "catalogue.txt", "notes.txt", "photos/", ".hidden.jpg"],
    "/photos/": [
        "Anna's ~.jpg",
        "my cat.jpg",
        "my dog.png",
        "मेरी बिल्ली.jpg",
        "میری بلی.jpg",
        "私の 猫.jpg",
        "plan.txt",
    ],
    "/": ["photos/", "home/"],
    "../": ["up.png"],
    "/only/": ["text.txt"],
    "/mac/": ["カ\u3099.jpg"],  # ガ in two parts, as macOS may store it
}


def complete(before):
    start, texts = completions(before, lambda folder: FOLDERS.get(folder, []))
    return [before[:start] + text for text in texts]


def test_commands():
    assert complete("/") == [f"{name} " for command in COMMANDS for name in (command.name, *command.aliases)]
    assert complete("/cl") == ["/clear "]
    assert complete("/h") == ["/help ", "/home/"]
    assert complete("/lang h") == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/p", ["/photos/"]),
        ("/photos/my", ["/photos/my\\ cat.jpg ", "/photos/my\\ dog.png "]),
        ("/photos/my\\ c", ["/photos/my\\ cat.jpg "]),
        ("/photos/my c", ["/photos/my cat.jpg "]),  # an open space stays as it was typed
        ("'/photos/my", ["'/photos/my cat.jpg' ", "'/photos/my dog.png' "]),
        ("'/photos/my c", ["'/photos/my cat.jpg' "]),
        ('"/photos/my c', ['"/photos/my cat.jpg" ']),
        ("/photos/A", ["/photos/Anna\\'s\\ ~.jpg "]),
        ("'/photos/A", ["'/photos/Anna'\\''s ~.jpg' "]),
        ('"/photos/A', ['"/photos/Anna\'s ~.jpg" ']),
        ("/add /photos/my\\ c", ["/add /photos/my\\ cat.jpg "]),
        ("/add ", ["/add cat.jpg ", "/add photos/"]),
        ("/add cat.jpg ../", ["/add cat.jpg ../up.png "]),
        ("/save ", ["/save cat.jpg ", "/save catalogue.txt ", "/save notes.txt ", "/save photos/"]),
        ("/add .h", ["/add .hidden.jpg "]),
        ("/only/", ["/only/text.txt "]),
        ("What is cat", ["What is cat.jpg "]),
        ("What's in '/photos/my c", ["What's in '/photos/my cat.jpg' "]),
        ("यह क्या है? /photos/मे", ["यह क्या है? /photos/मेरी\\ बिल्ली.jpg "]),
        ("یہ کیا ہے؟ '/photos/می", ["یہ کیا ہے؟ '/photos/میری بلی.jpg' "]),
        ("これは/photos/私", ["これは/photos/私の\\ 猫.jpg "]),
        ("/mac/ガ", ["/mac/カ\u3099.jpg "]),
        ("What is ", []),
        ("", []),
        ("/photos/none", []),
        ("/none/", []),
        ("nothing like this", []),
    ],
)
def test_paths(before, after):
    assert complete(before) == after


@pytest.mark.parametrize(
    "before", ["/photos/my\\ c", "'/photos/A", '"/photos/A', "/photos/A", "/photos/私", "/photos/my c"]
)
def test_what_was_completed_is_read_as_that_path(before):
    files = {f"/photos/{name}" for name in FOLDERS["/photos/"]}
    (line,) = complete(before)
    assert len(split_line(f"What is this? {line}", files.__contains__).images) == 1


def test_entries_of_a_folder(tmp_path):
    (tmp_path / "a b").mkdir()
    (tmp_path / "猫.jpg").touch()
    assert folder_entries(str(tmp_path)) == ["a b/", "猫.jpg"]
    assert folder_entries(str(tmp_path / "none")) == folder_entries("a\0b") == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo terminals of this kind")
@pytest.mark.parametrize(
    ("folder", "name"), [("क ख", "मेरी बिल्ली.png"), ("تصاویر", "میری بلی.png"), ("写真", "私の 猫.png")]
)
def test_tab_in_a_terminal(tmp_path, folder, name):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / name).touch()
    with Terminal(XDG_STATE_HOME=str(tmp_path)) as terminal:
        terminal.read_until(">>> ")
        terminal.type(f"{tmp_path}/{folder[0]}\t{name[0]}\t")
        shown = terminal.read_until(".png ")
        assert f"{name}".replace(" ", "\\ ") in shown
        terminal.type("क्या?\r")
        terminal.read_until(f"{name} is open")
        terminal.read_until(">>> ")
        terminal.type("/by\t\r")
        assert terminal.process.wait(20) == 0
