"""Images: open anything as an upright RGB picture, and make of it the pixels that the vision tower was trained on.

    source --open_image--> PIL.Image (upright, RGB) --preprocess--> Pixels (float32 [3, image_size, image_size])

Pillow is the reference: before normalization the pixels equal those of PALO's `expand2square` (palo/mm_utils.py) and
transformers' `CLIPImageProcessor` with its PIL backend, with no difference at all, and for VisCPM those of Pillow's own
bicubic resize. HEIC goes to pillow-heif. An input that cannot be read as it was meant is an `ImageError`, never a
guess.
"""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import ArgumentError, ImageError
from palo_cpp.vision.file_kinds import HEIF, FileKind, describe, recognize
from palo_cpp.vision.heif import has_heif_reader, open_heif
from palo_cpp.vision.image_bytes import is_read_once, read_source, shorten
from palo_cpp.vision.squares import pad_and_resize, resize_and_crop, stretch
from palo_cpp.vision.upright import Upright, orientation_of

if TYPE_CHECKING:
    import PIL.Image

# A string, for Pillow is imported only when an image is opened.
ImageSource: TypeAlias = "str | Path | bytes | IO[bytes] | PIL.Image.Image | NDArray[np.uint8]"

__all__ = [
    *("IMAGE_MODES", "MAX_PIXELS", "ImageSource", "Pixels"),
    *("check_image", "content_hash_of", "normalize", "open_image", "open_upright", "preprocess", "square_pixels"),
]

logger = logging.getLogger("palo_cpp")

# Ways to make an image square.
IMAGE_MODES = ("pad", "crop", "stretch")
# Twice Pillow's MAX_IMAGE_PIXELS, where Pillow itself stops: 179 megapixels, 0.7 GiB once decoded.
MAX_PIXELS = 2 * (1024 * 1024 * 1024 // 4 // 3)

# Formats that Pillow decodes itself and that begin with a signature. Left out on purpose: EPS (starts Ghostscript), WMF
# and other stubs (call the system), TGA (no signature, so it takes almost any file for an image).
_FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "MPO"),
    *("PCX", "PNG", "PPM", "PSD", "QOI", "SGI", "TIFF", "WEBP"),
)


@dataclass(frozen=True)
class Pixels:
    """What the vision tower is fed.

    Attributes:
        values: Normalized pixels, float32 [3, image_size, image_size].
        original_size: Width and height of the upright image, in pixels.
        mode: "pad", "crop" or "stretch".
        content_hash: SHA-256 in hexadecimal of the 8-bit pixels, their size and the mode.
        square: The 8-bit pixels before normalization, uint8 [image_size, image_size, 3].
    """

    values: NDArray[np.float32]
    original_size: tuple[int, int]
    mode: str
    content_hash: str
    square: NDArray[np.uint8]


def open_image(source: ImageSource) -> PIL.Image.Image:
    """Open an image: upright (EXIF), RGB, transparency over white, the first frame of an animation.

    Args:
        source: A path or the file URI of one, the bytes of an image file, a binary file object (read from its start), a
            `PIL.Image` (its current frame; left unchanged), a uint8 array [H, W], [H, W, 3] (RGB) or [H, W, 4] (RGBA),
            or a data URI. 16-bit images keep their upper 8 bits, as Pillow does for 48-bit RGB; mode "I" is read as
            16-bit; floats (mode "F") are taken as 0..1, or as 0..255 where one is greater than 1.

    Returns:
        An image of mode "RGB".

    Raises:
        ImageError: It cannot be read, or is larger than `MAX_PIXELS`.

    Example:
        >>> open_image(np.zeros((2, 3), dtype=np.uint8)).size
        (3, 2)
    """
    return open_upright(source).whole()


def open_upright(source: ImageSource) -> Upright:
    """The same for who needs a part at a time."""
    import PIL.Image

    if isinstance(source, np.ndarray):
        return Upright(_to_rgb(_from_array(source).copy(), "array"))
    if isinstance(source, PIL.Image.Image):
        _check_size(source, "image")
        with _decoding("image"):
            orientation, own = orientation_of(source, "image"), source.copy()
        return Upright(_to_rgb(own, "image"), orientation)
    what, data = read_source(source)
    with _decoding(what):
        image = _open(data, what)
        image.load()
        orientation = orientation_of(image, what)
    return Upright(_to_rgb(image, what), orientation)


def check_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse what `open_image` would refuse for its first bytes, without decoding it.

    For a program that does something slow before it opens the image, as loading a model is. A pipe, which can be read
    only once, is left alone.

    Args:
        source: As in `open_image`.
        max_pixels: The largest that is not refused.

    Raises:
        ImageError: It is not there, is no image that can be read here, or is larger than `max_pixels`.
    """
    import PIL.Image

    if isinstance(source, (np.ndarray, PIL.Image.Image)) or is_read_once(source):
        return
    what, data = read_source(source)
    with _decoding(what):
        _check_size(_open(data, what), what, max_pixels)


def preprocess(
    image: PIL.Image.Image,
    *,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    mode: str = "pad",
) -> Pixels:
    """Make an image into what the vision tower is fed.

    Args:
        image: As `open_image` returns it.
        image_size: Side of the square, in pixels.
        mean: Of each channel, in 0..1.
        std: Of each channel.
        mode: "pad" to a square with the mean colour (PALO's training and demo), "crop" the centre (its evaluation), or
            "stretch" to the square whatever the shape (VisCPM).

    Returns:
        The pixels and what was done to get them.

    Raises:
        ArgumentError: Unknown mode, or a size below 1.
        ImageError: The image has no pixels.
    """
    square = square_pixels(image, image_size=image_size, mean=mean, mode=mode)
    values = normalize(square, mean=mean, std=std)
    return Pixels(values, image.size, mode, content_hash_of(square, mode), square)


def normalize(square: NDArray[np.uint8], *, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """The second half of `preprocess`, rounded where transformers' `rescale` and `normalize` round.

    Args:
        square: What `square_pixels` returned, uint8 [S, S, 3].
        mean: As in `preprocess`.
        std: As in `preprocess`.

    Returns:
        float32 [3, S, S].
    """
    scaled = (square.astype(np.float64) * (1 / 255)).astype(np.float32)
    normalized = (scaled - np.array(mean, dtype=np.float32)) / np.array(std, dtype=np.float32)
    return np.ascontiguousarray(normalized.transpose(2, 0, 1))


def content_hash_of(square: NDArray[np.uint8], mode: str) -> str:
    """`Pixels.content_hash` of what `square_pixels` returned."""
    return hashlib.sha256(f"{mode} {len(square)}\n".encode() + square.tobytes()).hexdigest()


def square_pixels(
    image: PIL.Image.Image | Upright, *, image_size: int, mean: Sequence[float], mode: str = "pad"
) -> NDArray[np.uint8]:
    """The 8-bit pixels before normalization, uint8 [image_size, image_size, 3]; arguments as in `preprocess`."""
    if mode not in IMAGE_MODES:
        raise ArgumentError(f"preprocessing mode: expected 'pad', 'crop' or 'stretch', got {mode!r}")
    if image_size < 1:
        raise ArgumentError(f"image_size: expected at least 1 pixel, got {image_size}")
    if not isinstance(image, Upright):
        _check_size(image, "image")
        image = Upright(image) if image.mode == "RGB" else open_upright(image)
    if mode == "crop":
        return resize_and_crop(image, image_size)
    if mode == "stretch":
        return stretch(image, image_size)
    red, green, blue = (int(255 * channel) for channel in mean)
    return pad_and_resize(image, image_size, (red, green, blue))


# Decoding ------------------------------------------------------------------------------------------------------------


@contextmanager
def _decoding(what: str) -> Iterator[None]:
    """Turn whatever a decoder raises into one ImageError, and its warnings into log records.

    Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError, zlib.error and others on damaged
    files, so every Exception is meant.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    except ImageError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(
            f"{what}: expected an image that can be decoded, got a damaged one: {shorten(reason)}"
        ) from error
    for warning in caught:
        logger.debug("%s: %s", what, warning.message)


def _open(data: bytes, what: str) -> PIL.Image.Image:
    """The first frame, of a size that may be decoded; `load` decodes it."""
    kind = recognize(data)
    if kind is not None and not _can_read(kind):
        raise ImageError(f"{what}: expected an image that can be read here, got {kind.name}; {kind.fix}")
    image = open_heif(data, what) if kind is not None and kind.codec == HEIF else _open_with_pillow(data, what)
    _check_size(image, what)
    return image


def _can_read(kind: FileKind) -> bool:
    from PIL import features

    if kind.codec == HEIF:
        return has_heif_reader()
    return kind.codec is not None and bool(features.check(kind.codec))


def _open_with_pillow(data: bytes, what: str) -> PIL.Image.Image:
    import PIL.Image

    PIL.Image.init()
    formats = [name for name in _FORMATS if name in PIL.Image.OPEN]
    try:
        return PIL.Image.open(io.BytesIO(data), formats=formats)
    except PIL.UnidentifiedImageError:
        raise ImageError(f"{what}: expected an image that Pillow can read, got {describe(data)}") from None
    except PIL.Image.DecompressionBombError:
        raise ImageError(f"{what}: expected at most {MAX_PIXELS} pixels, got more; make it smaller") from None


def _check_size(image: PIL.Image.Image, what: str, max_pixels: int = MAX_PIXELS) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"{what}: expected at least one pixel, got {width} x {height}")
    if width * height > max_pixels:
        raise ImageError(f"{what}: expected at most {max_pixels} pixels, got {width} x {height}; make it smaller")


def _from_array(array: NDArray[np.generic]) -> PIL.Image.Image:
    import PIL.Image

    if array.dtype != np.uint8:
        raise ImageError(f"array: expected dtype uint8 with values 0..255, got {array.dtype}; scale and convert it")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ImageError(f"array: expected shape [H, W], [H, W, 3] or [H, W, 4], got {list(array.shape)}")
    if array.size == 0:
        raise ImageError(f"array: expected at least one pixel, got shape {list(array.shape)}")
    return PIL.Image.fromarray(np.ascontiguousarray(array))


# To RGB ---------------------------------------------------------------------------------------------------------------


def _to_rgb(image: PIL.Image.Image, what: str) -> PIL.Image.Image:
    """The image itself where it is RGB: a copy of a photo takes half as long as decoding it."""
    with _decoding(what):
        image = _over_white(_to_8_bit(image, what))
    return image  # noqa: RET504 - returning inside the block, mypy takes the end of the function for reachable


def _to_8_bit(image: PIL.Image.Image, what: str) -> PIL.Image.Image:
    """Scale a single channel of 16 or 32 bits to 8; other modes pass."""
    import PIL.Image

    if image.mode == "F":
        return PIL.Image.fromarray(_scale_floats(np.asarray(image), what))
    if image.mode != "I" and not image.mode.startswith("I;"):
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        spread = f"{values.min()}..{values.max()}"
        raise ImageError(
            f"{what}: expected 16-bit values 0..65535, got {spread}; save it with 8 or 16 bits per channel"
        )
    grey = (values >> 8).astype(np.uint8)
    key = image.info.get("transparency")
    if key is None:
        return PIL.Image.fromarray(grey)
    return PIL.Image.fromarray(np.stack([grey, np.where(values == key, 0, 255).astype(np.uint8)], axis=-1))


def _scale_floats(values: NDArray[np.float32], what: str) -> NDArray[np.uint8]:
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 255:
        spread = f"{values.min()}..{values.max()}"
        raise ImageError(f"{what}: expected floats in 0..1 or 0..255, got {spread}; scale them to 0..1")
    scale = 255 if values.max() <= 1 else 1
    return np.rint(values.astype(np.float64) * scale).astype(np.uint8)


def _over_white(image: PIL.Image.Image) -> PIL.Image.Image:
    """Composite what is transparent over white, and make it RGB."""
    import PIL.Image

    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    # Pillow knows no direct way from premultiplied grey to RGBA.
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    white = PIL.Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return PIL.Image.alpha_composite(white, rgba).convert("RGB")
