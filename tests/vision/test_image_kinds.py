"""palo_cpp.vision.image: a file that cannot be read here is named, with what to do about it."""

from __future__ import annotations

import base64
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from pictures import encode, picture
from PIL import features
from unread_files import UNREAD, iso_media, raw_tiff

from palo_cpp.errors import ImageError
from palo_cpp.vision.file_kinds import recognize
from palo_cpp.vision.image import open_image

PIL.Image.init()


@pytest.mark.parametrize("name", UNREAD)
def test_what_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    data, called = UNREAD[name]
    path = tmp_path / name
    path.write_bytes(data)
    uri = "data:image/jpeg;base64," + base64.b64encode(data).decode()
    whats = {"bytes": data, "file object": io.BytesIO(data), "data URI": uri, str(path): path}
    for what, source in whats.items():
        with pytest.raises(ImageError) as caught:
            open_image(source)  # type: ignore[arg-type]
        expected, _, fix = str(caught.value).partition("; ")
        assert expected == f"{what}: expected an image that can be read here, got {called}"
        assert fix.split()[0] in ("export", "save", "unpack", "fetch")


def test_the_whole_message(tmp_path: Path) -> None:
    path = tmp_path / "logo.svg"
    path.write_text("<svg/>")
    with pytest.raises(ImageError) as caught:
        open_image(path)
    assert str(caught.value) == (f"{path}: expected an image that can be read here, got SVG; export it as PNG first")


@pytest.mark.parametrize("image_format", sorted(PIL.Image.SAVE.keys() & {
    "AVIF", "BMP", "DIB", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI", "TIFF", "WEBP"
}))  # fmt: skip
def test_what_can_be_read_is_read(image_format: str) -> None:
    data = encode(picture(32, 32), image_format)
    with PIL.Image.open(io.BytesIO(data)) as image:
        assert open_image(data).size == image.size


@pytest.mark.parametrize("tags", [{254: 1}, {330: 8}, {254: 0, 330: 8}, {254: 2}])
def test_a_tiff_with_pages_or_thumbnails_is_no_raw_data(tags: dict[int, object]) -> None:
    assert np.array_equal(np.asarray(open_image(raw_tiff("NIKON", tags))), np.asarray(picture(16, 12)))


def test_a_preview_is_not_taken_for_the_photo() -> None:
    """Without the look into its directory Pillow reads what is in this file: its preview."""
    data, _ = UNREAD["nikon.nef"]
    assert PIL.Image.open(io.BytesIO(data)).size == (16, 12)


@pytest.mark.parametrize(
    ("image_format", "codec", "called"),
    [("AVIF", "avif", "AVIF"), ("JPEG2000", "jpg_2000", "JPEG 2000"), ("WEBP", "webp", "WebP")],
)
def test_a_pillow_that_was_built_without(
    image_format: str, codec: str, called: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(picture(32, 32), image_format)
    monkeypatch.setattr(features, "check", lambda name: name != codec)
    with pytest.raises(ImageError) as caught:
        open_image(data)
    assert str(caught.value) == (
        f"bytes: expected an image that can be read here, got {called}; "
        "install a Pillow that reads it with pip install --upgrade pillow"
    )


@pytest.mark.parametrize(
    ("brands", "called"),
    [
        (("heic", "mif1", "heic"), "HEIC"),
        (("mif1", "mif1", "heic"), "HEIC"),
        (("heix", "mif1", "avif"), "HEIC"),
        (("hevc", "mif1", "heic", "iso8"), "HEIC"),
        (("avif", "mif1", "miaf", "MA1B"), "AVIF"),
        (("mif1", "miaf", "avif"), "AVIF"),
        (("avis", "msf1", "iso8", "heic"), "AVIF"),
        (("mif1", "miaf"), "HEIF"),
        (("????", "mif1"), "HEIF"),
        (("msf1", "isom", "hevc"), "HEIC"),
        (("????", "????"), None),
        (("dash",), "an MP4 video"),
    ],
)
def test_brands(brands: Any, called: str | None) -> None:
    kind = recognize(iso_media(*brands))
    assert (kind and kind.name) == called


@pytest.mark.parametrize("n_bytes", range(24))
def test_a_box_cut_short(n_bytes: int) -> None:
    """A lying or missing size of `ftyp` breaks nothing."""
    recognize(iso_media("mif1", "heic")[:n_bytes])
    recognize(n_bytes.to_bytes(4, "big") + b"ftypmif1\0\0\0\0heic")
    recognize(b"\xff\xff\xff\xffftypmif1" + b"heic" * 5000)


@pytest.mark.parametrize(
    "data", [b"<!--" * 2000, b"<!---->" * 2000, b"<?xml " * 900, b" " * 100_000, b"<!--\n-->" * 900]
)
def test_hostile_text_takes_no_time(data: bytes) -> None:
    begun_at = time.perf_counter()
    recognize(data)
    assert time.perf_counter() - begun_at < 0.5  # observed 0.001


@pytest.mark.parametrize("n_bytes", [8, 9, 20, 60, 100, 150])
def test_a_damaged_directory_is_for_pillow_to_report(n_bytes: int) -> None:
    data, _ = UNREAD["nikon.nef"]
    with pytest.raises(ImageError) as caught:
        open_image(data[:n_bytes])
    assert "\n" not in str(caught.value)
