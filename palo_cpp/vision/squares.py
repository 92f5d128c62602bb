"""An RGB image to the square of the vision tower, with Pillow's pixels.

Pillow resamples in two passes, over the rows and over the columns, with 8-bit pixels between them. The order is fixed
here, rows first. So did Pillow until 12.2, and the training of PALO and VisCPM; from 12.3 on it swaps the passes where
that is faster (13.0: tall pictures that shrink, which moves pixels by up to 15 levels).

The first pass reads the image in strips, side by side on all cores, each small enough for a cache: a copy of a whole
photo takes half as long as decoding it. A photo that was taken with the camera turned is resampled as it is stored, its
stored columns first; what is turned is the result.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from palo_cpp.machine import n_physical_cores
from palo_cpp.vision.resampling import Axis, Resampling, bicubic

if TYPE_CHECKING:
    from palo_cpp.vision.upright import Upright

# A strip has at most so many pixels, 1 MiB, before and after the first pass.
_STRIP_PIXELS = 1 << 18


def pad_and_resize(image: Upright, image_size: int, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Pad to a centred square and resize it to image_size, without ever holding the square."""
    side = max(image.size)
    width, height = (Axis(n, image_size, side, (side - n) // 2, 0, image_size) for n in image.size)
    return _resize(image, width, height, colour)


def resize_and_crop(image: Upright, image_size: int) -> NDArray[np.uint8]:
    """Resize the shorter side to image_size and crop the centre, without ever holding what is cropped away.

    The longer side is truncated (transformers, image_transforms.get_resize_output_image_size), and the crop begins at
    the floor of half the difference (image_transforms.center_crop).
    """
    shorter = min(image.size)
    n_out = (int(image_size * n / shorter) for n in image.size)
    pairs = zip(image.size, n_out, strict=True)
    width, height = (Axis(n, whole, n, 0, (whole - image_size) // 2, image_size) for n, whole in pairs)
    return _resize(image, width, height)


def stretch(image: Upright, image_size: int) -> NDArray[np.uint8]:
    """Resize to image_size in both directions, whatever the ratio of the sides."""
    width, height = (Axis(n, image_size, n, 0, 0, image_size) for n in image.size)
    return _resize(image, width, height)


def _resize(image: Upright, width: Axis, height: Axis, colour: tuple[int, int, int] = (0, 0, 0)) -> NDArray[np.uint8]:
    """Both passes -> uint8 [height.n_kept, width.n_kept, 3]."""
    of_rows = bicubic(width, colour=colour, is_flipped=image.is_flipped[0])
    of_columns = bicubic(height, colour=colour, is_flipped=image.is_flipped[1])
    narrow = _resample_rows(image, of_rows, of_columns.begin, of_columns.end)
    square = of_columns.apply(narrow, 1 if image.is_swapped else 0)
    return np.ascontiguousarray(image.swap(square)[..., :3])


def _resample_rows(image: Upright, of_rows: Resampling, first: int, last: int) -> NDArray[np.uint8]:
    """The first pass, over the rows from `first` to before `last` as they are stored, in strips.

    Rows of padding are left out: a row of one colour stays so when it is resampled.

    Returns:
        uint8 [last - first, n_kept, 4], or [n_kept, last - first, 4] where the image is stored so.
    """
    n_kept = len(of_rows.starts)
    shape = (n_kept, last - first, 4) if image.is_swapped else (last - first, n_kept, 4)
    narrow = np.empty(shape, np.uint8)
    n_at_once = max(1, _STRIP_PIXELS // max(of_rows.end - of_rows.begin, n_kept))
    n_at_once -= n_at_once % 16 if n_at_once > 16 else 0  # kernels take up to 16 at a time

    def resample(begin: int) -> None:
        end = min(begin + n_at_once, last)
        pixels = image.stored_pixels((begin, end), (of_rows.begin, of_rows.end))
        strip = of_rows.apply(pixels, 0 if image.is_swapped else 1)
        image.swap(narrow)[begin - first : end - first] = image.swap(strip)

    begins = range(first, last, n_at_once)
    if len(begins) == 1:
        resample(first)
        return narrow
    with ThreadPoolExecutor(n_physical_cores()) as threads:
        for _ in threads.map(resample, begins):
            pass  # raises what one of them raised
    return narrow
