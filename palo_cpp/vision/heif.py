"""HEIC and other HEIF files, through pillow-heif where it is installed (`palo-cpp[heif]`).

Its Pillow plugin is used without being registered, which would change what the whole process can open.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

from palo_cpp.errors import ImageError

if TYPE_CHECKING:
    import PIL.Image

__all__ = ["has_heif_reader", "open_heif"]

# As in pyproject.toml. In older ones damaged files end the process (libde265 before 1.1.3).
_OLDEST_READER = (1, 8)


def has_heif_reader() -> bool:
    """Whether a pillow-heif is installed that can be trusted with any file, and loads."""
    try:
        import pillow_heif

        pillow_heif.libheif_version()
    except ImportError:  # at once where the package is missing, at the first call where its library is
        return False
    return tuple(map(int, pillow_heif.__version__.split(".")[:2])) >= _OLDEST_READER


def open_heif(data: bytes, what: str) -> PIL.Image.Image:
    """Open the primary image of a HEIF file; its pixels are decoded by `load`.

    They come upright, for libheif turns them as the container says. The EXIF data repeat that turn, and are left out.

    Args:
        data: the whole file.
        what: what to call it in messages.

    Raises:
        ImageError: there is no image in it that libheif can decode; pillow-heif's wheels decode HEVC only.
        EOFError: the file ends before its pixels do. libheif would leave the missing tiles of a photo black.
        SyntaxError: it is damaged otherwise.
    """
    import pillow_heif

    if _ends_early(data):
        raise EOFError("the file ends early")
    open_file: Callable[[IO[bytes]], PIL.Image.Image] = pillow_heif.HeifImageFile
    try:
        image = open_file(io.BytesIO(data))
    except SyntaxError:
        if len(pillow_heif.open_heif(data)):
            raise
        reason = "expected HEIF that libheif can decode, got no image of that kind"
        raise ImageError(f"{what}: {reason}; export it as JPEG or PNG first") from None
    for name in ("exif", "xmp"):
        image.info.pop(name, None)
    return image


def _ends_early(data: bytes) -> bool:
    """Whether a box of metadata or pixels (ISO/IEC 14496-12, 4.2) is larger than what is left of the file."""
    start = 0
    while start + 16 <= len(data):
        n_bytes, kind, n_bytes_64 = struct.unpack_from(">I4sQ", data, start)
        n_bytes = n_bytes_64 if n_bytes == 1 else n_bytes
        if start + n_bytes > len(data):
            return kind in (b"meta", b"mdat")  # phones put what is no box after the last one
        if n_bytes < 8:  # 0 reaches to the end
            return False
        start += n_bytes
    return False
