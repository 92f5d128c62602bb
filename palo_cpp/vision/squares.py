"""An RGB image to the square of the vision tower.

Pillow resamples in two passes, over the rows and over the columns, with 8-bit pixels between them. Rows do not depend
on each other in the first, columns in the second: both can be done in strips, with the very pixels of one call. One
pass per call also fixes their order, rows first. So did Pillow until 12.2, and the training of PALO and VisCPM; from
12.3 on a single call swaps the passes where that is faster (13.0: tall pictures that shrink, which moves pixels by up
to 15 levels).

Strips are also resampled side by side, for Pillow lets other threads run meanwhile, and one that fits into a cache is
resampled faster than it is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from palo_cpp.machine import n_physical_cores

if TYPE_CHECKING:
    import PIL.Image

    from palo_cpp.vision.upright import Box, Upright

# Resampling works on so many pixels at once and thread, 4 MiB: padding a 20000 x 1000 panorama to a square would need
# 1.6 GiB.
_STRIP_PIXELS = 1 << 20

_Resampling = Callable[["PIL.Image.Image"], "PIL.Image.Image"]


def pad_and_resize(image: Upright, image_size: int, colour: tuple[int, int, int]) -> PIL.Image.Image:
    """Pad to a centred square and resize it to image_size, without ever holding the square."""
    import PIL.Image

    side = max(image.size)
    left, top = ((side - n) // 2 for n in image.size)

    def resize(rows: PIL.Image.Image) -> PIL.Image.Image:
        if rows.width < side:
            padded = PIL.Image.new("RGB", (side, rows.height), colour)
            padded.paste(rows, (left, 0))
            rows = padded
        return _resample(rows, (image_size, rows.height))

    narrow = PIL.Image.new("RGB", (image_size, side), colour)  # a row of one colour stays so when it is resampled
    _by_rows(image, side, resize, narrow, top)
    return _shorten(narrow, image_size)


def resize_and_crop(image: Upright, image_size: int) -> PIL.Image.Image:
    """Resize the shorter side to image_size and crop the centre, without ever holding all that is cropped away.

    The longer side is truncated (transformers, image_transforms.get_resize_output_image_size), and the crop begins at
    the floor of half the difference (image_transforms.center_crop).
    """
    import PIL.Image

    shorter = min(image.size)
    width, height = (int(image_size * n / shorter) for n in image.size)
    left, top = (width - image_size) // 2, (height - image_size) // 2

    def resize(rows: PIL.Image.Image) -> PIL.Image.Image:
        return _resample(rows, (width, rows.height)).crop((left, 0, left + image_size, rows.height))

    narrow = PIL.Image.new("RGB", (image_size, image.size[1]))
    _by_rows(image, max(width, image.size[0]), resize, narrow)
    return _shorten(narrow, height, top, image_size)


def stretch(image: Upright, image_size: int) -> PIL.Image.Image:
    """Resize to image_size in both directions, whatever the ratio of the sides."""
    import PIL.Image

    narrow = PIL.Image.new("RGB", (image_size, image.size[1]))
    _by_rows(image, max(image_size, image.size[0]), lambda rows: _resample(rows, (image_size, rows.height)), narrow)
    return _shorten(narrow, image_size)


def _by_rows(image: Upright, widest: int, resize: _Resampling, narrow: PIL.Image.Image, top: int = 0) -> None:
    """The first pass: rows of the image, which are up to `widest` on the way, into those of narrow from `top` on."""
    n_rows = max(1, _STRIP_PIXELS // widest)
    width, height = image.size
    boxes = [(0, y, width, min(y + n_rows, height)) for y in range(0, height, n_rows)]
    for (_, y, _, _), strip in _resized(image, boxes, resize):
        narrow.paste(strip, (0, top + y))


def _shorten(narrow: PIL.Image.Image, height: int, top: int = 0, n_kept: int | None = None) -> PIL.Image.Image:
    """The second pass: to `height` rows, of which those from `top` on are kept."""
    import PIL.Image

    bottom = height if n_kept is None else top + n_kept

    def resize(columns: PIL.Image.Image) -> PIL.Image.Image:
        return _resample(columns, (columns.width, height)).crop((0, top, columns.width, bottom))

    result = PIL.Image.new("RGB", (narrow.width, bottom - top))
    n_columns = max(1, _STRIP_PIXELS // max(height, narrow.height))
    lefts = range(0, narrow.width, n_columns)
    boxes = [(x, 0, min(x + n_columns, narrow.width), narrow.height) for x in lefts]
    for (x, _, _, _), strip in _resized(narrow, boxes, resize):
        result.paste(strip, (x, 0))
    return result


def _resized(
    image: PIL.Image.Image | Upright, boxes: list[Box], resize: _Resampling
) -> Iterator[tuple[Box, PIL.Image.Image]]:
    """Strips of an image, resized."""

    def strip(box: Box) -> PIL.Image.Image:
        return resize(image.crop(box))

    if len(boxes) < 2:
        yield from zip(boxes, map(strip, boxes), strict=True)
        return
    with ThreadPoolExecutor(n_physical_cores()) as threads:
        yield from zip(boxes, threads.map(strip, boxes), strict=True)


def _resample(image: PIL.Image.Image, size: tuple[int, int]) -> PIL.Image.Image:
    import PIL.Image

    return image.resize(size, PIL.Image.Resampling.BICUBIC)
