"""A session file: one conversation in a zip file that any unzip opens, nothing in it compressed or executable.

    session.json   what was said, in which language, about which images, with which model (stored_session.py)
    image-N.png    the pixels that image N is encoded from, as PALO saw them
    cells.i32      what is at each position of the KV cache: a token's id, or -1 - N for a row of image N; raw i32
    kv.bin         keys and values of these positions, as llama.cpp writes them (sequence_state.py)

The last two may be missing: the conversation is then read again. Pixels are kept, and not the embeddings that they
become, for they are smaller (0.3 MB at most against 1.2 for MobilePALO and 9.4 for PALO-7B), serve any model, and can
be checked against the content hash by which KV cache and embedding cache know the image: a file cannot slip other
embeddings under a photo.

Zip keeps a CRC-32 of each member, which finds damage. Against intent nothing here helps, for who writes the file writes
the checksums too, so whatever is read is checked as if it were hostile. What a hostile file can still do is to say what
it wants in the conversation that it holds, in text and, unseen, in keys and values; these serve that conversation only
(kv_cache.py). So open sessions of people from whom you would take text.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from palo_cpp.chat.session_records import StoredKv, StoredSession, from_json, to_json
from palo_cpp.errors import ArgumentError, ImageError, SessionError
from palo_cpp.partial_files import partial_files
from palo_cpp.vision.image import open_image

_TEXT, _CELLS, _KV = "session.json", "cells.i32", "kv.bin"
_MAX_TEXT_BYTES = 64 << 20  # a whole context of Hindi is 10 KB
_MAX_IMAGE_BYTES = 64 << 20
# What zipfile and json raise on damaged input; OSError for the disk, and for offsets before the file's beginning;
# zipfile's RuntimeError is for a compression or an encryption that it does not know.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError)
_NO_TIME = (1980, 1, 1, 0, 0, 0)  # equal conversations make equal files


def write_session(path: Path, session: StoredSession, kv: StoredKv | None) -> None:
    """Write a session file: whole or not at all, over an older one, for its owner only.

    Args:
        path: where.
        session: the conversation.
        kv: what stood in the context for it; None where it shall be read again.

    Raises:
        ArgumentError: the path names a folder or a device.
        PaloError: no room, or the folder cannot be written to; an older file is unharmed.
    """
    if path.exists() and not path.is_file():
        raise ArgumentError(f"{path}: expected a file's name, got a folder or device; choose another name")
    members = dict(_members(session, kv))
    path = path.resolve()  # a link stays a link
    with partial_files(path.parent, sum(map(_n_bytes, members.values()))) as partial:
        unfinished = partial.new(path.name)
        # The conversation is its owner's, not everybody's who has an account here.
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, data in members.items():
                with archive.open(zipfile.ZipInfo(name, _NO_TIME), "w", force_zip64=True) as member:
                    member.write(data)
        partial.publish({unfinished: path.name})


def _n_bytes(data: bytes | memoryview) -> int:
    return memoryview(data).nbytes


def _names(session: StoredSession) -> list[str]:
    return [_TEXT, *map(_image_name, range(len(session.images))), *([_CELLS, _KV] if session.n_cells else [])]


def _members(session: StoredSession, kv: StoredKv | None) -> Iterator[tuple[str, bytes | memoryview]]:
    session = replace(session, n_cells=0 if kv is None else len(kv.cells))
    yield _TEXT, json.dumps(to_json(session), ensure_ascii=False, indent=1).encode()
    for i, image in enumerate(session.images):
        yield _image_name(i), _png(image.square)
    if kv is not None:
        yield _CELLS, np.ascontiguousarray(kv.cells, "<i4").tobytes()
        yield _KV, np.ascontiguousarray(kv.state).data


def _image_name(i: int) -> str:
    return f"image-{i}.png"


def _png(square: NDArray[np.uint8]) -> bytes:
    import PIL.Image

    data = io.BytesIO()
    PIL.Image.fromarray(square).save(data, "PNG")
    return data.getvalue()


def read_session(path: Path) -> StoredSession:
    """Read all but the KV cache of a session file.

    Raises:
        SessionError: no such file, or not exactly what `write_session` writes.
    """
    with _opened(path) as archive:
        said = json.loads(_read(archive, _TEXT, _MAX_TEXT_BYTES).decode())
        session = from_json(said, lambda i: _square(_read(archive, _image_name(i), _MAX_IMAGE_BYTES)))
        # The directory has no checksum: a changed name in it would hide a member.
        if (names := archive.namelist()) != (expected := _names(session)):
            raise SessionError(f"expected {', '.join(expected)}, got {len(names)} other members; it is damaged")
        return session


def read_kv(path: Path, session: StoredSession, n_state_bytes: int) -> StoredKv:
    """Read what stood in the context; `LanguageModel.set_sequence_state` checks the keys and values.

    Args:
        path: the session file.
        session: what `read_session` returned; its n_cells is not 0.
        n_state_bytes: size that keys and values of so many positions have.

    Raises:
        SessionError: damaged, or of another size.
    """
    with _opened(path) as archive:
        cells = np.frombuffer(_read(archive, _CELLS, 4 * session.n_cells), "<i4")
        state = np.frombuffer(_read(archive, _KV, n_state_bytes), np.uint8)
    if len(cells) != session.n_cells:
        raise SessionError(f"{path.name}: expected {session.n_cells} positions, got {len(cells)}; it is damaged")
    return StoredKv(cells, state)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The file as a zip; whatever it makes zipfile and json raise becomes one sentence."""
    if not path.is_file():
        what = "something else" if path.exists() else "no file there"
        raise SessionError(f"{path}: expected a session file, got {what}; check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except SessionError as error:
        raise SessionError(f"{path.name}: {error}") from None
    except ImageError as error:
        raise SessionError(f"{path.name}: expected the pixels of an image, got others ({error})") from None
    except (*_DAMAGE, KeyError, MemoryError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise SessionError(
            f"{path.name}: expected a whole session file, got a damaged one or another kind ({reason}); "
            "it cannot be opened"
        ) from error


def _read(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    """A member, whole; zipfile compares its CRC-32."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or not 0 < info.file_size <= max_bytes:
        raise SessionError(f"{name}: expected 1 to {max_bytes} bytes, not compressed, got {info.file_size}")
    data = archive.read(name)
    if len(data) != info.file_size:
        raise SessionError(f"{name}: expected {info.file_size} bytes, got {len(data)}")
    return data


def _square(png: bytes) -> NDArray[np.uint8]:
    square = np.asarray(open_image(png))
    if square.shape[0] != square.shape[1]:
        raise SessionError(f"image: expected a square, got {square.shape[1]} x {square.shape[0]}")
    return square
