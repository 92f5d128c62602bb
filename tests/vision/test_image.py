"""palo_cpp.vision.image: every kind of source gives the same image."""

from __future__ import annotations

import base64
import io
import os
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import encode, picture
from PIL.PngImagePlugin import PngImageFile

from palo_cpp.errors import ImageError
from palo_cpp.vision import image_bytes
from palo_cpp.vision.image import check_image, open_image
from palo_cpp.vision.image_bytes import local_path, path_of

PICTURE = picture(40, 30)


def array_of(source: Any) -> np.ndarray:
    return np.asarray(open_image(source))


def test_every_kind_of_source_gives_the_same_image(tmp_path: Path) -> None:
    data = encode(PICTURE, "PNG")
    (tmp_path / "चित्र 图.png").write_bytes(data)
    path = tmp_path / "चित्र 图.png"
    file = io.BytesIO(data)
    file.seek(0, io.SEEK_END)  # as left by whoever wrote it
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    pixels = np.asarray(PICTURE)
    sources: list[Any] = [
        path,
        str(path),
        path.as_uri(),
        data,
        bytearray(data),
        memoryview(data),
        file,
        PICTURE,
        pixels,
        uri,
    ]
    for source in sources:
        image = open_image(source)
        assert image.mode == "RGB"
        assert image.size == (40, 30)
        assert np.array_equal(np.asarray(image), pixels), type(source)


def test_pipe_without_seek() -> None:
    class Pipe:
        def __init__(self, data: bytes) -> None:
            self._file = io.BytesIO(data)

        def read(self, n: int) -> bytes:
            return self._file.read(min(n, 100))  # less than asked for, as pipes do

    assert np.array_equal(array_of(Pipe(encode(PICTURE, "PNG"))), np.asarray(PICTURE))


def test_file_of_the_caller_stays_open(tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "a.png")
    with (tmp_path / "a.png").open("rb") as file:
        open_image(file)
        assert not file.closed


def test_array_shapes() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    assert np.array_equal(array_of(grey), np.stack([grey] * 3, axis=-1))
    rgba = np.dstack([np.asarray(PICTURE), np.full((30, 40), 255, np.uint8)])
    assert np.array_equal(array_of(rgba), np.asarray(PICTURE))
    rgba[..., 3] = 0
    assert (array_of(rgba) == 255).all()
    assert np.array_equal(array_of(np.asarray(PICTURE)[::2, ::-3]), np.asarray(PICTURE)[::2, ::-3])


@pytest.mark.parametrize(
    "head", ["data:image/png;base64,", "DATA:IMAGE/PNG;charset=x;BASE64,", "data:image/png;name=a.png;base64,"]
)
def test_data_uri_forms(head: str) -> None:
    encoded = base64.b64encode(encode(PICTURE, "PNG")).decode()
    wrapped = "\n".join(encoded[i : i + 76] for i in range(0, len(encoded), 76))
    for body in (encoded, encoded.rstrip("="), wrapped, encoded.replace("+", "%2B").replace("/", "%2F")):
        assert np.array_equal(array_of(head + body), np.asarray(PICTURE))


def test_data_uri_with_percent_encoding() -> None:
    data = encode(PICTURE, "PNG")
    uri = "data:image/png," + "".join(f"%{byte:02x}" for byte in data)
    assert np.array_equal(array_of(uri), np.asarray(PICTURE))


def test_the_callers_image_is_left_alone() -> None:
    image = PICTURE.convert("RGBA")
    image.getexif()[0x0112] = 6
    before = image.tobytes()
    open_image(image).paste((0, 0, 0), (0, 0, 10, 10))
    assert (image.mode, image.size, image.tobytes()) == ("RGBA", (40, 30), before)
    rgb = PICTURE.copy()
    open_image(rgb).paste((0, 0, 0), (0, 0, 10, 10))
    assert rgb.tobytes() == PICTURE.tobytes()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("file:///photos/my%20cat.jpg", "/photos/my cat.jpg"),
        ("file:///photos/my cat.jpg", "/photos/my cat.jpg"),
        ("FILE:///photos/cat.jpg", "/photos/cat.jpg"),
        ("file:/photos/cat.jpg", "/photos/cat.jpg"),
        ("file://localhost/photos/cat.jpg", "/photos/cat.jpg"),
        ("file://LocalHost/photos/cat.jpg", "/photos/cat.jpg"),
        ("file://127.0.0.1/photos/cat.jpg", "/photos/cat.jpg"),
        (f"file://{socket.gethostname()}/photos/cat.jpg", "/photos/cat.jpg"),
        ("file:///photos/%E0%A4%AC%E0%A4%BF%E0%A4%B2%E0%A5%8D%E0%A4%B2%E0%A5%80.jpg", "/photos/बिल्ली.jpg"),
        ("file:///photos/بلی.jpg", "/photos/بلی.jpg"),
        ("file:///photos/100%.jpg", "/photos/100%.jpg"),
        ("file:///photos/why%3F%23%25.jpg", "/photos/why?#%.jpg"),
        ("file:///photos/why?#1.jpg", "/photos/why?#1.jpg"),
        ("file:///photos/one+two.jpg", "/photos/one+two.jpg"),
        ("file:///C:/photos/cat.jpg", "/C:/photos/cat.jpg"),
    ],
)
def test_the_path_of_a_file_uri(text: str, path: str) -> None:
    assert local_path(text) == Path(path)


@pytest.mark.parametrize(
    "text",
    [
        *("http://example.org/a.jpg", "HTTPS://example.org/a.jpg", "ftp://example.org/a.jpg", "s3://bucket/a.jpg"),
        *("file://example.org/a.jpg", "file://localhost.example.org/a.jpg"),
    ],
)
def test_other_addresses_are_no_paths(text: str) -> None:
    assert local_path(text) is None
    with pytest.raises(ImageError, match="expected a file on this machine, got an address; download it first"):
        path_of(text)


@pytest.mark.parametrize(
    "text",
    ["/photos/my cat.jpg", "my%20cat.jpg", "file:notes.jpg", "C:\\photos\\cat.jpg", "c:/cat.jpg", "~/cat.jpg", ""],
)
def test_a_path_is_left_as_it_is(text: str) -> None:
    assert local_path(text) is None
    assert path_of(text) == Path(text)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("file:///C:/my%20photos/cat.jpg", "C:/my photos/cat.jpg"),
        ("file:///c|/photos/cat.jpg", "c:/photos/cat.jpg"),
        ("file://localhost/C:/photos/cat.jpg", "C:/photos/cat.jpg"),
        ("file://C:/photos/cat.jpg", "C:/photos/cat.jpg"),
        ("file:/C:/photos/cat.jpg", "C:/photos/cat.jpg"),
        ("file:///photos/C:/cat.jpg", "/photos/C:/cat.jpg"),
    ],
)
def test_drives_of_windows(text: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_bytes, "_HAS_DRIVES", True)
    assert local_path(text) == Path(path)


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux only")
def test_a_name_that_is_no_utf_8(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    Path(os.fsdecode(folder + b"/caf\xe9.png")).write_bytes(encode(PICTURE, "PNG"))
    for uri in (f"file://{tmp_path}/caf%E9.png", f"file://{tmp_path}/caf\udce9.png"):
        assert np.array_equal(array_of(uri), np.asarray(PICTURE))


def test_a_check_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: object) -> None:
        raise AssertionError("decoded")

    path = tmp_path / "a b.png"
    path.write_bytes(encode(PICTURE, "PNG"))
    monkeypatch.setattr(PngImageFile, "load", load)
    for source in (path, str(path), path.as_uri(), path.read_bytes(), "data:image/png;base64," + base64_of(path)):
        check_image(source)


def base64_of(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def test_a_check_refuses_what_opening_would_refuse(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("<html>")
    (tmp_path / "empty.jpg").touch()
    for source in (
        tmp_path,
        tmp_path / "missing.jpg",
        tmp_path / "page.jpg",
        tmp_path / "empty.jpg",
        b"abc",
        "http://a",
    ):
        with pytest.raises(ImageError) as refused:
            open_image(source)
        with pytest.raises(ImageError) as checked:
            check_image(source)
        assert str(checked.value) == str(refused.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes on Windows")
def test_a_check_reads_no_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    check_image(tmp_path / "pipe")  # would wait for somebody who writes
    check_image(os.devnull)
    check_image(io.BytesIO())
    check_image(PICTURE)
