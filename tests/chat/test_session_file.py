"""The session file as a container: what goes in comes out, whole or not at all, and nothing hostile gets through."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palo_cpp.chat.session_file import read_kv, read_session, write_session
from palo_cpp.chat.session_records import (
    StoredImage,
    StoredKv,
    StoredSession,
    StoredTurn,
    from_json,
    to_json,
)
from palo_cpp.errors import ArgumentError, PaloError, SessionError
from palo_cpp.models.identity import ModelIdentity
from palo_cpp.vision.image import content_hash_of

SQUARE = np.random.default_rng(0).integers(0, 256, (14, 14, 3)).astype(np.uint8)
IMAGE = StoredImage(content_hash_of(SQUARE, "pad"), "pad", (80, 60), SQUARE)
KV = StoredKv(np.array([1, 5, -1, -1, 7], np.int32), np.arange(200, dtype=np.uint8))
SESSION = StoredSession(
    model=ModelIdentity("PALO", "a" * 64, "b" * 64, "0.3.36"),
    language="hi",
    lang_mode="prefer",
    system="A chat.",
    turns=(StoredTurn("यह क्या है?", "एक कुत्ता 🐕", (5, 6), (0,), ""), StoredTurn("¿y?", "", None)),
    images=(IMAGE,),
    pending_images=(0,),
    palo_cpp="0.1.0",
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.palo"
    write_session(path, SESSION, KV)
    return path


@pytest.fixture
def whole_file(path):
    return content(path), path.read_bytes()


def content(path):
    """All that is in a file."""
    session = read_session(path)
    kv = read_kv(path, session, 1000) if session.n_cells else None
    squares = [image.square.tolist() for image in session.images]
    return session, squares, kv and (kv.cells.tolist(), kv.state.tolist())


def test_what_went_in_comes_out(path):
    assert content(path) == (
        dataclasses.replace(SESSION, n_cells=5),
        [SQUARE.tolist()],
        (KV.cells.tolist(), KV.state.tolist()),
    )
    write_session(path, SESSION, None)
    assert content(path) == (SESSION, [SQUARE.tolist()], None)


def test_ten_languages(tmp_path, sentences):
    turns = tuple(StoredTurn(text, text[::-1] + "\0\u2067\n", (1,)) for text in sentences.values())
    session = dataclasses.replace(SESSION, turns=turns, system="".join(sentences.values()))
    write_session(tmp_path / "सत्र.palo", session, None)
    assert read_session(tmp_path / "सत्र.palo") == session


def test_any_unzip_opens_it_and_the_same_conversation_makes_the_same_file(path, tmp_path):
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["session.json", "image-0.png", "cells.i32", "kv.bin"]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        said = json.loads(archive.read("session.json"))
    assert said["format"] == "palo_cpp session" and said["version"] == 1 and said["turns"][0]["question"] == "यह क्या है?"
    write_session(tmp_path / "b.palo", SESSION, KV)
    assert path.read_bytes() == (tmp_path / "b.palo").read_bytes()


# --- writing


def test_only_the_owner_may_read_it_and_nothing_else_is_left(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 or os.name == "nt"
    assert [file.name for file in path.parent.iterdir()] == ["a.palo"]


def test_a_link_stays_a_link(path, tmp_path):
    link = tmp_path / "link.palo"
    link.symlink_to(path)
    write_session(link, dataclasses.replace(SESSION, language=None), None)
    assert link.is_symlink() and read_session(path).language is None


def test_a_full_disk_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PaloError, match="No space left on device"):
        write_session(path, dataclasses.replace(SESSION, language=None), KV)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["a.palo"]


def test_a_process_killed_while_writing_leaves_the_old_file(path):
    before = path.read_bytes()
    code = (
        "import os, signal, sys, zipfile; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "import test_session_file as t\n"
        "zipfile.ZipFile.close = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "t.write_session(Path(sys.argv[2]), t.SESSION, None)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parents[1] / "support"), str(path)], check=False
    )
    assert process.returncode != 0
    assert path.read_bytes() == before


def test_folders_and_devices_are_no_session(tmp_path):
    for wrong in (tmp_path, tmp_path / os.devnull):
        with pytest.raises(ArgumentError, match="got a folder or device"):
            write_session(wrong, SESSION, None)


# --- reading


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "damaged"), (b"PK", "damaged"), (b"GGUF" * 100, "another kind"), (b"\x89PNG\r\n\x1a\n", "another kind")],
)
def test_other_files(tmp_path, data, message):
    path = tmp_path / "other.palo"
    path.write_bytes(data)
    with pytest.raises(SessionError, match=message):
        read_session(path)
    with pytest.raises(SessionError, match="no file there"):
        read_session(tmp_path / "none.palo")
    with pytest.raises(SessionError, match="something else"):
        read_session(tmp_path)


def test_cut_short_anywhere(path):
    whole = path.read_bytes()
    for n in range(0, len(whole), 7):
        path.write_bytes(whole[:n])
        with pytest.raises(SessionError):
            read_session(path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_changed_bytes_are_refused_or_change_nothing(path, whole_file, data):
    expected, whole = whole_file[0], bytearray(whole_file[1])
    headers = st.integers(0, 60) | st.integers(len(whole) - 400, len(whole) - 1)
    for at, value in data.draw(
        st.lists(st.tuples(headers | st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=5)
    ):
        whole[at] = value
    path.write_bytes(whole)
    try:
        found = content(path)
    except SessionError as error:
        assert "\n" not in str(error)
    else:
        assert found == expected


def written(path, *, compression=zipfile.ZIP_STORED, **members):
    """A zip with right checksums around anything."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_", "."), data)
    return path


JSON = to_json(SESSION)
HOSTILE = {
    "no object": [1, 2],
    "nothing": {},
    "another format": JSON | {"format": "x"},
    "a later version": JSON | {"version": 2},
    "true for a number": JSON | {"version": True},
    "half a character": JSON | {"system": "\ud800"},
    "no text": JSON | {"system": None},
    "another language": JSON | {"language": "tlh"},
    "another mode of the language": JSON | {"lang_mode": "x"},
    "no list": JSON | {"turns": {}},
    "a turn that is none": JSON | {"turns": [3]},
    "a turn without an answer": JSON | {"turns": [{"question": "", "answer_ids": None, "images": []}]},
    "an image that is not there": JSON | {"pending_images": [1]},
    "a negative image": JSON | {"pending_images": [-1]},
    "fractional": JSON | {"pending_images": [0.0]},
    "tokens": JSON | {"turns": [{"question": "", "answer": "", "answer_ids": [2**31], "images": [], "asked": None}]},
    "more images than members": JSON | {"images": JSON["images"] * 2},
    "another hash": JSON | {"images": [JSON["images"][0] | {"content_hash": "0" * 64}]},
    "another mode": JSON | {"images": [JSON["images"][0] | {"preprocess": "crop"}]},
    "mode": JSON | {"images": [JSON["images"][0] | {"preprocess": "x\x1b[2J"}]},
    "size": JSON | {"images": [JSON["images"][0] | {"size": [1]}]},
    "cells that are not there": JSON | {"n_cells": 5},
    "model": JSON | {"model": "PALO"},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_json_with_right_checksums(tmp_path, path, name):
    with zipfile.ZipFile(path) as archive:
        png = archive.read("image-0.png")
    hostile = written(tmp_path / "b.palo", session_json=json.dumps(HOSTILE[name]), **{"image-0_png": png})
    with pytest.raises(SessionError) as caught:
        read_session(hostile)
    assert str(caught.value).isprintable() and str(caught.value).startswith("b.palo: ")


@pytest.mark.parametrize("text", ["[" * 200_000, "1" * 5000, "{", "NaN", '"\\ud800"', b"\xff\xfe{", ""])
def test_hostile_text(tmp_path, text):
    with pytest.raises(SessionError):
        read_session(written(tmp_path / "b.palo", session_json=text))


def test_bombs_and_pictures_that_are_none(tmp_path, path):
    said = json.dumps(JSON)
    for png in (b"no picture", b"\0" * 1000):
        with pytest.raises(SessionError, match="pixels of an image"):
            read_session(written(tmp_path / "b.palo", session_json=said, **{"image-0_png": png}))
    bomb = written(tmp_path / "b.palo", compression=zipfile.ZIP_DEFLATED, session_json=said + " " * 10**7)
    with pytest.raises(SessionError, match="not compressed"):
        read_session(bomb)
    with pytest.raises(SessionError, match="1 to 199 bytes"):
        read_kv(path, read_session(path), 199)


def test_json_is_checked_before_pixels_are_read():
    with pytest.raises(SessionError, match="version"):
        from_json(JSON | {"version": 7}, lambda _: pytest.fail("a later version may keep pixels otherwise"))
