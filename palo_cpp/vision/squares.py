"""An RGB image to the square of the vision tower.

Pillow resamples in two passes, over the rows and over the columns, with 8-bit pixels between them. Rows do not depend
on each other in the first, columns in the second: both can be done in strips, with the very pixels of one call. One
pass per call also fixes their order, rows first. So did Pillow until 12.2, and the training of PALO and VisCPM; from
12.3 on a single call swaps the passes where that is faster (13.0: tall pictures that shrink, which moves pixels by up
to 15 levels).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import PIL.Image

# Resampling works on at most so many pixels at once: padding a 20000 x 1000 panorama to a square would need 1.6 GiB.
_STRIP_PIXELS = 1 << 24


def pad_and_resize(image: PIL.Image.Image, image_size: int, colour: tuple[int, int, int]) -> PIL.Image.Image:
    """Pad to a centred square and resize it to image_size, without ever holding the square."""
    import PIL.Image

    side = max(image.size)
    left, top = ((side - n) // 2 for n in image.size)
    narrow = PIL.Image.new("RGB", (image_size, side), colour)  # a row of one colour stays so when it is resampled
    for y, rows in _strips(image, side):
        padded = PIL.Image.new("RGB", (side, rows.height), colour)
        padded.paste(rows, (left, 0))
        narrow.paste(_resample(padded, (image_size, rows.height)), (0, top + y))
    return _resample(narrow, (image_size, image_size))


def resize_and_crop(image: PIL.Image.Image, image_size: int) -> PIL.Image.Image:
    """Resize the shorter side to image_size and crop the centre, without ever holding all that is cropped away.

    The longer side is truncated (transformers, image_transforms.get_resize_output_image_size), and the crop begins at
    the floor of half the difference (image_transforms.center_crop).
    """
    import PIL.Image

    shorter = min(image.size)
    width, height = (int(image_size * n / shorter) for n in image.size)
    left, top = (width - image_size) // 2, (height - image_size) // 2
    narrow = PIL.Image.new("RGB", (image_size, image.height))
    for y, rows in _strips(image, max(width, image.width)):
        resized = _resample(rows, (width, rows.height))
        narrow.paste(resized.crop((left, 0, left + image_size, rows.height)), (0, y))
    square = PIL.Image.new("RGB", (image_size, image_size))
    n_columns = max(1, _STRIP_PIXELS // max(height, image.height))
    for x in range(0, image_size, n_columns):
        columns = narrow.crop((x, 0, min(x + n_columns, image_size), image.height))
        resized = _resample(columns, (columns.width, height))
        square.paste(resized.crop((0, top, columns.width, top + image_size)), (x, 0))
    return square


def stretch(image: PIL.Image.Image, image_size: int) -> PIL.Image.Image:
    """Resize to image_size in both directions, whatever the ratio of the sides."""
    import PIL.Image

    narrow = PIL.Image.new("RGB", (image_size, image.height))
    for y, rows in _strips(image, max(image_size, image.width)):
        narrow.paste(_resample(rows, (image_size, rows.height)), (0, y))
    return _resample(narrow, (image_size, image_size))


def _strips(image: PIL.Image.Image, width: int) -> Iterator[tuple[int, PIL.Image.Image]]:
    """The image's rows from y on, as many at once as fit into a strip of `width`."""
    n_rows = max(1, _STRIP_PIXELS // width)
    for y in range(0, image.height, n_rows):
        yield y, image.crop((0, y, image.width, min(y + n_rows, image.height)))


def _resample(image: PIL.Image.Image, size: tuple[int, int]) -> PIL.Image.Image:
    import PIL.Image

    return image.resize(size, PIL.Image.Resampling.BICUBIC)
