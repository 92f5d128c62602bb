"""Photos are stored as the camera was held; EXIF says how to turn them.

They are turned strip by strip, where they are resampled: turning all of a photo takes as long as decoding it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import PIL.Image

    Box = tuple[int, int, int, int]  # Pillow's: left, top, right, bottom

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
    """

    def __init__(self, image: PIL.Image.Image, orientation: int = 1) -> None:
        self._image = image
        self._method, self._stored = _TURNS.get(orientation, ("", 0))
        width, height = image.size
        self.size = (height, width) if self._stored & _SWAPPED else (width, height)

    def crop(self, box: Box) -> PIL.Image.Image:
        """A part, upright."""
        return self._turn(self._image.crop(self._stored_box(box)))

    def whole(self) -> PIL.Image.Image:
        """All of it."""
        return self._turn(self._image)

    def _stored_box(self, box: Box) -> Box:
        left, top, right, bottom = box
        width, height = self._image.size
        if self._stored & _SWAPPED:
            left, top, right, bottom = top, left, bottom, right
        if self._stored & _FLIPPED_X:
            left, right = width - right, width - left
        if self._stored & _FLIPPED_Y:
            top, bottom = height - bottom, height - top
        return left, top, right, bottom

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
