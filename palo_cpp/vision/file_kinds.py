"""Kinds of files that Pillow alone, or not every Pillow, reads as an image: what each is called, and what to do.

`recognize` goes by the first bytes, never by the name: a phone may call a HEIC file .jpg, and a browser saves a page
under the name of the picture in it.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass

from palo_cpp.vision.image_bytes import shorten

__all__ = ["HEIF", "FileKind", "describe", "recognize"]

# So much of a file is looked at: a comment or a license may come before `<svg`.
_HEAD_BYTES = 4096

# What reads HEIC and other HEIF files: pillow-heif.
HEIF = "heif"
_HEIF_READER = 'install its reader with pip install "palo-cpp[heif]"'
_OTHER_PILLOW = "install a Pillow that reads it with pip install --upgrade pillow"
_EXPORT = "export it as JPEG or PNG first"
_FRAME = "save a frame of it as JPEG or PNG first"
_UNPACK = "unpack it first and give the image inside"


@dataclass(frozen=True)
class FileKind:
    """A kind of file.

    Attributes:
        name: what people call it, as in "expected an image, got HEIC".
        fix: what to do with it.
        codec: what can read it, if anything can: `HEIF`, or the part of Pillow of that name in `PIL.features`.
    """

    name: str
    fix: str
    codec: str | None = None


_HEIC, _OTHER_HEIF = FileKind("HEIC", _HEIF_READER, HEIF), FileKind("HEIF", _HEIF_READER, HEIF)
_AVIF = FileKind("AVIF", _OTHER_PILLOW, "avif")
_MOV, _MP4 = FileKind("a QuickTime video", _FRAME), FileKind("an MP4 video", _FRAME)
_SVG = FileKind("SVG", "export it as PNG first")
_WEB_PAGE = FileKind("a web page (HTML)", "save the picture itself, not the page that shows it")


def _raw(extension: str) -> FileKind:
    return FileKind(f"raw data of a camera ({extension})", _EXPORT)


# What the brands of a box `ftyp` (ISO/IEC 14496-12) say. Where the major brand is unknown or the container's own, which
# HEIC and AVIF share, the compatible brands decide, in this order.
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), _AVIF),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), _HEIC),
    b"crx ": _raw("CR3"),
    b"qt  ": _MOV,
    **dict.fromkeys((b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"dash"), _MP4),
    **dict.fromkeys((b"M4V ", b"M4VH", b"M4VP", b"MSNV", b"XAVC", b"f4v ", b"3gp4", b"3gp5", b"3gp6", b"3g2a"), _MP4),
    **dict.fromkeys((b"mif1", b"mif2", b"msf1", b"miaf"), _OTHER_HEIF),
}

_TEXT = rb"(?is)(?:\xef\xbb\xbf)?\s*"
# First bytes -> kind, the first that fits. They are matched with hostile bytes: no repetition inside another one.
_STARTS: tuple[tuple[bytes, FileKind], ...] = (
    (rb"\xff\x0a|\0\0\0\x0cJXL ", FileKind("JPEG XL", _EXPORT)),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", FileKind("JPEG 2000", _OTHER_PILLOW, "jpg_2000")),
    (rb"(?s)RIFF.{4}WEBP", FileKind("WebP", _OTHER_PILLOW, "webp")),
    (rb"II\xbc[\0\x01]", FileKind("JPEG XR", _EXPORT)),
    (rb"\x76\x2f\x31\x01", FileKind("OpenEXR", _EXPORT)),
    (rb"#\?R(?:ADIANCE|GBE)", FileKind("Radiance HDR", _EXPORT)),
    (rb"8BPS\0\x02", FileKind("a large Photoshop document (PSB)", _EXPORT)),
    (rb"gimp xcf", FileKind("a GIMP document (XCF)", _EXPORT)),
    (rb"(?s).{128}DICM", FileKind("DICOM", _EXPORT)),
    (rb"AT&TFORM", FileKind("DjVu", _EXPORT)),
    (rb"(?s)II\*\0.{4}CR", _raw("CR2")),
    (rb"FUJIFILMCCD-RAW", _raw("RAF")),
    (rb"IIR[OS]|MMOR", _raw("ORF")),
    (rb"IIU\0", _raw("RW2")),
    (rb"FOVb", _raw("X3F")),
    (rb"(?s).{4}(?:moov|mdat|wide)", _MOV),
    (rb"\x1a\x45\xdf\xa3", FileKind("a WebM or Matroska video", _FRAME)),
    (rb"(?s)RIFF.{4}AVI ", FileKind("an AVI video", _FRAME)),
    (rb"\0\0\x01[\xb3\xba]", FileKind("an MPEG video", _FRAME)),
    (_TEXT + rb"%PDF-", FileKind("PDF", "export the page as JPEG or PNG first")),
    (rb"%!PS|\xc5\xd0\xd3\xc6", FileKind("PostScript", _EXPORT)),
    (_TEXT + rb"<svg\b", _SVG),
    (_TEXT + rb"<(?:\?xml|!doctype svg|!--)(?:(?!<html).)*?<svg\b", _SVG),
    (_TEXT + rb"<(?:!doctype html|html|head|body|script|title)\b", _WEB_PAGE),
    (_TEXT + rb"<(?:\?xml|!--).*?<html\b", _WEB_PAGE),
    (rb"version https://git-lfs", FileKind("a pointer of Git LFS", "fetch the file itself with git lfs pull")),
    (rb"PK\x03\x04|\xd0\xcf\x11\xe0", FileKind("an archive or an Office document", _UNPACK)),
    (rb"\x1f\x8b|BZh\d|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd", FileKind("a compressed file", _UNPACK)),
)

# TIFF 6.0 and TIFF/EP; 34892 and 50706 are DNG's.
_TIFF_STARTS = (b"II*\0", b"MM\0*")
_NEW_SUBFILE_TYPE, _PHOTOMETRIC, _MAKE, _SUB_IFDS, _DNG_VERSION = 254, 262, 271, 330, 50706
_REDUCED, _COLOR_FILTER_ARRAY, _LINEAR_RAW = 1, 32803, 34892
_RAW_OF_MAKE = {"NIKON": "NEF", "SONY": "ARW", "PENTAX": "PEF", "RICOH": "PEF", "SAMSUNG": "SRW"}


def recognize(data: bytes) -> FileKind | None:
    """Name a file that Pillow alone, or not every Pillow, reads.

    Args:
        data: the whole file.

    Returns:
        Its kind; None leaves it to Pillow.
    """
    head = data[:_HEAD_BYTES]
    if head[4:8] == b"ftyp":
        return _kind_by_brands(head)
    kind = next((kind for start, kind in _STARTS if re.match(start, head)), None)
    return _raw_in_tiff(data) if kind is None and head.startswith(_TIFF_STARTS) else kind


def _kind_by_brands(head: bytes) -> FileKind | None:
    major, end = _BRANDS.get(head[8:12]), int.from_bytes(head[:4], "big")
    if major not in (None, _OTHER_HEIF):
        return major
    compatible = {_BRANDS.get(head[i : i + 4]) for i in range(16, min(end, len(head)), 4)}
    return next((kind for kind in _BRANDS.values() if kind in compatible), major)


def _raw_in_tiff(data: bytes) -> FileKind | None:
    """Raw data of a camera in the form of a TIFF file, of which Pillow would read the small preview."""
    import PIL.Image

    tags = PIL.Image.Exif()  # the one reader of TIFF's directories that Pillow documents
    with contextlib.suppress(Exception):  # a damaged directory: Pillow is to say so when it opens the file
        tags.load(data)
        is_preview = tags.get(_NEW_SUBFILE_TYPE) == _REDUCED and _SUB_IFDS in tags
        if _DNG_VERSION in tags:
            return _raw("DNG")
        if is_preview or tags.get(_PHOTOMETRIC) in (_COLOR_FILTER_ARRAY, _LINEAR_RAW):
            make = str(tags.get(_MAKE, "")).split()[:1]
            return _raw(_RAW_OF_MAKE.get("".join(make).upper(), "RAW"))
    return None


def describe(data: bytes) -> str:
    """What is in a file of no kind that is known here, for a message."""
    start = data[:64]
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        text = "" if error.start < len(start) - 3 else start[: error.start].decode()
    if text and all(c.isprintable() or c.isspace() for c in text):
        return f"text that begins with {shorten(text[:24])!r}"
    return f"{len(data)} bytes that begin with {data[:8].hex(' ')}"
