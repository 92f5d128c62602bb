"""Where an image comes from: a path or its URI, bytes, a file object or a data URI, read into an image file's bytes."""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
import urllib.parse
from pathlib import Path
from typing import IO, TypeGuard, cast

from palo_cpp.errors import ImageError

__all__ = ["MAX_FILE_BYTES", "is_read_once", "local_path", "path_of", "read_source", "shorten"]

# No photograph is as large; /dev/zero and the like are.
MAX_FILE_BYTES = 512 * 1024 * 1024
_CHUNK_BYTES = 1 << 20

# RFC 8089, which allows a URI without a host too: file:/photos/cat.jpg.
_FILE_URI = re.compile(r"file:(?://(?P<host>[^/]*))?(?P<path>/.*)", re.IGNORECASE | re.DOTALL)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_HAS_DRIVES = os.name == "nt"


def local_path(text: str) -> Path | None:
    """The path of a file URI, as file managers hand it over.

    For what a user gives, never for what a message brings: nothing is refused that a path may name.

    Args:
        text: `file:///photos/my%20cat.jpg`, `file://localhost/C:/photos/cat.jpg`, ...

    Returns:
        The path, whether something is there or not; None for any other text, and for a file of another machine.

    Example:
        >>> local_path("file:///photos/my%20cat.jpg").name
        'my cat.jpg'
    """
    uri = _FILE_URI.fullmatch(text)
    if uri is None:
        return None
    import socket

    host, path = uri["host"] or "", uri["path"]
    if _HAS_DRIVES and (drive := re.fullmatch(r"([a-z])[:|]", host, re.IGNORECASE)):  # file://C:/, one slash too few
        host, path = "", f"/{drive[1]}:{path}"
    if host.lower() not in ("", "localhost", "127.0.0.1", socket.gethostname().lower()):
        return None
    if _HAS_DRIVES:
        path = re.sub(r"^/([A-Za-z])[:|](?=/|$)", r"\1:", path)
    # A name is bytes on most systems, and need not be UTF-8.
    return Path(os.fsdecode(urllib.parse.unquote_to_bytes(os.fsencode(path))))


def read_source(source: object) -> tuple[str, bytes]:
    """Read the whole image file.

    Args:
        source: A path or the file URI of one, bytes, a binary file object (read from its start where it can seek) or a
            data URI.

    Returns:
        What to call the source in messages, and the file's bytes, never empty.

    Raises:
        ImageError: It cannot be read, is empty, or is larger than `MAX_FILE_BYTES`.
    """
    if _is_data_uri(source):
        return "data URI", _read_data_uri(source)
    if isinstance(source, (str, Path)):
        return _read_path(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "bytes", _check_file("bytes", bytes(source))
    if hasattr(source, "read"):
        return "file object", _read_file("file object", cast(IO[bytes], source))
    raise ImageError(
        "image: expected a path, bytes, a binary file object, a PIL.Image, a uint8 array or a data URI, "
        f"got {type(source).__name__}"
    )


def is_read_once(source: object) -> bool:
    """Whether a source may be gone after it has been read: a pipe, a device, a file object."""
    if not isinstance(source, (str, Path)):
        return hasattr(source, "read")
    if _is_data_uri(source):
        return False
    try:
        mode = path_of(source).stat().st_mode
    except (OSError, ValueError):  # nothing there, or a name that cannot be: to be reported by who reads it
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _is_data_uri(source: object) -> TypeGuard[str]:
    return isinstance(source, str) and source[:5].lower() == "data:"


def path_of(source: str | Path) -> Path:
    """The path that a user gave, as such or as a URI.

    Raises:
        ImageError: it is the address of something that is not on this machine.
    """
    if isinstance(source, Path):
        return source
    path = local_path(source)
    if path is None and _ADDRESS.match(source):
        raise ImageError(f"{shorten(source)}: expected a file on this machine, got an address; download it first")
    return path or Path(source)


def _read_path(source: str | Path) -> tuple[str, bytes]:
    path = path_of(source)
    what = shorten(str(path)) if source else "''"
    try:
        if path.is_dir():
            raise ImageError(f"{what}: expected an image file, got a directory")
        with path.open("rb") as file:
            return what, _read_file(what, file)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{what}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageError(f"{what}: cannot be read: {reason}") from None


def _read_file(what: str, file: IO[bytes]) -> bytes:
    """The whole file from its start, as Pillow reads a file object."""
    data = bytearray()
    try:
        if hasattr(file, "seekable") and file.seekable():
            file.seek(0)
        # In pieces: a pipe or an unbuffered file may return less than was asked for.
        while len(data) <= MAX_FILE_BYTES and (chunk := file.read(_CHUNK_BYTES)):
            if not isinstance(chunk, bytes):
                raise ImageError(f"{what}: expected bytes, got {type(chunk).__name__}; open it with mode 'rb'")
            data += chunk
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        raise ImageError(f"{what}: cannot be read: {error}") from None
    return _check_file(what, bytes(data))


def _check_file(what: str, data: bytes) -> bytes:
    if not data:
        raise ImageError(f"{what}: expected an image, got an empty file")
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(f"{what}: expected at most {MAX_FILE_BYTES >> 20} MiB, got more; make it smaller")
    return data


def _read_data_uri(uri: str) -> bytes:
    """RFC 2397: data:[<media type>][;base64],<data>."""
    header, comma, body = uri[5:].partition(",")
    media_type, *parameters = header.split(";")
    if not comma:
        raise ImageError("data URI: expected 'data:image/...;base64,...', got no comma")
    if not media_type.strip().lower().startswith("image/"):
        raise ImageError(f"data URI: expected the media type image/..., got {shorten(media_type) or 'none'!r}")
    data = urllib.parse.unquote_to_bytes(body)
    if "base64" in (parameter.strip().lower() for parameter in parameters):
        data = b"".join(data.split())
        try:
            data = base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
        except (binascii.Error, ValueError) as error:
            raise ImageError(f"data URI: expected base64 data: {error}") from None
    return _check_file("data URI", data)


def shorten(text: str) -> str:
    """Return `text` on one line, at most 200 characters of it: it goes into an error message."""
    text = "".join(c if c.isprintable() else "?" for c in text[:201])
    return text if len(text) <= 200 else text[:199] + "…"
