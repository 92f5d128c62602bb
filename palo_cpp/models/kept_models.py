"""The models that are in the hub's cache or were converted from it: listed, removed, checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from palo_cpp.errors import ModelNotFoundError, PaloError
from palo_cpp.families.registry import family_of
from palo_cpp.ggml.gguf_header import read_header
from palo_cpp.hub.cache import CachedRepository, repositories_in
from palo_cpp.hub.contents import n_bytes_freed_without, remove_links
from palo_cpp.hub.hashing import hash_of, is_hash
from palo_cpp.hub.partial_blob import partials_in, remove_partial
from palo_cpp.hub.settings import cache_folder
from palo_cpp.models.file_choice import ChosenFiles, choose_files, has_gguf, outtype_of, texts_in
from palo_cpp.models.hub_models import converted_folder, converted_in, files_in
from palo_cpp.models.names import HubName


@dataclass(frozen=True)
class KeptModel:
    """One model that is here, whole or in parts.

    Attributes:
        name: to give to `-m`.
        outtype: type of the language model's weights; "" where the name of its file does not say.
        n_bytes: of its files.
        n_bytes_here: of them, those that have arrived.
        languages: codes of those that it answers in; empty where they are not known yet.
        used_at: when its file was read last, seconds since 1970, as far as the file system keeps it.
        folder: where its files have their names.
    """

    name: str
    outtype: str
    n_bytes: int
    n_bytes_here: int
    languages: tuple[str, ...]
    used_at: float
    folder: str

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing."""
        return self.n_bytes == self.n_bytes_here

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "is_complete": self.is_complete}


def kept_models(download_root: str | Path | None = None) -> list[KeptModel]:
    """Every model that is here, whoever fetched it, and every file that has arrived in part."""
    root = cache_folder(download_root)
    found: list[KeptModel] = []
    for cached in repositories_in(root):
        for commit in snapshots_of(cached):
            found += _models_in(cached.name, cached.snapshot(commit))
        found += _partial(cached)
    for name, folder in converted_in(root):
        found += _models_in(name, folder)
    return sorted(set(found), key=lambda model: model.name)


def snapshots_of(cached: CachedRepository) -> list[str]:
    """The commits that the cache has files of."""
    return sorted(path.name for path in (cached.folder / "snapshots").glob("*") if path.is_dir())


def _models_in(repository: str, folder: Path) -> Iterator[KeptModel]:
    paths = list(files_in(folder))
    for text in texts_in(paths):
        outtype = outtype_of(text)
        chosen = choose_files(repository, paths, outtype) if outtype else ChosenFiles(text, None)
        if chosen.text == text:
            yield _model(HubName(repository, outtype or None), folder, chosen)


def _model(name: HubName, folder: Path, chosen: ChosenFiles) -> KeptModel:
    sizes = [(folder / path).stat() for path in chosen.paths]
    n_bytes = sum(size.st_size for size in sizes)
    languages = _languages(folder / chosen.text)
    return KeptModel(str(name), name.outtype or "", n_bytes, n_bytes, languages, sizes[0].st_atime, str(folder))


def _languages(path: Path) -> tuple[str, ...]:
    try:
        header = read_header(path)
        return family_of(header).languages(header)
    except PaloError:  # a model of somebody else's, or a damaged one, which `verify` names
        return ()


def _partial(cached: CachedRepository) -> Iterator[KeptModel]:
    for blob, n_here in partials_in(cached.blobs):
        name = f"{cached.name}/{blob.path}"
        yield KeptModel(name, outtype_of(blob.path), blob.size, n_here, (), 0.0, str(cached.blobs))


# ---- removed


def remove_model(name: HubName, download_root: str | Path | None = None) -> int:
    """Remove a model, or with no type everything that is here of its repository.

    Returns:
        Bytes that this freed; contents that another revision needs stay.

    Raises:
        ModelNotFoundError: nothing of it is here.
    """
    root = cache_folder(download_root)
    cached = CachedRepository(root, name.repository)
    links = [link for commit in snapshots_of(cached) for link in _links(cached.snapshot(commit), name.outtype)]
    converted = _links(converted_folder(root, name.repository), name.outtype)
    partials = [each for each in partials_in(cached.blobs) if name.outtype in (None, outtype_of(each[0].path))]
    if not links and not converted and not partials:
        raise ModelNotFoundError(f"model {name}: expected its files in the cache, got none; `palo-cpp ls` lists them")
    n_freed = n_bytes_freed_without(cached, links) + sum(path.stat().st_size for path in converted)
    for blob, n_here in partials:
        remove_partial(cached.blobs, blob.etag)
        n_freed += n_here
    remove_links(cached, links)
    for path in converted:
        path.unlink()
    with suppress(OSError):  # other types are in it
        converted_folder(root, name.repository).rmdir()
    return n_freed


def _links(folder: Path, outtype: str | None) -> list[Path]:
    """Files of a folder that go: all, or those of one type; the mmproj files go with the last language model."""
    if outtype is None:
        return [path for path in folder.rglob("*") if not path.is_dir()]
    paths = list(files_in(folder))
    texts = texts_in(paths)
    going = [path for path in texts if outtype_of(path) == outtype]
    if going and len(going) == len(texts):
        return [folder / path for path in paths]
    return [folder / path for path in going]


# ---- checked


@dataclass(frozen=True)
class CheckedFile:
    """What hashing a file gave.

    Attributes:
        path: its name in the cache.
        expected: hash; None where the cache does not keep it (systems without links).
        got: hash.
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
        return f"{'whole' if self.expected else 'unknown'}    {self.path}"


def verify_model(name: HubName, download_root: str | Path | None = None) -> Iterator[CheckedFile]:
    """Hash again what the cache has of a model's repository.

    Raises:
        ModelNotFoundError: nothing of it is here.
    """
    cached = CachedRepository(cache_folder(download_root), name.repository)
    paths = {
        (folder / path).resolve(): folder / path
        for folder in map(cached.snapshot, snapshots_of(cached))
        for path in files_in(folder)
        if name.outtype is None or not has_gguf([path]) or outtype_of(path) == name.outtype
    }
    if not paths:
        raise ModelNotFoundError(f"model {name}: expected its files in the cache, got none; `palo-cpp ls` lists them")
    for content, path in paths.items():
        expected = content.name if is_hash(content.name) else None
        yield CheckedFile(path, expected, hash_of(content, expected) if expected else None)


def remove_damaged(name: HubName, checked: CheckedFile, download_root: str | Path | None = None) -> None:
    """Remove a damaged content, so that the next pull fetches it again."""
    cached = CachedRepository(cache_folder(download_root), name.repository)
    content = checked.path.resolve()
    links = [
        path for path in (cached.folder / "snapshots").rglob("*") if path.is_symlink() and path.resolve() == content
    ]
    remove_links(cached, links)
