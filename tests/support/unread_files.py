"""The first bytes of files that people give for an image and that cannot be read here, made by hand."""

from __future__ import annotations

import io

import PIL.Image
from pictures import encode, picture
from PIL.TiffImagePlugin import ImageFileDirectory_v2


def iso_media(*brands: str, rest: bytes = bytes(64)) -> bytes:
    """An ISO media file: the box `ftyp` with its major brand and the compatible ones, and what follows."""
    major, *compatible = (brand.encode() for brand in brands)
    box = b"ftyp" + major + bytes(4) + b"".join(compatible)
    return (4 + len(box)).to_bytes(4, "big") + box + rest


def raw_tiff(make: str, tags: dict[int, object]) -> bytes:
    """A TIFF file with a small preview, which Pillow reads, and tags that say what else is in it."""
    directory = ImageFileDirectory_v2()
    directory[271] = make
    for tag, value in tags.items():
        directory[tag] = value
        directory.tagtype[tag] = 1 if tag == 50706 else 4
    return encode(picture(16, 12), "TIFF", tiffinfo=directory)


def first_directory_as(photometric: int) -> bytes:
    """A TIFF file whose only picture has another photometric interpretation than it says."""
    data = bytearray(encode(PIL.Image.new("L", (8, 8)), "TIFF"))
    entry = data.index((262).to_bytes(2, "little"), int.from_bytes(data[4:8], "little"))
    data[entry + 8 : entry + 10] = photometric.to_bytes(2, "little")
    return bytes(data)


def zipped(name: str) -> bytes:
    import zipfile

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "x")
    return file.getvalue()


_PREVIEW = {254: 1, 330: 8}
_RAW = "raw data of a camera"
_XML = b'<?xml version="1.0" encoding="UTF-8"?>\n'
_SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'

# Name of the file -> its bytes, and what it is called.
UNREAD = {
    "photo.jxl": (b"\xff\x0a" + bytes(64), "JPEG XL"),
    "box.jxl": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(64), "JPEG XL"),
    "photo.jxr": (b"II\xbc\x01" + bytes(64), "JPEG XR"),
    "render.exr": (b"\x76\x2f\x31\x01\x02" + bytes(64), "OpenEXR"),
    "room.hdr": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "Radiance HDR"),
    "poster.psb": (b"8BPS\0\x02" + bytes(64), "a large Photoshop document (PSB)"),
    "poster.xcf": (b"gimp xcf v011\0" + bytes(64), "a GIMP document (XCF)"),
    "knee.dcm": (bytes(128) + b"DICM" + bytes(64), "DICOM"),
    "scan.djvu": (b"AT&TFORM\0\0\x10\0DJVM", "DjVu"),
    "canon.cr2": (b"II*\0\x10\0\0\0CR\x02\0" + bytes(64), f"{_RAW} (CR2)"),
    "canon.cr3": (iso_media("crx ", "crx ", "isom"), f"{_RAW} (CR3)"),
    "fuji.raf": (b"FUJIFILMCCD-RAW 0201FF", f"{_RAW} (RAF)"),
    "olympus.orf": (b"IIRO\x08\0\0\0" + bytes(64), f"{_RAW} (ORF)"),
    "panasonic.rw2": (b"IIU\0\x18\0\0\0" + bytes(64), f"{_RAW} (RW2)"),
    "sigma.x3f": (b"FOVb" + bytes(64), f"{_RAW} (X3F)"),
    "nikon.nef": (raw_tiff("NIKON CORPORATION", _PREVIEW), f"{_RAW} (NEF)"),
    "sony.arw": (raw_tiff("SONY", _PREVIEW), f"{_RAW} (ARW)"),
    "samsung.srw": (raw_tiff("Samsung", _PREVIEW), f"{_RAW} (SRW)"),
    "other.raw": (raw_tiff("", _PREVIEW), f"{_RAW} (RAW)"),
    "phone.dng": (raw_tiff("Google", {50706: b"\x01\x04\0\0"}), f"{_RAW} (DNG)"),
    "mosaic.pef": (first_directory_as(32803), f"{_RAW} (RAW)"),
    "holiday.mov": (iso_media("qt  ", "qt  "), "a QuickTime video"),
    "old.mov": (b"\0\0\x10\0moov" + bytes(64), "a QuickTime video"),
    "holiday.mp4": (iso_media("isom", "isom", "iso2", "avc1", "mp41"), "an MP4 video"),
    "phone.mp4": (iso_media("mp42", "isom", "mp42"), "an MP4 video"),
    "new.mp4": (iso_media("iso9", "isom"), "an MP4 video"),
    "holiday.webm": (b"\x1a\x45\xdf\xa3" + bytes(64), "a WebM or Matroska video"),
    "holiday.avi": (b"RIFF\0\0\0\0AVI LIST", "an AVI video"),
    "holiday.mpg": (b"\0\0\x01\xba" + bytes(64), "an MPEG video"),
    "scan.pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "PDF"),
    "bom.pdf": (b"\xef\xbb\xbf\r\n%PDF-1.4\n", "PDF"),
    "figure.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) print\n", "PostScript"),
    "dos.eps": (b"\xc5\xd0\xd3\xc6" + bytes(64), "PostScript"),
    "logo.svg": (_SVG, "SVG"),
    "xml.svg": (_XML + b"<!-- made by hand -->\n" + _SVG, "SVG"),
    "type.svg": (b'\xef\xbb\xbf<!DOCTYPE svg PUBLIC "x" "y">' + _SVG, "SVG"),
    "page.jpg": (b"<!DOCTYPE html><html><body><svg/></body></html>", "a web page (HTML)"),
    "old.jpg": (b"\r\n<HTML><HEAD>", "a web page (HTML)"),
    "saved.jpg": (b"<!-- saved from url=(0014)about:internet -->\n<html><svg/>", "a web page (HTML)"),
    "strict.jpg": (_XML + b"<html xmlns='x'>", "a web page (HTML)"),
    "pointer.png": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
    "slides.pptx": (zipped("[Content_Types].xml"), "an archive or an Office document"),
    "letter.doc": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(64), "an archive or an Office document"),
    "logo.svgz": (b"\x1f\x8b\x08" + bytes(64), "a compressed file"),
    "photos.7z": (b"7z\xbc\xaf\x27\x1c" + bytes(64), "a compressed file"),
    "photos.rar": (b"Rar!\x1a\x07\x01\0", "a compressed file"),
}
