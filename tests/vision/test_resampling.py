"""palo_cpp.vision.resampling against Pillow itself: its weights, its pixels, on every instruction set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from palo_cpp import _core
from palo_cpp.vision.resampling import Axis, Resampling, bicubic

BICUBIC = PIL.Image.Resampling.BICUBIC
COLOUR = (122, 116, 104)
# Pixels before and after: one pixel, equal, enlarged, shrunk a little and as a photo is, by a thousand, by exact halves
# (whose weights are multiples of 2^-22 where nothing is rounded), less than a vector.
SIZES = [(1, 1), (1, 9), (9, 1), (2, 3), (3, 2), (7, 336), (336, 336), (337, 336), (4000, 336), (40_000, 14)]
SIZES += [(672, 336), (256, 64), (5, 11), (640, 1)]


def plain(n_in: int, n_out: int) -> Axis:
    return Axis(n_in, n_out, n_in, 0, 0, n_out)


def noise(n_rows: int, n_in: int, seed: int = 0) -> np.ndarray:
    """Black and white: sums as far apart as can be."""
    return 255 * np.random.default_rng([seed, n_rows, n_in]).integers(0, 2, (n_rows, n_in, 4), dtype=np.uint8)


def resized(pixels: np.ndarray, n_out: int) -> np.ndarray:
    """Pillow's result in the direction of a row."""
    image = PIL.Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
    return np.asarray(image.resize((n_out, image.height), BICUBIC))


def along(resampling: Resampling, pixels: np.ndarray) -> np.ndarray:
    return resampling.apply(np.ascontiguousarray(pixels[:, resampling.begin : resampling.end]), 1)[..., :3]


def dense(resampling: Resampling, n_in: int) -> np.ndarray:
    """Weights of all pixels [n_out, n_in]."""
    weights = np.zeros((len(resampling.starts), n_in), np.int64)
    for row, start, coefficients in zip(weights, resampling.starts, resampling.coefficients, strict=True):
        row[resampling.begin + start :][: len(coefficients)] = coefficients
    return weights


@pytest.mark.parametrize(("n_in", "n_out"), [each for each in SIZES if each[0] < 5000])
def test_weights_are_those_of_pillow(n_in: int, n_out: int) -> None:
    """Pillow shows them where it resamples single points of floats."""
    points = PIL.Image.fromarray(np.eye(n_in, dtype=np.float32) * (1 << 22))
    expected = np.asarray(points.resize((n_out, n_in), BICUBIC)).T
    assert np.abs(dense(bicubic(plain(n_in, n_out)), n_in) - expected).max() <= 0.75  # 0.5, and a float's last bit


@pytest.mark.parametrize(("n_in", "n_out"), SIZES)
@pytest.mark.parametrize("isa", _core.available_isas())
def test_pixels_are_those_of_pillow(n_in: int, n_out: int, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALO_CPP_ISA", isa)
    pixels = noise(19, n_in)
    resampling, expected = bicubic(plain(n_in, n_out)), resized(pixels, n_out)
    assert np.array_equal(along(resampling, pixels), expected)
    columns = np.ascontiguousarray(pixels.swapaxes(0, 1)[resampling.begin : resampling.end])
    assert np.array_equal(resampling.apply(columns, 0)[..., :3], expected.swapaxes(0, 1))


@settings(max_examples=60, deadline=None)
@given(n_in=st.integers(1, 3000), n_out=st.integers(1, 700), seed=st.integers(0, 9))
def test_pixels_of_any_sizes(n_in: int, n_out: int, seed: int) -> None:
    pixels = noise(40, n_in, seed)
    assert np.array_equal(along(bicubic(plain(n_in, n_out)), pixels), resized(pixels, n_out))


@settings(max_examples=60, deadline=None)
@given(n_in=st.integers(1, 500), padding=st.tuples(st.integers(0, 900), st.integers(0, 900)), n_out=st.integers(1, 300))
@example(n_in=1, padding=(500, 499), n_out=336)  # most outputs see nothing of the image
def test_padding_and_parts(n_in: int, padding: tuple[int, int], n_out: int) -> None:
    """Padding counts as pixels of its colour, kept outputs are those of all, stored order does not matter."""
    before, after = padding
    pixels = noise(5, n_in)
    whole = np.empty((5, before + n_in + after, 4), np.uint8)
    whole[:] = (*COLOUR, 0)
    whole[:, before : before + n_in] = pixels
    expected = resized(whole, n_out)
    axis = replace(plain(n_in, n_out), n_whole=whole.shape[1], n_before=before)
    assert np.array_equal(along(bicubic(axis, colour=COLOUR), pixels), expected)
    assert np.array_equal(along(bicubic(axis, colour=COLOUR, is_flipped=True), pixels[:, ::-1]), expected)
    first, n_kept = n_out // 3, max(1, n_out // 2)
    part = bicubic(replace(axis, first_out=first, n_kept=n_kept), colour=COLOUR, is_flipped=True)
    assert np.array_equal(along(part, pixels[:, ::-1]), expected[:, first : first + n_kept])


def test_only_what_is_kept_is_needed() -> None:
    part = bicubic(Axis(4000, 400, 4000, 0, 100, 50))
    assert (part.begin, part.end) == (985, 1515)  # outputs 100 to 149 of 10 pixels each, 20 about each centre
    flipped = bicubic(Axis(4000, 400, 4000, 0, 100, 50), is_flipped=True)
    assert (flipped.begin, flipped.end) == (4000 - 1515, 4000 - 985)


def test_weights_in_pieces_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    axis = Axis(500, 70, 900, 200, 3, 60)
    whole = bicubic(axis, colour=COLOUR)
    monkeypatch.setattr("palo_cpp.vision.resampling._WEIGHTS_AT_ONCE", 200)
    pieces = bicubic(axis, colour=COLOUR)
    for name in ("starts", "coefficients", "base"):
        assert np.array_equal(getattr(whole, name), getattr(pieces, name))


def test_what_would_be_read_outside_is_refused() -> None:
    pixels, starts = np.zeros((3, 5, 4), np.uint8), np.array([0, 2], np.int32)
    taps, base = np.ones((2, 3), np.int32), np.zeros((2, 4), np.int32)
    assert _core.resample(pixels, 1, starts, taps, base).shape == (3, 2, 4)
    assert _core.resample(pixels, 0, starts[:1], taps[:1], base[:1]).shape == (1, 5, 4)
    for wrong, message in [
        ((pixels, 2, starts, taps, base), "axis: expected 0 or 1, got 2"),
        ((pixels, 0, starts, taps, base), "starts: expected 0 to 0, got 2"),
        ((pixels, 1, starts + 1, taps, base), "starts: expected 0 to 2, got 3"),
        ((pixels, 1, starts - 1, taps, base), "starts: expected 0 to 2, got -1"),
        ((pixels, 1, starts, np.ones((2, 6), np.int32), base), "taps: expected at most 5, got 6"),
        ((pixels, 1, starts, taps[:, :0], base), "taps: expected at least 1, got 0"),
        ((pixels, 1, starts[:0], taps[:0], base[:0]), "starts: expected at least 1, got 0"),
        ((pixels[:0], 1, starts, taps, base), "pixels: expected at least 1, got 0"),
        ((pixels, 1, starts, taps[:1], base), "rows of coefficients: expected 2, got 1"),
        ((pixels, 1, starts, taps, base[:1]), "rows of base: expected 2, got 1"),
        ((pixels, 1, starts, taps, np.zeros((2, 3), np.int32)), "columns of base: expected 4, got 3"),
        ((pixels[..., :3].copy(), 1, starts, taps, base), "bytes of a pixel: expected 4, got 3"),
        ((pixels, 1, starts, taps << 22, base), "sums: expected at most 2147483647, got 3208642560"),
        ((pixels, 1, starts, taps, base - 2147483647), "sums: expected at most 2147483647, got 2147484412"),
    ]:
        with pytest.raises(ValueError, match=message):
            _core.resample(*wrong)
    with pytest.raises(TypeError):
        _core.resample(pixels, 1, starts.astype(np.int64), taps, base)
