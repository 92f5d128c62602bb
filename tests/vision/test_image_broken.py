"""palo_cpp.vision.image: every kind of broken file and wrong source is one sentence."""

from __future__ import annotations

import base64
import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encode, picture
from PIL import features

from palo_cpp.errors import ImageError, PaloError
from palo_cpp.vision.image import MAX_PIXELS, open_image

PICTURE = picture(40, 30)
HAS_AVIF = "avif" in features.modules and features.check("avif")
TRUNCATED = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", *(["AVIF"] if HAS_AVIF else [])]


def array_of(source: Any) -> np.ndarray:
    return np.asarray(open_image(source))


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header promises width x height, with a row of data."""
    png = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")):
        png += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return png


BROKEN = {
    "empty": (b"", "empty"),
    "text": ("यह चित्र नहीं है".encode() * 20, "text that begins with"),
    "xml": (b'<?xml version="1.0"?><Error>AccessDenied</Error>', "text that begins with '<\\?xml"),
    "noise": (bytes(range(255, 0, -1)), "bytes that begin with ff fe"),
    "bomb": (png_of_size(100_000, 100_000), "at most"),
    "just over": (png_of_size(MAX_PIXELS // 1000 + 1, 1000), "at most"),
    "zero width": (png_of_size(0, 10), "pixel|damaged|expected an image"),
    "no rows": (png_of_size(50, 5000), "damaged"),
    "png without end": (encode(PICTURE, "PNG")[:60], "damaged|expected an image"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("kind", ["bytes", "path", "file", "uri"])
def test_broken_files(name: str, kind: str, tmp_path: Path) -> None:
    data, message = BROKEN[name]
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    uri = "data:image/jpeg;base64," + base64.b64encode(data).decode()
    source: Any = {"bytes": data, "path": path, "file": io.BytesIO(data), "uri": uri}[kind]
    with pytest.raises(ImageError, match=message) as caught:
        open_image(source)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    assert kind != "path" or str(path) in text


@pytest.mark.parametrize("image_format", TRUNCATED)
def test_truncated_files_are_never_half_an_image(image_format: str) -> None:
    data = encode(picture(64, 48), image_format)
    whole = array_of(data)
    n_refused = 0
    for end in {int(len(data) * part) for part in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97)}:
        try:
            pixels = array_of(data[:end])
        except ImageError:
            n_refused += 1
        else:
            assert np.array_equal(pixels, whole), f"{end} of {len(data)} bytes"
    assert n_refused >= 5


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=200), start=st.sampled_from(["", "PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"]))
def test_random_bytes_raise_nothing_else(data: bytes, start: str) -> None:
    if start:
        head = encode(picture(9, 7), start)
        data = head[: len(head) // 2] + data
    try:
        open_image(data)
    except ImageError as error:
        assert "\n" not in str(error)


def test_large_photograph_gives_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    # Pillow warns above MAX_IMAGE_PIXELS and refuses above twice of it: the band between is read in silence.
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_image(encode(PICTURE, "PNG")).size == (40, 30)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ImageError, match="at most"):
        open_image(png_of_size(100_000, 100_000))


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    cases = {
        str(tmp_path): "directory",
        str(tmp_path / "missing.jpg"): "no such file",
        "": "directory",
        "a\0b": "cannot be read",
        "x" * 100_000: "cannot be read",
        "many words " * 5000: "cannot be read",
        "https://example.org/a.jpg": "address; download it first",
        "file://elsewhere.example/photos/a.jpg": "address; download it first",
        (tmp_path / "missing चित्र.jpg").as_uri(): r"/missing चित्र\.jpg: no such file",
        tmp_path.as_uri(): "directory",
        "file:///a%00b": "cannot be read",
    }
    for source, message in cases.items():
        with pytest.raises(ImageError, match=message) as caught:
            open_image(source)
        assert len(str(caught.value)) < 400


def test_endless_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palo_cpp.vision.image_bytes.MAX_FILE_BYTES", 1 << 20)

    class Endless:
        def read(self, n: int) -> bytes:
            return b"\0" * n

    with pytest.raises(ImageError, match="at most 1 MiB"):
        open_image(Endless())  # type: ignore[arg-type]  # a file object with the least that is needed


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("data:", "no comma"),
        ("data:image/png;base64", "no comma"),
        ("data:,hello", "got 'none'"),
        ("data:text/plain;base64,aGVsbG8=", "got 'text/plain'"),
        ("data:image/png;base64,####", "base64"),
        ("data:image/png;base64,", "empty"),
        (io.StringIO("text"), "mode 'rb'"),
        (None, "NoneType"),
        (7, "int"),
        (["a.jpg"], "list"),
        (np.zeros((2, 2), np.float32), "uint8.*float32"),
        (np.zeros((2, 2), bool), "bool"),
        (np.zeros((2, 2, 2), np.uint8), r"\[2, 2, 2\]"),
        (np.zeros((2, 2, 3, 1), np.uint8), r"\[2, 2, 3, 1\]"),
        (np.zeros((3, 2, 2, 3), np.uint8), "shape"),
        (np.zeros(5, np.uint8), "shape"),
        (np.zeros((0, 5, 3), np.uint8), "at least one pixel"),
        (PIL.Image.new("RGB", (5, 0)), "5 x 0"),
    ],
    ids=str,
)
def test_wrong_sources(source: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        open_image(source)
    assert isinstance(caught.value, PaloError)
    assert isinstance(caught.value, ValueError)


def test_closed_files() -> None:
    file = io.BytesIO(b"abc")
    file.close()
    with pytest.raises(ImageError, match="closed"):
        open_image(file)
    image = PIL.Image.open(io.BytesIO(encode(PICTURE, "PNG")))
    image.close()
    with pytest.raises(ImageError, match="image:"):
        open_image(image)
