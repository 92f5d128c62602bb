"""Models on a stick: copied to a folder, and taken from one, without a network; nothing here opens a socket."""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from palo_cpp.errors import ArgumentError, ModelFormatError, ModelNotFoundError, PaloError
from palo_cpp.ggml.gguf_header import read_header
from palo_cpp.hub.cache import content_of
from palo_cpp.models.checksums import copy_hashed, is_plain_name, publish_listed, read_sums, sha256_of
from palo_cpp.models.file_choice import ChosenFiles, choose_files, is_mmproj_name, model_stem, texts_in
from palo_cpp.models.files import model_files
from palo_cpp.models.hub_models import ModelPaths, converted_folder
from palo_cpp.models.names import HubName, published_as
from palo_cpp.partial_files import PartialFiles, partial_files

if TYPE_CHECKING:
    from palo_cpp.hub.repository import DownloadCallback

_log = logging.getLogger("palo_cpp")
_SHA256 = re.compile("[0-9a-f]{64}")
_FOR_GGUF = re.compile(r"[-_.]gguf$", re.IGNORECASE)


def carry_to(
    paths: ModelPaths, name: HubName, folder: Path | str, progress: DownloadCallback | None = None
) -> list[Path]:
    """Copy a model that is here to a folder, beside its SHA-256; files that are there already are left alone.

    Args:
        paths: of the model.
        name: of the model, for messages.
        folder: on a stick, say; made if missing, and other models may be in it.
        progress: is called several times a second.

    Returns:
        The files in the folder.

    Raises:
        PaloError: too little room, a file larger than the file system takes, another file of that name, or a file
            here that is damaged.
    """
    folder = Path(folder)
    sources = [path for path in (paths.text, paths.mmproj) if path is not None]
    copies = [_copy_of(path, known_sha256(path), folder / path.name) for path in sources]
    counter, sums = _Counter(progress, copies), read_sums(folder)
    new = [copy for copy in copies if not _is_on_stick(copy, sums, name, counter)]
    with partial_files(folder, sum(copy.n_bytes for copy in new)) as partial:
        for copy in new:
            path, sums[copy.target.name] = _copied(copy, partial, counter)
            publish_listed(partial, {path: copy.target.name}, sums)
    return [copy.target for copy in copies]


def carry_from(name: HubName, folder: Path | str, root: Path, progress: DownloadCallback | None = None) -> ModelPaths:
    """Take a model from a folder that `carry_to` or `palo-cpp package` wrote, or from one of GGUF files alone.

    Args:
        name: of the model; its type chooses among several.
        folder: with the files.
        root: of the hub's cache; the model is put where `cached_model` looks for those that were converted.
        progress: is called several times a second.

    Returns:
        Where the model is now.

    Raises:
        ModelNotFoundError: the folder has no such model.
        ModelFormatError: a file is damaged, or not what SHA256SUMS says; what was copied of it is removed.
        ArgumentError: the folder has several models, or none of that type.
        PaloError: too little room.
    """
    folder = Path(folder)
    chosen, sums = choose_in(folder, name), read_sums(folder)
    _check_header(folder, chosen)
    target = converted_folder(root, name)
    copies = [_copy_of(folder / path, sums.get(path), target / path) for path in chosen.paths]
    if unlisted := [path for path in chosen.paths if path not in sums]:
        _log.warning("%s has no SHA-256 of %s: nothing could be checked", folder, " and ".join(unlisted))
    counter = _Counter(progress, copies)
    new = [copy for copy in copies if not _is_there(copy, counter)]
    for copy in new:
        _check_replaceable(copy, name)
    digests, finished = {copy.target.name: copy.expected for copy in copies if copy.expected}, {}
    with partial_files(target, sum(copy.n_bytes for copy in new)) as partial:
        for copy in new:
            path, digests[copy.target.name] = _copied(copy, partial, counter)
            finished[path] = copy.target.name
        publish_listed(partial, finished, read_sums(target) | digests)
    text, *mmproj = (copy.target for copy in copies)
    return ModelPaths(text, mmproj[0] if mmproj else None)


def choose_in(folder: Path, name: HubName) -> ChosenFiles:
    """The files of a folder that are the model.

    Raises:
        ModelNotFoundError: there are none, or only those of another model.
        ArgumentError: several models, or none of that type.
        ModelFormatError: a name or a link leads out of the folder.
    """
    if not folder.is_dir():
        raise ModelNotFoundError(f"{folder}: expected a folder with GGUF files, got none there; check the path")
    names = sorted(path.name for path in folder.glob("*.gguf") if not path.name.startswith("."))
    if not (texts := texts_in(names)):
        raise ModelNotFoundError(
            f"{folder}: expected GGUF files, got none; `palo-cpp pull {name} --to {folder}` puts them there"
        )
    stem = _stem_of(folder, name, texts)
    mmprojs = [path for path in names if is_mmproj_name(path)]
    own = [path for path in mmprojs if model_stem(path).casefold() == stem.casefold()]
    chosen = choose_files(str(folder), [*(t for t in texts if model_stem(t) == stem), *(own or mmprojs)], name.outtype)
    for path in chosen.paths:
        _check_inside(folder, path)
    return chosen


def _stem_of(folder: Path, name: HubName, texts: Iterable[str]) -> str:
    """Which of a folder's models is meant: the one of that name, or the only one.

    The names of published models say which weights are meant, so that nothing else is taken for them.
    """
    stems = sorted({model_stem(text) for text in texts})
    wanted = _FOR_GGUF.sub("", name.title)
    if same := [stem for stem in stems if stem.casefold() == wanted.casefold()]:
        return same[0]
    is_free = published_as(name.repository, name.variant) is None or wanted.casefold() in stems[0].casefold()
    if len(stems) == 1 and is_free:
        return stems[0]
    raise ModelNotFoundError(
        f"{folder}: expected the files of {wanted}, got those of {', '.join(stems)}; name another model or folder"
    )


def _check_inside(folder: Path, path: str) -> None:
    if not is_plain_name(path) or (folder / path).resolve().parent != folder.resolve():
        raise ModelFormatError(
            f"{folder}: expected files in the folder itself, got {path[:80]!r}, a link or a name that leads out of it; "
            "copy the file there"
        )


def _check_header(folder: Path, chosen: ChosenFiles) -> None:
    """Refuse a damaged file or a pair that is none before gigabytes are copied."""
    text, *mmproj = (read_header(folder / path) for path in chosen.paths)
    model_files(text, mmproj[0] if mmproj else None)


# ---- one file


@dataclass(frozen=True)
class _Copy:
    """A file that is to be somewhere else.

    Attributes:
        source: the file.
        expected: SHA-256; None where nobody knows it.
        target: where it is to be.
        n_bytes: its size.
    """

    source: Path
    expected: str | None
    target: Path
    n_bytes: int


def _copy_of(source: Path, expected: str | None, target: Path) -> _Copy:
    try:
        return _Copy(source, expected, target, source.stat().st_size)
    except OSError as error:
        raise ModelNotFoundError(f"{source}: could not be read: {error.strerror}; pull the model again") from error


def known_sha256(path: Path) -> str | None:
    """The SHA-256 that a file is to have, from the hub's cache or from the SHA256SUMS beside it."""
    name = content_of(path).name
    return name if _SHA256.fullmatch(name) else read_sums(path.parent).get(path.name)


def _is_there(copy: _Copy, counter: _Counter) -> bool:
    """Whether the target is the file already."""
    if copy.expected is None or not copy.target.is_file() or copy.target.stat().st_size != copy.n_bytes:
        return False
    if sha256_of(copy.target, lambda n: counter.report(copy, n)) != copy.expected:
        return False
    counter.end(copy)
    return True


def _is_on_stick(copy: _Copy, sums: dict[str, str], name: HubName, counter: _Counter) -> bool:
    """Whether the file is in the folder; one that was damaged there is copied again.

    Raises:
        PaloError: another file has its name.
    """
    if not copy.target.exists():
        return False
    if _is_there(known := replace(copy, expected=copy.expected or sha256_of(copy.source)), counter):
        return True
    if sums.get(copy.target.name) != known.expected:
        raise PaloError(
            f"{copy.target}: expected the file of {name} with SHA-256 {known.expected}, got another of that name; "
            "remove it, or choose another folder"
        )
    _log.warning("%s is damaged and is copied again", copy.target)
    return False


def _check_replaceable(copy: _Copy, name: HubName) -> None:
    """Refuse to take away what other files here were made together with."""
    if not copy.target.is_file():
        return
    try:
        before = read_header(copy.target).pair_id
    except PaloError:
        return  # damaged
    if before != read_header(copy.source).pair_id:
        raise ArgumentError(
            f"{copy.target}: expected a file made together with {copy.source.name}, got one of another conversion; "
            f"remove it with `palo-cpp rm {name.repository}`"
        )


def _copied(copy: _Copy, partial: PartialFiles, counter: _Counter) -> tuple[Path, str]:
    path = partial.new(copy.target.name)
    try:
        digest = copy_hashed(copy.source, path, lambda n: counter.report(copy, n))
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        raise PaloError(
            f"{copy.target}: expected a disk that takes a file of {copy.n_bytes / 1024**3:.1f} GiB, got one that does "
            "not (FAT32 ends at 4 GiB); format it as exFAT, or choose a smaller type"
        ) from error
    if digest != (copy.expected or digest):
        raise ModelFormatError(
            f"{copy.source}: expected SHA-256 {copy.expected}, got {digest}; what was copied is removed, get the file "
            "again"
        )
    counter.end(copy)
    return path, digest


class _Counter:
    """Bytes of all files, from those of each."""

    def __init__(self, progress: DownloadCallback | None, copies: Sequence[_Copy]) -> None:
        self._progress = progress
        self._n_bytes = sum(copy.n_bytes for copy in copies)
        self._n_before = 0

    def report(self, copy: _Copy, n_done: int) -> None:
        """So many bytes of a file are there."""
        if self._progress:
            from palo_cpp.hub.repository import DownloadProgress

            done = self._n_before + n_done
            self._progress(DownloadProgress(copy.target.name, copy.n_bytes, n_done, self._n_bytes, done))

    def end(self, copy: _Copy) -> None:
        """The file is whole."""
        self.report(copy, copy.n_bytes)
        self._n_before += copy.n_bytes
