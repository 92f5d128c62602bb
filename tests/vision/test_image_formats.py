"""palo_cpp.vision.image: file formats, EXIF, transparency, palettes, 16-bit and other modes."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from pictures import UPRIGHT, encode, picture
from PIL import features

from palo_cpp.errors import ImageError
from palo_cpp.vision.image import open_image, open_upright

PICTURE = picture(40, 30)
WHITE = (255, 255, 255)
HAS_AVIF = "avif" in features.modules and features.check("avif")
needs_avif = pytest.mark.skipif(not HAS_AVIF, reason="this Pillow is built without AVIF")
PIL.Image.init()
# QOI is the newest that Pillow writes.
LOSSLESS = ["PNG", "BMP", "TIFF", "PPM", "WEBP", "GIF", "JPEG2000", "ICO", "SGI", *({"QOI"} & PIL.Image.SAVE.keys())]


def array_of(source: Any) -> np.ndarray:
    return np.asarray(open_image(source))


@pytest.mark.parametrize("image_format", LOSSLESS)
def test_lossless_formats(image_format: str) -> None:
    image = picture(32, 32)
    if image_format == "GIF":
        image = image.quantize(16).convert("RGB")
    options = {"lossless": True} if image_format == "WEBP" else {"sizes": [(32, 32)]} if image_format == "ICO" else {}
    assert np.array_equal(array_of(encode(image, image_format, **options)), np.asarray(image))


@needs_avif
def test_avif() -> None:
    image = PIL.ImageOps.grayscale(picture(32, 24)).resize((64, 48)).convert("RGB")
    pixels = array_of(encode(image, "AVIF", quality=100))
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels.astype(int) - np.asarray(image)).mean() < 3  # observed 0.9; AVIF is lossy through YUV


def test_jpeg_equals_pillow() -> None:
    data = encode(PICTURE, "JPEG", quality=90)
    assert np.array_equal(array_of(data), np.asarray(PIL.Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(orientation: int, image_format: str) -> None:
    image = PIL.Image.fromarray(np.repeat(np.repeat(np.asarray(picture(6, 4)), 16, axis=0), 16, axis=1))
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    data = encode(image, image_format, exif=exif, **({"lossless": True} if image_format == "WEBP" else {}))
    stored = np.asarray(PIL.Image.open(io.BytesIO(encode(image, "JPEG")))) if image_format == "JPEG" else image
    assert np.array_equal(array_of(data), UPRIGHT[orientation](np.asarray(stored)))


def test_exif_of_a_pil_image() -> None:
    image = PICTURE.copy()
    image.getexif()[0x0112] = 6
    assert np.array_equal(array_of(image), np.rot90(np.asarray(PICTURE), -1))


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_image_that_is_opened_twice_is_turned_once(orientation: int, image_format: str) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    once = open_image(encode(PICTURE, image_format, exif=exif))
    assert np.array_equal(array_of(once), np.asarray(once))


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_part_of_a_turned_image_as_it_is_stored(orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    image = open_upright(encode(PICTURE, "PNG", exif=exif))
    assert image.size == image.whole().size
    stored = np.asarray(PICTURE).swapaxes(0, 1) if image.is_swapped else np.asarray(PICTURE)
    height, width = stored.shape[:2]
    for rows, columns in (((0, height), (0, width)), ((5, 11), (3, 17)), ((2, 9), (width - 1, width))):
        part = image.swap(image.stored_pixels(rows, columns))
        assert np.array_equal(part[..., :3], stored[slice(*rows), slice(*columns)])
    x_step, y_step = (-1 if is_flipped else 1 for is_flipped in image.is_flipped)
    assert np.array_equal(stored[::y_step, ::x_step], UPRIGHT[orientation](np.asarray(PICTURE)))


def test_what_is_returned_is_an_image_of_its_own() -> None:
    array, image = np.zeros((3, 4, 3), np.uint8), PIL.Image.new("RGB", (4, 3))
    from_array, from_image = open_image(array), open_image(image)
    array[:] = 255
    image.paste((255, 255, 255), (0, 0, 4, 3))
    for opened in (from_array, from_image):
        assert opened.getextrema() == ((0, 0),) * 3


@pytest.mark.filterwarnings("error")  # what Pillow warns of goes into the log
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
