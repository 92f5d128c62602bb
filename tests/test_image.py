"""palo_cpp.image: every kind of input, the pixels of CLIPImageProcessor, and every kind of broken file."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import GOLDEN_CASES, GOLDEN_KEPT, MEAN, STD, encode, picture
from PIL import features

from palo_cpp import image as image_module
from palo_cpp.errors import ArgumentError, ImageError, PaloError
from palo_cpp.image import MAX_PIXELS, open_image, preprocess, square_pixels

GOLDENS = Path(__file__).parent / "goldens"
PICTURE = picture(40, 30)
WHITE = (255, 255, 255)
HAS_AVIF = "avif" in features.modules and features.check("avif")
needs_avif = pytest.mark.skipif(not HAS_AVIF, reason="this Pillow is built without AVIF")


def array_of(source: Any) -> np.ndarray:
    return np.asarray(open_image(source))


# Sources


def test_every_kind_of_source_gives_the_same_image(tmp_path: Path) -> None:
    data = encode(PICTURE, "PNG")
    (tmp_path / "चित्र 图.png").write_bytes(data)
    path = tmp_path / "चित्र 图.png"
    file = io.BytesIO(data)
    file.seek(0, io.SEEK_END)  # as left by whoever wrote it
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    pixels = np.asarray(PICTURE)
    sources: list[Any] = [path, str(path), data, bytearray(data), memoryview(data), file, PICTURE, pixels, uri]
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


# Formats and modes


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "GIF", "JPEG2000", "ICO", "QOI", "SGI"])
def test_lossless_formats(image_format: str) -> None:
    image = picture(32, 32)
    if image_format == "GIF":
        image = image.quantize(16).convert("RGB")
    options = {"lossless": True} if image_format == "WEBP" else {"sizes": [(32, 32)]} if image_format == "ICO" else {}
    try:
        data = encode(image, image_format, **options)
    except KeyError:
        pytest.skip(f"this Pillow does not write {image_format}")
    assert np.array_equal(array_of(data), np.asarray(image))


@needs_avif
def test_avif() -> None:
    image = PIL.ImageOps.grayscale(picture(32, 24)).resize((64, 48)).convert("RGB")
    pixels = array_of(encode(image, "AVIF", quality=100))
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels.astype(int) - np.asarray(image)).mean() < 3  # observed 0.9; AVIF is lossy through YUV


def test_jpeg_equals_pillow() -> None:
    data = encode(PICTURE, "JPEG", quality=90)
    assert np.array_equal(array_of(data), np.asarray(PIL.Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(orientation: int, image_format: str) -> None:
    image = PIL.Image.fromarray(np.repeat(np.repeat(np.asarray(picture(6, 4)), 16, axis=0), 16, axis=1))
    undo: Callable[[Any], Any] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a),
    }[orientation]
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    data = encode(image, image_format, exif=exif, **({"lossless": True} if image_format == "WEBP" else {}))
    stored = np.asarray(PIL.Image.open(io.BytesIO(encode(image, "JPEG")))) if image_format == "JPEG" else image
    assert np.array_equal(array_of(data), undo(np.asarray(stored)))


def test_exif_of_a_pil_image() -> None:
    image = PICTURE.copy()
    image.getexif()[0x0112] = 6
    assert np.array_equal(array_of(image), np.rot90(np.asarray(PICTURE), -1))


def test_damaged_exif_is_no_reason_to_refuse() -> None:
    for exif in (b"II*\x00\xff\xff\xff\xff", b"II*\x00\x08\0\0\0\xff\xff\x12\x01", b"XX", b""):
        assert open_image(encode(PICTURE, "JPEG", exif=b"Exif\0\0" + exif)).size == (40, 30)


def test_transparency_over_white() -> None:
    alpha = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (30, 1))
    colour = np.asarray(PICTURE)
    rgba = PIL.Image.fromarray(np.dstack([colour, alpha]))
    weight = alpha[..., None] / 255
    expected = colour * weight + 255 * (1 - weight)
    for data in (encode(rgba, "PNG"), encode(rgba, "WEBP", lossless=True, exact=True), rgba, rgba.convert("RGBa")):
        assert np.abs(array_of(data) - expected).max() <= 2.5  # observed 0.5, and 2.2 through premultiplied RGBa


def test_grey_with_alpha() -> None:
    image = PIL.Image.fromarray(np.array([[[10, 0], [10, 255]]], dtype=np.uint8))
    assert image.mode == "LA"
    for source in (image, encode(image, "PNG"), image.convert("La")):
        assert array_of(source).tolist() == [[[255] * 3, [10] * 3]]


def test_palettes() -> None:
    image = PIL.Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    colours = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    assert array_of(image).tolist() == [colours]
    assert array_of(encode(image, "PNG")).tolist() == [colours]
    for options in ({"transparency": 1}, {"transparency": b"\xff\x00\xff"}):
        data = encode(image, "PNG", **options)
        assert array_of(data).tolist() == [[colours[0], list(WHITE), colours[2]]]
    gif = encode(image, "GIF", transparency=2)
    assert array_of(gif).tolist() == [[colours[0], colours[1], list(WHITE)]]
    image.putpalette([255, 0, 0, 255, 0, 255, 0, 0, 0, 0, 255, 255], "RGBA")
    assert array_of(image).tolist() == [[colours[0], list(WHITE), colours[2]]]


def test_transparent_colour_of_rgb_and_grey() -> None:
    rgb = PIL.Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8))
    assert array_of(encode(rgb, "PNG", transparency=(1, 2, 3))).tolist() == [[[255] * 3, [4, 5, 6]]]
    grey = PIL.Image.fromarray(np.array([[7, 8]], dtype=np.uint8))
    assert array_of(encode(grey, "PNG", transparency=8)).tolist() == [[[7] * 3, [255] * 3]]


def test_cmyk() -> None:
    cmyk = PIL.Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert np.array_equal(array_of(cmyk), np.full((16, 16, 3), (255, 0, 0)))
    pixels = array_of(encode(cmyk, "JPEG", quality=95))
    assert np.abs(pixels.astype(int) - (255, 0, 0)).max() <= 3
    assert np.array_equal(array_of(encode(cmyk, "TIFF")), np.full((16, 16, 3), (255, 0, 0)))


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_16_bit(mode: str) -> None:
    values = np.array([[0, 255, 256, 257], [32768, 40000, 65279, 65535]], dtype=np.uint16)
    image = PIL.Image.fromarray(values.astype({"I;16": "<u2", "I;16B": ">u2", "I": "<i4"}[mode]))
    assert image.mode == mode
    expected = np.stack([values >> 8] * 3, axis=-1)
    assert np.array_equal(array_of(image), expected)
    if mode != "I":
        assert np.array_equal(array_of(encode(image, "TIFF")), expected)
    if mode == "I;16":
        assert np.array_equal(array_of(encode(image, "PNG")), expected)


def test_16_bit_with_a_transparent_value() -> None:
    png = encode(PIL.Image.fromarray(np.array([[1000, 60000]], dtype=np.uint16)), "PNG")
    chunk = b"tRNS" + struct.pack(">H", 1000)
    end = png.index(b"IDAT") - 4
    png = png[:end] + struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[end:]
    assert array_of(png).tolist() == [[[255] * 3, [60000 >> 8] * 3]]


def test_48_bit_rgb_png_has_the_same_rule() -> None:
    values = np.array([[[0, 257, 65535], [1000, 40000, 65279]]], dtype=">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        png += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    assert np.array_equal(array_of(png), values >> 8)


def test_floats() -> None:
    assert array_of(PIL.Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)))[0, :, 0].tolist() == [0, 128, 255]
    assert array_of(PIL.Image.fromarray(np.array([[0.0, 99.6, 255.0]], np.float32)))[0, :, 0].tolist() == [0, 100, 255]
    for bad in (-0.1, 256.0, np.nan, np.inf):
        with pytest.raises(ImageError, match=r"0\.\.1"):
            open_image(PIL.Image.fromarray(np.array([[0.5, bad]], np.float32)))


def test_32_bit_integers_beyond_16_bits_are_refused() -> None:
    for bad in (-1, 65536):
        with pytest.raises(ImageError, match="16-bit values"):
            open_image(PIL.Image.fromarray(np.array([[0, bad]], np.int32)))


def test_one_bit() -> None:
    image = PIL.Image.fromarray(np.array([[True, False, True]]))
    for source in (image, encode(image, "PNG"), encode(image, "TIFF"), encode(image, "PPM")):
        assert array_of(source)[0, :, 0].tolist() == [255, 0, 255]


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "PA"])
def test_other_modes(mode: str) -> None:
    image = PICTURE.convert("LA").convert("PA") if mode == "PA" else PICTURE.convert(mode)
    assert np.array_equal(array_of(image), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation(image_format: str) -> None:
    frames = [PIL.Image.new("RGB", (8, 8), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = encode(frames[0], image_format, save_all=True, append_images=frames[1:], **options)
    assert np.array_equal(array_of(data), np.full((8, 8, 3), (250, 0, 0)))


# Preprocessing


@pytest.mark.parametrize("mode", ["pad", "crop"])
@pytest.mark.parametrize("case", GOLDEN_CASES, ids="{0[0]}x{0[1]}-{0[2]}".format)
def test_pixels_equal_transformers(case: tuple[int, int, int], mode: str) -> None:
    width, height, image_size = case
    pixels = square_pixels(picture(width, height), image_size=image_size, mean=MEAN, mode=mode)
    hashes = json.loads((GOLDENS / "image_pixels.json").read_text())
    assert pixels.dtype == np.uint8
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == hashes[f"{width}x{height}-{image_size}-{mode}"]


@pytest.mark.parametrize("mode", ["pad", "crop"])
@pytest.mark.parametrize("case", sorted(GOLDEN_KEPT), ids="{0[0]}x{0[1]}-{0[2]}".format)
def test_normalised_values_equal_transformers(case: tuple[int, int, int], mode: str) -> None:
    width, height, image_size = case
    pixels = preprocess(picture(width, height), image_size=image_size, mean=MEAN, std=STD, mode=mode)
    with np.load(GOLDENS / "image_normalised.npz") as goldens:
        golden = goldens[f"{width}x{height}-{image_size}-{mode}"]
    assert pixels.values.dtype == np.float32
    assert pixels.values.flags.c_contiguous
    assert np.abs(pixels.values - golden).max() == 0  # observed: no difference


def plain_square(image: PIL.Image.Image, image_size: int, mode: str) -> np.ndarray:
    """What transformers does, in its plain order: pad or not, resize the whole (rows first), crop."""
    if mode == "pad":
        side = max(image.size)
        square = PIL.Image.new("RGB", (side, side), (122, 116, 104))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        image = square
    shorter = min(image.size)
    width, height = (image_size * n // shorter for n in image.size)
    for size in ((width, image.height), (width, height)):
        image = image.resize(size, PIL.Image.Resampling.BICUBIC)
    left, top = (width - image_size) // 2, (height - image_size) // 2
    return np.asarray(image.crop((left, top, left + image_size, top + image_size)))


sizes = st.integers(1, 700)


@settings(max_examples=60, deadline=None)
@given(width=sizes, height=sizes, image_size=st.integers(1, 112), mode=st.sampled_from(["pad", "crop"]))
def test_strips_equal_one_resize(width: int, height: int, image_size: int, mode: str) -> None:
    if max(width, height) * image_size // min(width, height) > 20_000:
        return  # the plain order would need gigabytes
    image, strip = picture(width, height), image_module._STRIP_PIXELS
    try:
        image_module._STRIP_PIXELS = 5000  # many strips even for small pictures
        pixels = square_pixels(image, image_size=image_size, mean=MEAN, mode=mode)
    finally:
        image_module._STRIP_PIXELS = strip
    assert pixels.shape == (image_size, image_size, 3)
    assert np.array_equal(pixels, plain_square(image, image_size, mode))


@pytest.mark.parametrize("size", [(30_000, 1), (1, 5_000)])
@pytest.mark.parametrize("mode", ["pad", "crop"])
def test_a_line_needs_no_gigabytes(size: tuple[int, int], mode: str) -> None:
    image = PIL.Image.new("RGB", size, (10, 200, 30))
    pixels = square_pixels(image, image_size=14, mean=MEAN, mode=mode)
    expected = (122, 116, 104) if mode == "pad" else (10, 200, 30)
    assert np.array_equal(pixels[0, 0], expected)


def test_padding_colour_and_place() -> None:
    pixels = square_pixels(PIL.Image.new("RGB", (60, 20), (0, 0, 0)), image_size=60, mean=MEAN)
    assert (pixels[:19] == (122, 116, 104)).all()
    assert (pixels[20:40] == 0).all()
    assert (pixels[41:] == (122, 116, 104)).all()


def test_what_was_fed_is_told() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    image = open_image(encode(PICTURE, "PNG", exif=exif))
    options: Any = {"image_size": 28, "mean": MEAN, "std": STD}
    pixels = preprocess(image, **options)
    assert pixels.original_size == (30, 40)
    assert pixels.mode == "pad"
    assert pixels.values.shape == (3, 28, 28)
    assert len(pixels.content_hash) == 64
    others = [
        preprocess(image, mode="crop", **options),
        preprocess(image, **(options | {"image_size": 42})),
        preprocess(PIL.ImageOps.invert(image), **options),
    ]
    assert len({pixels.content_hash, *(other.content_hash for other in others)}) == 4
    assert preprocess(image.copy(), **options).content_hash == pixels.content_hash


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError, match="'pad' or 'crop'"):
        square_pixels(PICTURE, image_size=28, mean=MEAN, mode="stretch")
    with pytest.raises(ArgumentError, match="image_size"):
        square_pixels(PICTURE, image_size=0, mean=MEAN)
    with pytest.raises(ImageError, match="0 x 5"):
        square_pixels(PIL.Image.new("RGB", (0, 5)), image_size=28, mean=MEAN)


# Broken inputs


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
    "html": (b"<!DOCTYPE html><html></html>", "text that begins with '<!DOCTYPE"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "text that begins with '<svg"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) print\n", "text that begins with '%!PS"),
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


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF"])
def test_truncated_files_are_never_half_an_image(image_format: str) -> None:
    if image_format == "AVIF" and not HAS_AVIF:
        pytest.skip("this Pillow is built without AVIF")
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
        "file:///etc/passwd": "address",
    }
    for source, message in cases.items():
        with pytest.raises(ImageError, match=message) as caught:
            open_image(source)
        assert len(str(caught.value)) < 400


def test_endless_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palo_cpp.image_source.MAX_FILE_BYTES", 1 << 20)

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
