"""Output files that appear whole or not at all.

They are written under names that nothing takes for a model (`.NAME.partial-...`), brought to the disk, and renamed at
the end. Whatever goes wrong before, also Ctrl-C or SIGTERM, removes them, unless a later run is to go on with them.
What a run leaves that is killed or loses power, the next one in that folder removes.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from palo_cpp.errors import ArgumentError, PaloError

_MARGIN_BYTES = 16 * 1024**2  # headers, vocabulary, padding
_UNFINISHED = re.compile(r"\..+\.partial-[0-9a-f]{8}(\.\w+)?")  # with what the converter adds


class PartialFiles:
    """The files of one run that are not finished yet.

    Args:
        folder: of the finished files.
        kept: folder for unfinished ones, which outlast a failure there; by default they do not.
    """

    def __init__(self, folder: Path, kept: Path | None = None) -> None:
        self._folder = folder
        self._kept = kept
        self._paths: list[Path] = []

    def new(self, name: str) -> Path:
        """A path for the unfinished content of the future file `name`; where it is kept, it may be there already."""
        if self._kept is not None:
            return self._kept / name
        path = self._folder / f".{name}.partial-{secrets.token_hex(4)}"
        self._paths.append(path)
        return path

    def publish(self, names: dict[Path, str]) -> list[Path]:
        """Bring finished files to the disk, then give each its name; existing files are replaced."""
        for path in names:
            _sync(path)
        finals = [self._folder / name for name in names.values()]
        for path, final in zip(names, finals, strict=True):
            path.replace(final)
        _sync(self._folder)
        if self._kept is not None:
            shutil.rmtree(self._kept)
        return finals

    def remove(self) -> None:
        """Delete what was not published."""
        for path in self._paths:
            path.unlink(missing_ok=True)


@contextmanager
def partial_files(folder: Path, n_bytes_needed: int, kept: Path | None = None) -> Iterator[PartialFiles]:
    """Make the output folder, clear it of what killed runs left, check that it has room, and clean up after the block.

    Args:
        folder: of the finished files.
        n_bytes_needed: on the disk.
        kept: folder on the same disk where unfinished files outlast a failure, for a run that goes on with them.

    Raises:
        PaloError: not enough room, or the folder cannot be made.
    """
    made = _make_folder(folder)
    lock = _lock_and_clear(folder)
    files = PartialFiles(folder, kept)
    try:
        n_bytes_kept = 0
        if kept is not None:
            _make_folder(kept)
            n_bytes_kept = sum(n_bytes_on_disk(path) for path in kept.iterdir())
        _check_room(folder, n_bytes_needed - n_bytes_kept)
        with _sigterm_raises():
            yield files
    except PaloError:  # a download that failed is an OSError, too
        raise
    except OSError as error:
        raise PaloError(
            f"{folder}: cannot write ({error.strerror or error}); free some space or choose another folder"
        ) from error
    finally:
        files.remove()
        if lock is not None:
            os.close(lock)
        _remove_if_empty(made)


def _lock_and_clear(folder: Path) -> int | None:
    """Remove unfinished files that no run is at work on.

    Returns:
        Descriptor of the folder, locked until it is closed: no other run removes anything meanwhile. None where
        folders cannot be locked.
    """
    if sys.platform == "win32":
        with suppress(OSError):
            _remove_unfinished(folder)  # what a run has open cannot be removed there
        return None
    import fcntl

    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # no permission to list it
        return None
    try:
        with suppress(BlockingIOError):  # another run is at work
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove_unfinished(folder)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except OSError:  # a network drive without locks
        os.close(descriptor)
        return None
    return descriptor


def _remove_unfinished(folder: Path) -> None:
    for path in folder.iterdir():
        if _UNFINISHED.fullmatch(path.name):
            with suppress(OSError):  # somebody else's, or a folder
                path.unlink()


def _make_folder(folder: Path) -> list[Path]:
    """Make the folder and its parents; returns those that were new, innermost first."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(f"{folder}: cannot be made a folder ({error.strerror}); choose another one") from error
    return made


def _remove_if_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _check_room(folder: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    n_bytes += _MARGIN_BYTES
    if free < n_bytes:
        gib = 1024**3
        raise PaloError(
            f"{folder}: expected {n_bytes / gib:.2f} GiB of free space, got {free / gib:.1f} GiB; "
            "free some or choose another folder"
        )


def free_bytes(folder: Path) -> int:
    """Room on the disk that a folder is on, or will be."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(there).free


def n_bytes_on_disk(path: Path) -> int:
    """What a file takes; less than its size where parts were never written."""
    found = path.stat()
    n_blocks = getattr(found, "st_blocks", None)  # Windows has none, nor such parts
    return found.st_size if n_blocks is None else min(found.st_size, 512 * int(n_blocks))


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM ends a process without cleaning up; inside this block it raises SystemExit instead."""
    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
