"""Paths as people type, paste and drop them: one table for what is an image, what is the question, what is missing."""

from __future__ import annotations

import shlex
import urllib.parse
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palo_cpp.cli.path_quoting import is_file, unquoted
from palo_cpp.cli.typed_paths import split_line, split_paths
from palo_cpp.languages.languages import LANGUAGES

HOME = str(Path.home())
NARROW_SPACE = "\u202f"  # macOS puts one into the names of screenshots
FILES = {
    "/photos/cat.jpg",
    "/photos/dog.PNG",
    "/photos/my cat.jpg",
    "/photos/my cat ~.jpg",
    "/photos/Anna's cat.jpg",
    '/photos/the "cat".jpg',
    '/photos/a $1 "cat".jpg',
    "/photos/100% cat#1.jpg",
    "/photos/DSC0001",
    f"/photos/Screenshot 3.14.15{NARROW_SPACE}PM.png",
    "/photos/it (1).jpg",
    f"{HOME}/cat.jpg",
    "./cat.jpg",
    "cat.jpg",
    "my cat.jpg",
    "猫.jpg",
    "photos/cat.jpg",
    r"C:\Users\me\cat.jpg",
    r"C:\Users\me\my cat.jpg",
    r"C:\Users\me\Anna's cat.jpg",
    "C:/Users/me/cat.jpg",
    r"\\server\share\cat.jpg",
    "README.md",
    "photo",
    "/etc/hostname",
}
# What each language calls a picture of a cat, with a space in it, and "What is this?".
NAMES = {
    "en": ("my cat", "What is this?"),
    "zh": ("我的 猫", "这是什么？"),
    "hi": ("मेरी बिल्ली", "यह क्या है?"),
    "es": ("mi gatito ñandú", "¿Qué es esto?"),
    "fr": ("mon chat d'été", "Qu’est-ce que c’est ?"),
    "ar": ("قطتي الصغيرة", "ما هذا؟"),
    "bn": ("আমার বিড়াল", "এটা কী?"),
    "ru": ("мой кот", "Что это?"),
    "ur": ("میری بلی", "یہ کیا ہے؟"),
    "ja": ("私の 猫", "これは何ですか？"),
}


def exists(path):
    return path in FILES


@pytest.mark.parametrize(
    ("line", "images", "question"),
    [
        # as terminals drop a file: GNOME, KDE, kitty; macOS, zsh, fish; Windows
        ("'/photos/my cat.jpg' what is this?", ["/photos/my cat.jpg"], "what is this?"),
        ('"/photos/my cat.jpg" what is this?', ["/photos/my cat.jpg"], "what is this?"),
        (r"/photos/my\ cat\ \~.jpg", ["/photos/my cat ~.jpg"], ""),
        (r"/photos/my\ cat\ \~.jpg what is this?", ["/photos/my cat ~.jpg"], "what is this?"),
        (r"/photos/it\ \(1\).jpg", ["/photos/it (1).jpg"], ""),
        (r"'/photos/Anna'\''s cat.jpg' what?", ["/photos/Anna's cat.jpg"], "what?"),
        (r"'/photos/Anna\'s cat.jpg' what?", ["/photos/Anna's cat.jpg"], "what?"),
        (r"/photos/Anna\'s\ cat.jpg what?", ["/photos/Anna's cat.jpg"], "what?"),
        (r'"/photos/the \"cat\".jpg" what?', ['/photos/the "cat".jpg'], "what?"),
        (r'"/photos/a \$1 \"cat\".jpg" what?', ['/photos/a $1 "cat".jpg'], "what?"),
        (r'& "/photos/a `$1 `"cat`".jpg" what?', ['/photos/a $1 "cat".jpg'], "what?"),
        ("'/photos/the \"cat\".jpg'", ['/photos/the "cat".jpg'], ""),
        (
            f"/photos/Screenshot\\ 3.14.15{NARROW_SPACE}PM.png what?",
            [f"/photos/Screenshot 3.14.15{NARROW_SPACE}PM.png"],
            "what?",
        ),
        (r"C:\Users\me\cat.jpg what is this?", [r"C:\Users\me\cat.jpg"], "what is this?"),
        (r'"C:\Users\me\my cat.jpg" what is this?', [r"C:\Users\me\my cat.jpg"], "what is this?"),
        (r"& 'C:\Users\me\my cat.jpg' what is this?", [r"C:\Users\me\my cat.jpg"], "what is this?"),
        (r"& 'C:\Users\me\Anna''s cat.jpg'", [r"C:\Users\me\Anna's cat.jpg"], ""),
        (r'& "C:\Users\me\my cat.jpg"', [r"C:\Users\me\my cat.jpg"], ""),
        ("C:/Users/me/cat.jpg what?", ["C:/Users/me/cat.jpg"], "what?"),
        (r"what? \\server\share\cat.jpg", [r"\\server\share\cat.jpg"], "what?"),
        ("file:///photos/my%20cat.jpg what is this?", ["/photos/my cat.jpg"], "what is this?"),
        ("'file:///photos/my%20cat.jpg'", ["/photos/my cat.jpg"], ""),
        ("file:/photos/my%20cat.jpg", ["/photos/my cat.jpg"], ""),
        ("FILE://localhost/photos/100%25%20cat%231.jpg", ["/photos/100% cat#1.jpg"], ""),
        # as people type one
        ("/photos/cat.jpg what is this", ["/photos/cat.jpg"], "what is this"),
        ("/photos/my cat.jpg what is this", ["/photos/my cat.jpg"], "what is this"),
        ("/photos/cat.jpg", ["/photos/cat.jpg"], ""),
        ("  /photos/cat.jpg  ", ["/photos/cat.jpg"], ""),
        ("/photos/DSC0001 what?", ["/photos/DSC0001"], "what?"),
        ("~/cat.jpg what?", [f"{HOME}/cat.jpg"], "what?"),
        ("./cat.jpg what?", ["./cat.jpg"], "what?"),
        ("cat.jpg what?", ["cat.jpg"], "what?"),
        ("'cat.jpg' what?", ["cat.jpg"], "what?"),
        ("my cat.jpg what?", ["my cat.jpg"], "what?"),
        ("photos/cat.jpg what?", ["photos/cat.jpg"], "what?"),
        ("“/photos/my cat.jpg” what?", ["/photos/my cat.jpg"], "what?"),
        # at the end, in the middle, next to punctuation
        ("What is this? /photos/cat.jpg", ["/photos/cat.jpg"], "What is this?"),
        ("What is in '/photos/my cat.jpg', please?", ["/photos/my cat.jpg"], "What is in, please?"),
        ("Is the cat in /photos/cat.jpg black?", ["/photos/cat.jpg"], "Is the cat in black?"),
        ("What is in cat.jpg?", ["cat.jpg"], "What is in?"),
        ("/photos/cat.jpg: what is this?", ["/photos/cat.jpg"], "what is this?"),
        ("What is this (/photos/cat.jpg)?", ["/photos/cat.jpg"], "What is this?"),
        ("image:/photos/cat.jpg what?", ["/photos/cat.jpg"], "image: what?"),
        ("これは/photos/cat.jpg何ですか？", ["/photos/cat.jpg"], "これは何ですか？"),
        ("猫.jpgの写真は何ですか？", ["猫.jpg"], "の写真は何ですか？"),
        ("「/photos/cat.jpg」は何？", ["/photos/cat.jpg"], "は何？"),
        ("यह क्या है? cat.jpg।", ["cat.jpg"], "यह क्या है?।"),
        ("\u202aC:\\Users\\me\\cat.jpg\u202c یہ کیا ہے؟", [r"C:\Users\me\cat.jpg"], "یہ کیا ہے؟"),
        # several
        (
            "/photos/cat.jpg /photos/dog.PNG which is larger?",
            ["/photos/cat.jpg", "/photos/dog.PNG"],
            "which is larger?",
        ),
        ("'/photos/cat.jpg' '/photos/my cat.jpg'", ["/photos/cat.jpg", "/photos/my cat.jpg"], ""),
        ("Compare /photos/cat.jpg and cat.jpg.", ["/photos/cat.jpg", "cat.jpg"], "Compare and."),
        ("/photos/cat.jpg /photos/cat.jpg", ["/photos/cat.jpg"], ""),
        # several lines
        ("What is this?\n/photos/cat.jpg\nIn Hindi, please.", ["/photos/cat.jpg"], "What is this?\nIn Hindi, please."),
        ("file:///photos/cat.jpg\r\nfile:///photos/dog.PNG\r\n", ["/photos/cat.jpg", "/photos/dog.PNG"], ""),
        # data URIs, as the library takes them
        ("data:image/png;base64,AAAA what?", ["data:image/png;base64,AAAA"], "what?"),
    ],
)
def test_an_image_wherever_it_is_typed(line, images, question):
    typed = split_line(line, exists)
    assert (list(typed.images), typed.question) == (images, question)
    if images:
        assert typed.missing == ()


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("/photos/none.jpg what is this?", ["/photos/none.jpg"]),
        ("'/photos/no such.jpg' what is this?", ["/photos/no such.jpg"]),
        (r"'/photos/Anna'\''s dog.jpg' what?", ["/photos/Anna's dog.jpg"]),
        (r"/photos/no\ such.jpg what?", ["/photos/no such.jpg"]),
        (r'"/photos/no \"such\" 1.jpg" what?', ['/photos/no "such" 1.jpg']),
        ("/photos/no such.jpg what?", ["/photos/no such.jpg"]),
        ("/photos/none", ["/photos/none"]),
        ("what is in /photos/none", ["/photos/none"]),
        ("what is in /photos/none?", ["/photos/none"]),
        ("/frobnicate", ["/frobnicate"]),
        ("~/none.jpg what?", ["~/none.jpg"]),
        ("./none", ["./none"]),
        ("../none.png what?", ["../none.png"]),
        ("none.jpg what?", ["none.jpg"]),
        ("What is in none.jpg?", ["none.jpg"]),
        ("*.jpg", ["*.jpg"]),
        ("これは何ですか？none.jpg", ["none.jpg"]),
        (r"C:\none.jpg what?", [r"C:\none.jpg"]),
        (r"& 'C:\no such.jpg' what?", [r"C:\no such.jpg"]),
        (r"\\server\share\none", [r"\\server\share\none"]),
        ("file:///photos/none.jpg what?", ["file:///photos/none.jpg"]),
        ("file:///photos/none", ["file:///photos/none"]),
        ("https://example.org/cat.jpg what is this?", ["https://example.org/cat.jpg"]),
        ("/photos/cat.jpg and /photos/none.jpg", ["/photos/none.jpg"]),
        ("none.jpg other.png /photos/none/", ["none.jpg", "other.png", "/photos/none/"]),
        ("what\n/photos/none.jpg\nis this", ["/photos/none.jpg"]),
    ],
)
def test_what_looks_like_a_path_and_is_none(line, missing):
    assert list(split_line(line, exists).missing) == missing


@pytest.mark.parametrize(
    "line",
    [
        "What is this?",
        "Is it black and/or white?",
        "What's the speed in km/h, 24/7?",
        "1 / 2 = 0.5, isn't it?",
        "Is it a .jpg or a .png?",
        "Is it a JPG?",
        "What does “STOP” mean? And 'GO'?",
        "Read README.md to me, or photo.",  # files, but nothing says that they are images
        "What does https://example.org/page say?",
        "Mail me@example.org at 10:30, e.g. now...",
        "a \\ b \\alpha \\\\beta",
        "</b> or /or :/ -/-",
        "What is this? :-/",
        "'tis Anna's cat, isn't it?",
        "और/या क्या है?",
        "これは犬/猫ですか？",
        "~ 3 cm & 5 cm",
        "C: or D: drive?",
        "",
        '"""',
        "'",
        "&",
    ],
)
def test_what_is_a_question(line):
    typed = split_line(line, exists)
    assert (typed.images, typed.missing, typed.question) == ((), (), line.strip())


def test_a_question_may_mention_an_open_image():
    assert split_line("Is none.jpg blurred?", exists, ["none.jpg"]).missing == ()
    assert split_line("Is none.jpg blurred?", exists, ["none.jpg"]).question == "Is none.jpg blurred?"


@pytest.mark.parametrize("code", LANGUAGES)
def test_names_and_questions_in_ten_languages(code):
    name, question = NAMES[code]
    path = f"/चित्र/{name}.jpg"
    uri = "file://" + urllib.parse.quote(path)
    fish = "'" + path.replace("'", "\\'") + "'"
    for typed in (path, shlex.quote(path), fish, f'"{path}"', uri, path.replace(" ", "\\ ").replace("'", "\\'")):
        for line in (f"{typed} {question}", f"{question} {typed}", f"{question}\n{typed}\n{question}"):
            found = split_line(line, {path}.__contains__)
            assert (found.images, found.missing) == ((path,), ()), line
            assert found.question in (question, f"{question}\n{question}")
            lost = split_line(line, lambda _: False)
            assert (lost.images, len(lost.missing)) == ((), 1), line
    bare = f"{name}.jpg"
    assert split_line(f"{bare} {question}", {bare}.__contains__).images == (bare,)
    if not question[0].isascii():  # Chinese and Japanese put no space between words, and others may forget it
        assert split_line(f"{bare}{question}", {bare}.__contains__).question == question


@pytest.mark.parametrize(
    ("argument", "images", "missing", "question"),
    [
        ("cat.jpg", ["cat.jpg"], [], ""),
        ("photo", ["photo"], [], ""),
        ("'photo'", ["photo"], [], ""),
        ("my cat.jpg", ["my cat.jpg"], [], ""),
        ("'/photos/my cat.jpg' what is this?", ["/photos/my cat.jpg"], [], "what is this?"),
        ("/photos/cat.jpg /photos/dog.PNG", ["/photos/cat.jpg", "/photos/dog.PNG"], [], ""),
        ("file:///photos/my%20cat.jpg", ["/photos/my cat.jpg"], [], ""),
        ("nothing", [], ["nothing"], ""),
        ("nothing here", [], ["nothing here"], ""),
        (r"nothing\ here", [], ["nothing here"], ""),
        ("none.jpg", [], ["none.jpg"], ""),
    ],
)
def test_the_argument_of_a_command_is_a_path(argument, images, missing, question):
    typed = split_paths(argument, exists)
    assert (list(typed.images), list(typed.missing)) == (images, missing)
    if not missing:
        assert typed.question == question


@pytest.mark.parametrize(
    ("argument", "path"),
    [
        ("photo.jpg", "photo.jpg"),
        ("'my photo.jpg'", "my photo.jpg"),
        ('"my photo.jpg"', "my photo.jpg"),
        (r"my\ photo.jpg", "my photo.jpg"),
        ("my photo.jpg", "my photo.jpg"),
        ("Anna's photo.jpg", "Anna's photo.jpg"),
        ("~/तस्वीर.jpg", str(Path.home() / "तस्वीर.jpg")),
        ("file:///my%20photo.jpg", "/my photo.jpg"),
    ],
)
def test_paths_as_people_type_and_drop_them(argument, path):
    assert unquoted(argument) == path


def test_a_path_that_is_there_is_taken_as_it_is(tmp_path):
    odd = tmp_path / "it's \\ odd.jpg"
    odd.touch()
    assert unquoted(str(odd)) == str(odd)
    assert split_line(f"{odd} what?").images == (str(odd),)


def test_no_name_is_too_odd_to_look_for(tmp_path):
    assert not is_file("a" * 5000) and not is_file("a\0b") and not is_file(str(tmp_path))


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_is_split(before, after):
    line = f"{before} /photos/my\\ cat.jpg {after}"
    assert "/photos/my cat.jpg" in split_line(line, exists).images or "\\" in before or set(before) & set("'\"`&")


@given(st.text(max_size=80))
def test_a_line_without_a_path_is_the_question(line):
    typed = split_line(line, lambda _: False)
    assert typed.images == () and (typed.missing or typed.question == line.strip())
