"""palo_cpp.vision.heif: HEIC as phones write it, where pillow-heif is installed and where it is not."""

from __future__ import annotations

import base64
import io
import random
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pillow_heif
import pytest
from pictures import UPRIGHT, encode, picture

from palo_cpp.errors import ImageError
from palo_cpp.vision import heif
from palo_cpp.vision.image import open_image

# RGB as it is, neither turned into YCbCr nor quantized: the pixels come back as they were.
LOSSLESS = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}
PICTURE = picture(90, 70)


def heic(image: PIL.Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, **(LOSSLESS | options))
    return file.getvalue()


def array_of(source: Any) -> np.ndarray:
    return np.asarray(open_image(source))


def with_size(data: bytes, width: int, height: int) -> bytes:
    """The file with another size in its header (ISO/IEC 23008-12, ImageSpatialExtentsProperty)."""
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return re.sub(rb"(?s)(ispe.{4}).{8}", lambda found: found[1] + size, data)


@pytest.mark.parametrize("tile_size", [0, 64], ids=["one piece", "tiles"])
def test_pixels(tile_size: int, tmp_path: Path) -> None:
    data = heic(PICTURE, tile_size=tile_size)
    path = tmp_path / "تصویر चित्र.heic"
    path.write_bytes(data)
    uri = "data:image/heic;base64," + base64.b64encode(data).decode()
    for source in (data, path, str(path), path.as_uri(), io.BytesIO(data), uri):
        image = open_image(source)
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), np.asarray(PICTURE))


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "IMG_0001.JPG").write_bytes(heic(PICTURE))
    assert np.array_equal(array_of(tmp_path / "IMG_0001.JPG"), np.asarray(PICTURE))


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_turned_once_and_not_twice(orientation: int) -> None:
    """As an iPhone's: the container says how to turn it, and the EXIF data say it again."""
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    data = heic(PICTURE, exif=exif.tobytes())
    kept = pillow_heif.open_heif(data).info["exif"]
    assert kept == exif.tobytes()
    assert np.array_equal(array_of(data), UPRIGHT[orientation](np.asarray(PICTURE)))


def test_nothing_is_left_that_could_turn_an_image_again() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    data = heic(PICTURE, exif=exif.tobytes(), xmp=b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>')
    image = heif.open_heif(data, "bytes")
    assert not image.getexif()
    assert "xmp" not in image.info


def test_transparency_over_white() -> None:
    alpha = np.tile(np.linspace(0, 255, 90).astype(np.uint8), (70, 1))
    image = PIL.Image.fromarray(np.dstack([np.asarray(PICTURE), alpha]))
    assert np.array_equal(array_of(heic(image)), array_of(image))


def test_grey() -> None:
    grey = PICTURE.convert("L")
    assert np.array_equal(array_of(heic(grey)), np.asarray(grey.convert("RGB")))


def test_ten_bits_keep_the_upper_eight() -> None:
    values = np.asarray(PICTURE).astype(np.uint16) * 257
    file = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", PICTURE.size, values.tobytes()).save(file, **LOSSLESS)
    assert pillow_heif.open_heif(file.getvalue()).info["bit_depth"] == 10
    assert np.abs(array_of(file.getvalue()).astype(int) - np.asarray(PICTURE)).max() <= 1  # observed


def test_the_primary_image_of_several() -> None:
    file = pillow_heif.from_pillow(PIL.Image.new("RGB", (64, 64), (250, 0, 0)))
    file.add_from_pillow(PICTURE)
    data = io.BytesIO()
    file.save(data, primary_index=1, **LOSSLESS)
    assert np.array_equal(array_of(data.getvalue()), np.asarray(PICTURE))


MISSING = 'expected an image that can be read here, got HEIC; install its reader with pip install "palo-cpp[heif]"'


@pytest.mark.parametrize("kind", ["missing", "too old", "not loading"])
def test_without_the_reader(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.heic"
    path.write_bytes(heic(PICTURE))

    def broken() -> str:
        raise ImportError("libheif.so.1: cannot open shared object file")

    if kind == "missing":
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
    elif kind == "too old":
        monkeypatch.setattr(pillow_heif, "__version__", "1.7.0")
    else:
        monkeypatch.setattr(pillow_heif, "libheif_version", broken)
    with pytest.raises(ImageError) as caught:
        open_image(path)
    assert str(caught.value) == f"{path}: {MISSING}"


def test_a_version_that_is_no_release(monkeypatch: pytest.MonkeyPatch) -> None:
    for version, is_trusted in (("1.8.0.dev1", True), ("1.10.0", True), ("2.0", True), ("1.7.9", False)):
        monkeypatch.setattr(pillow_heif, "__version__", version)
        assert heif.has_heif_reader() is is_trusted


def test_the_extra_asks_for_the_version_that_is_trusted() -> None:
    wanted = [line.partition(";")[0].strip() for line in requires("palo-cpp") or [] if line.startswith("pillow-heif")]
    major, minor = heif._OLDEST_READER
    assert set(wanted) == {f"pillow-heif>={major}.{minor}"}


def test_loaded_for_heif_only_and_never_registered(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(PICTURE, "PNG"))
    (tmp_path / "a.heic").write_bytes(heic(PICTURE))
    code = (
        "import sys, PIL.Image; from palo_cpp.vision.image import open_image; open_image('a.png');"
        "print('pillow_heif' in sys.modules); open_image('a.heic');"
        "print('pillow_heif' in sys.modules, 'HEIF' in PIL.Image.OPEN)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["False", "True", "False"]


def assert_refused(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        open_image(data)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("tile_size", [0, 64], ids=["one piece", "tiles"])
def test_truncated_files_are_never_half_an_image(tile_size: int) -> None:
    """libheif would leave the tiles black that are missing."""
    data = heic(PICTURE, tile_size=tile_size)
    for end in {0, 1, 11, 12, 20, *range(30, len(data), 97), len(data) - 1}:
        assert_refused(data[:end], "damaged|empty|expected an image")
    assert np.array_equal(array_of(data + b"SEFT" * 9), np.asarray(PICTURE))  # phones put more after the last box


def test_pixels_of_another_codec() -> None:
    data = heic(PICTURE).replace(b"heix", b"mif1").replace(b"hvc1", b"avc1")
    assert_refused(data, "bytes: expected HEIF that libheif can decode, got no image of that kind; export it")


def test_a_header_that_promises_too_much() -> None:
    data = heic(PIL.Image.new("RGB", (64, 64)))
    assert_refused(with_size(data, 30_000, 30_000), "expected at most")
    assert_refused(with_size(data, 1 << 31, 1 << 31), "damaged")
    assert_refused(with_size(data, 0, 64), "damaged")


def test_a_header_that_hides_how_large_the_image_is() -> None:
    data = heic(PIL.Image.new("RGB", (1024, 1024)), quality=10)
    assert len(data) < 10_000
    assert_refused(with_size(data, 64, 64), "damaged")


def test_hostile_files_are_one_sentence() -> None:
    """13,500 of them while this was written: never anything else."""
    rng = random.Random(0)
    files = [heic(PICTURE, tile_size=64, quality=50, chroma=420), heic(PICTURE.convert("RGBA"), quality=50)]
    for _ in range(300):
        data = bytearray(rng.choice(files))
        for _ in range(rng.choice((1, 2, 16))):
            data[rng.randrange(min(len(data), 1500))] = rng.randrange(256)
        try:
            open_image(bytes(data))
        except ImageError as error:
            assert "\n" not in str(error)
            assert len(str(error)) < 400
