"""Models whose files are hashed again: what `palo-cpp verify` does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from palo_cpp.errors import ArgumentError, ModelNotFoundError
from palo_cpp.hub.cache import CachedRepository, content_of
from palo_cpp.hub.hashing import hash_of
from palo_cpp.hub.settings import cache_folder
from palo_cpp.models.checksums import SUMS, read_sums
from palo_cpp.models.file_choice import choose_files
from palo_cpp.models.hub_models import converted_folder
from palo_cpp.models.kept_models import finished_in, hub_folders, not_kept
from palo_cpp.models.names import HubName


@dataclass(frozen=True)
class CheckedFile:
    """What hashing a file gave.

    Attributes:
        path: its name in the cache.
        expected: hash; None where nobody kept it: `hf` downloaded the file on a system without links, or an older
            palo_cpp converted it.
        got: hash; None where there is nothing to compare it with.
    """

    path: Path
    expected: str | None
    got: str | None

    @property
    def is_damaged(self) -> bool:
        """Whether it is another content."""
        return self.expected is not None and self.got != self.expected

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "path": str(self.path), "is_damaged": self.is_damaged}

    def __str__(self) -> str:
        if self.is_damaged:
            return f"damaged  {self.path}: expected hash {self.expected}, got {self.got}"
        return f"whole    {self.path}" if self.expected else f"unknown  {self.path}: nobody kept its hash"


def verify_model(name: HubName, download_root: str | Path | None = None) -> Iterator[CheckedFile]:
    """Hash again what is here of a model, or with no type of all of its repository.

    Raises:
        ModelNotFoundError: nothing of it is here.
        ModelFormatError: the list of what was converted or carried is damaged.
    """
    expected = _expected(name, cache_folder(download_root))
    if not expected:
        raise not_kept(name)
    for path, digest in expected.items():
        yield CheckedFile(path, digest, hash_of(path, digest) if digest else None)


def _expected(name: HubName, root: Path) -> dict[Path, str | None]:
    """The files, each content once, and the hash that each is to have."""
    cached = CachedRepository(root, name.repository)
    by_content = {content_of(path): path for folder in hub_folders(cached, name) for path in _paths_in(folder, name)}
    found = {path: cached.expected_hash(path) for path in by_content.values()}
    converted = [path for path in _paths_in(converted_folder(root, name), name) if path.name != SUMS]
    sums = read_sums(converted[0].parent) if converted else {}
    return found | {path: sums.get(path.name) for path in converted}


def _paths_in(folder: Path, name: HubName) -> list[Path]:
    """All files of a folder, or the pair of one type."""
    paths = finished_in(folder)
    if name.outtype is not None:
        try:
            paths = list(choose_files(name.repository, paths, name.outtype).paths)
        except (ArgumentError, ModelNotFoundError):
            return []
    return [folder / path for path in paths]
