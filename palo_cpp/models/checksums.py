"""SHA256SUMS, as coreutils writes and checks it: what the files of a folder were when they were put there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from time import monotonic

from palo_cpp.errors import ModelFormatError, PaloError
from palo_cpp.hub.hashing import hasher_for
from palo_cpp.partial_files import PartialFiles, partial_files

SUMS = "SHA256SUMS"
Report = Callable[[int], None]

_KIND = "0" * 64  # stands for any SHA-256
_BLOCK_BYTES = 1 << 20
# A stick is slower than memory: without this the bar would be at its end minutes before the bytes are.
_SYNC_EVERY_BYTES = 64 << 20
_REPORT_EVERY_S = 0.1
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")
_UNSAFE = re.compile(r'[\\/\0-\x1f:*?"<>|]')


def is_plain_name(name: str) -> bool:
    """Whether a name stays in its folder, on any system."""
    return name not in ("", ".", "..") and not _UNSAFE.search(name) and len(name) <= 255


def read_sums(folder: Path) -> dict[str, str]:
    """Name of a file -> SHA-256 that it is to have; nothing where the folder has no SHA256SUMS.

    Raises:
        ModelFormatError: it has another form, or a name in it leads out of the folder.
    """
    path = folder / SUMS
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"{path}: could not be read: {error}; remove it, or make it again") from error
    found = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ModelFormatError(f"{path}: expected lines of a SHA-256 and a name, got {line[:80]!r}; make it again")
        name = match[2].removeprefix("./")
        if not is_plain_name(name):
            raise ModelFormatError(
                f"{path}: expected names of files in the folder, got {name[:80]!r}, which leads out of it; "
                "do not use it"
            )
        found[name] = match[1].lower()
    return found


def sums_text(sums: Mapping[str, str]) -> str:
    """The content of a SHA256SUMS."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))


def put_sums(folder: Path, sums: Mapping[str, str]) -> None:
    """Replace a folder's SHA256SUMS, whole; without an entry it goes.

    Raises:
        PaloError: it could not be written.
    """
    if not sums:
        (folder / SUMS).unlink(missing_ok=True)
        return
    with partial_files(folder, len(sums_text(sums))) as partial:
        publish_listed(partial, {}, sums)


def publish_listed(partial: PartialFiles, finished: Mapping[Path, str], sums: Mapping[str, str]) -> None:
    """Give finished files their names, the list first: an entry without a file harms nobody.

    Args:
        partial: of the folder.
        finished: file -> its name there.
        sums: all entries of the list from now on.
    """
    listed = partial.new(SUMS)
    listed.write_text(sums_text(sums), encoding="utf-8", newline="\n")
    partial.publish({listed: SUMS, **finished})


def write_sums(folder: Path, paths: Iterable[Path]) -> None:
    """Hash files of a folder and enter them into its SHA256SUMS; other entries stay.

    Args:
        folder: in which the files lie.
        paths: of them.

    Raises:
        PaloError: a file cannot be read, or the list not written.
    """
    put_sums(folder, read_sums(folder) | {path.name: sha256_of(path) for path in paths})


def forget_sums(folder: Path, names: Iterable[str]) -> None:
    """Take files that are gone out of a folder's SHA256SUMS."""
    sums, gone = read_sums(folder), set(names)
    if gone & set(sums):
        put_sums(folder, {name: digest for name, digest in sums.items() if name not in gone})


def sha256_of(path: Path, report: Report | None = None) -> str:
    """Hash of a file.

    Raises:
        PaloError: it cannot be read.
    """
    return _read_through(path, lambda _block: None, report)


def copy_hashed(source: Path, target: Path, report: Report | None = None) -> str:
    """Copy a file, to the disk; returns the hash of what was read.

    Raises:
        PaloError: the source cannot be read.
        OSError: the target cannot be written.
    """
    n_unsynced = 0
    with target.open("wb", buffering=0) as file:

        def write(block: bytes) -> None:
            nonlocal n_unsynced
            view = memoryview(block)
            while view:
                view = view[file.write(view) :]
            n_unsynced += len(block)
            if n_unsynced >= _SYNC_EVERY_BYTES:
                os.fsync(file.fileno())
                n_unsynced = 0

        digest = _read_through(source, write, report)
        os.fsync(file.fileno())
    return digest


def _read_through(path: Path, take: Callable[[bytes], None], report: Report | None) -> str:
    """Pass a file on, block by block, and hash it."""
    hasher, n_done, reported_at = hasher_for(_KIND, 0), 0, 0.0
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise _unreadable(path, error) from error
    with file:
        while True:
            try:
                block = file.read(_BLOCK_BYTES)
            except OSError as error:
                raise _unreadable(path, error) from error
            if not block:
                return str(hasher.hexdigest())
            take(block)
            hasher.update(block)
            n_done += len(block)
            if report and monotonic() - reported_at > _REPORT_EVERY_S:
                report(n_done)
                reported_at = monotonic()


def _unreadable(path: Path, error: OSError) -> PaloError:
    return PaloError(f"{path}: could not be read: {error.strerror or error}; look at the disk that it is on")
