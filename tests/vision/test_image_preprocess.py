"""palo_cpp.vision.image: the pixels of CLIPImageProcessor, padded or cropped, and of Pillow, stretched."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import GOLDEN_CASES, GOLDEN_KEPT, MEAN, STD, UPRIGHT, encode, picture

from palo_cpp.errors import ArgumentError, ImageError
from palo_cpp.vision import squares
from palo_cpp.vision.image import open_image, preprocess, square_pixels
from palo_cpp.vision.upright import Upright

GOLDENS = Path(__file__).parents[1] / "goldens"
PICTURE = picture(40, 30)
MODES = ["pad", "crop", "stretch"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", GOLDEN_CASES, ids="{0[0]}x{0[1]}-{0[2]}".format)
def test_pixels_equal_those_of_training(case: tuple[int, int, int], mode: str) -> None:
    width, height, image_size = case
    pixels = square_pixels(picture(width, height), image_size=image_size, mean=MEAN, mode=mode)
    hashes = json.loads((GOLDENS / "image_pixels.json").read_text())
    assert pixels.dtype == np.uint8
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == hashes[f"{width}x{height}-{image_size}-{mode}"]


@pytest.mark.parametrize("mode", ["pad", "crop"])
@pytest.mark.parametrize("case", sorted(GOLDEN_KEPT), ids="{0[0]}x{0[1]}-{0[2]}".format)
def test_normalized_values_equal_transformers(case: tuple[int, int, int], mode: str) -> None:
    width, height, image_size = case
    pixels = preprocess(picture(width, height), image_size=image_size, mean=MEAN, std=STD, mode=mode)
    with np.load(GOLDENS / "image_normalized.npz") as goldens:
        golden = goldens[f"{width}x{height}-{image_size}-{mode}"]
    assert pixels.values.dtype == np.float32
    assert pixels.values.flags.c_contiguous
    assert np.abs(pixels.values - golden).max() == 0  # observed: no difference


def test_stretched_values_fill_minus_one_to_one() -> None:
    """VisCPM's mean and deviation, as its two steps round: 1/255 and then (x - 0.5) / 0.5."""
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    pixels = preprocess(open_image(grey), image_size=16, mean=(0.5,) * 3, std=(0.5,) * 3, mode="stretch")
    expected = grey.astype(np.float64) / 127.5 - 1
    assert (pixels.square[..., 0] == grey).all()
    assert np.abs(pixels.values - expected).max() < 1e-7  # observed 6e-8
    assert (pixels.values.min(), pixels.values.max()) == (-1, 1)


def plain_square(image: PIL.Image.Image, image_size: int, mode: str) -> np.ndarray:
    """What training did, in its plain order: pad or not, resize the whole (rows first), crop."""
    if mode == "stretch":
        image = image.resize((image_size, image.height), PIL.Image.Resampling.BICUBIC)
        return np.asarray(image.resize((image_size, image_size), PIL.Image.Resampling.BICUBIC))
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
@given(width=sizes, height=sizes, image_size=st.integers(1, 112), mode=st.sampled_from(MODES))
def test_strips_equal_one_resize(width: int, height: int, image_size: int, mode: str) -> None:
    if max(width, height) * image_size // min(width, height) > 20_000:
        return  # the plain order would need gigabytes
    image, strip = picture(width, height), squares._STRIP_PIXELS
    try:
        squares._STRIP_PIXELS = 5000  # many strips even for small pictures
        pixels = square_pixels(image, image_size=image_size, mean=MEAN, mode=mode)
    finally:
        squares._STRIP_PIXELS = strip
    assert pixels.shape == (image_size, image_size, 3)
    assert np.array_equal(pixels, plain_square(image, image_size, mode))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(61, 40), (40, 61), (90, 7)])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_turned_photo(orientation: int, size: tuple[int, int], mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squares, "_STRIP_PIXELS", 500)  # many strips
    stored = picture(*size)
    pixels = square_pixels(Upright(stored, orientation), image_size=23, mean=MEAN, mode=mode)
    turned = PIL.Image.fromarray(np.ascontiguousarray(UPRIGHT[orientation](np.asarray(stored))))
    assert pixels.flags.c_contiguous
    assert np.array_equal(pixels, plain_square(turned, 23, mode))


@pytest.mark.parametrize("size", [(30_000, 1), (1, 5_000)])
@pytest.mark.parametrize("mode", MODES)
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
        preprocess(image, mode="stretch", **options),
        preprocess(image, **(options | {"image_size": 42})),
        preprocess(PIL.ImageOps.invert(image), **options),
    ]
    assert len({pixels.content_hash, *(other.content_hash for other in others)}) == 5
    assert preprocess(image.copy(), **options).content_hash == pixels.content_hash


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError, match="'pad', 'crop' or 'stretch', got 'zoom'"):
        square_pixels(PICTURE, image_size=28, mean=MEAN, mode="zoom")
    with pytest.raises(ArgumentError, match="image_size"):
        square_pixels(PICTURE, image_size=0, mean=MEAN)
    with pytest.raises(ImageError, match="0 x 5"):
        square_pixels(PIL.Image.new("RGB", (0, 5)), image_size=28, mean=MEAN)
