"""Photos are stored as the camera was held; EXIF says how to turn them.

What resamples them reads them as they are stored: turning all of a photo takes as long as decoding it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import PIL.Image

logger = logging.getLogger("palo_cpp")

_ORIENTATION = 0x0112  # Exif 2.3
_FLIPPED_X, _FLIPPED_Y, _SWAPPED = 1, 2, 4
# By orientation: Pillow's method that turns the stored image upright, and where an upright pixel is stored: its column
# counts from the right, its row from the bottom, and upright columns are stored rows.
_TURNS = {
    2: ("FLIP_LEFT_RIGHT", _FLIPPED_X),
    3: ("ROTATE_180", _FLIPPED_X | _FLIPPED_Y),
    4: ("FLIP_TOP_BOTTOM", _FLIPPED_Y),
    5: ("TRANSPOSE", _SWAPPED),
    6: ("ROTATE_270", _SWAPPED | _FLIPPED_Y),
    7: ("TRANSVERSE", _SWAPPED | _FLIPPED_X | _FLIPPED_Y),
    8: ("ROTATE_90", _SWAPPED | _FLIPPED_X),
}


class Upright:
    """An upright image, of pixels that are stored as they were taken.

    Args:
        image: as stored, RGB.
        orientation: 2 to 8 as in EXIF; anything else leaves it as it is.

    Attributes:
        size: width and height, upright.
        is_swapped: whether upright columns are stored rows.
        is_flipped: whether columns, upright, count from the other end where they are stored; and whether rows do.
    """

    def __init__(self, image: PIL.Image.Image, orientation: int = 1) -> None:
        self._image = image
        self._method, stored = _TURNS.get(orientation, ("", 0))
        width, height = image.size
        self.is_swapped = bool(stored & _SWAPPED)
        self.is_flipped = bool(stored & _FLIPPED_X), bool(stored & _FLIPPED_Y)
        self.size = (width, height)
        if self.is_swapped:
            self.size, self.is_flipped = self.size[::-1], self.is_flipped[::-1]

    def stored_pixels(self, rows: tuple[int, int], columns: tuple[int, int]) -> NDArray[np.uint8]:
        """A part as it is stored.

        Args:
            rows: The first upright row and the one after the last, counted as they are stored.
            columns: Columns likewise.

        Returns:
            uint8 [rows, columns, 4], or [columns, rows, 4] where they are swapped: red, green, blue and an unused byte,
            which are Pillow's own pixels, copied and not packed.
        """
        (left, right), (top, bottom) = (rows, columns) if self.is_swapped else (columns, rows)
        part = self._image.crop((left, top, right, bottom))
        return np.frombuffer(part.tobytes("raw", "RGBX"), np.uint8).reshape(part.height, part.width, 4)

    def swap(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Rows for columns where the image is stored so, from stored to upright and back; a view."""
        return pixels.swapaxes(0, 1) if self.is_swapped else pixels

    def whole(self) -> PIL.Image.Image:
        """All of it."""
        return self._turn(self._image)

    def _turn(self, stored: PIL.Image.Image) -> PIL.Image.Image:
        from PIL.Image import Transpose

        if not self._method:
            return stored
        turned = stored.transpose(Transpose[self._method])
        turned.info = {}  # EXIF and XMP would have it turned once more by whoever opens it
        return turned


def orientation_of(image: PIL.Image.Image, what: str) -> int:
    """How EXIF says the image is stored; 1, upright, where it does not say."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception as error:  # metadata too damaged to be parsed tell no orientation; the pixels are whole
        logger.warning("%s: EXIF data are damaged, the image may not be upright: %s", what, error)
        return 1
