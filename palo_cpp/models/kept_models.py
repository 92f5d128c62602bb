"""The models that are here, in the hub's cache or converted or carried: what `palo-cpp ls` and `show` list."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from palo_cpp.errors import ModelNotFoundError, PaloError
from palo_cpp.families.family import MmprojUse
from palo_cpp.families.registry import family_of
from palo_cpp.ggml.gguf_header import read_header
from palo_cpp.hub.cache import CachedRepository, content_of, repositories_in
from palo_cpp.hub.partial_blob import partials_in
from palo_cpp.hub.settings import cache_folder
from palo_cpp.models.checkpoint_files import weight_files
from palo_cpp.models.file_choice import ChosenFiles, choose_files, has_gguf, is_mmproj_name, outtype_of, texts_in
from palo_cpp.models.hub_models import converted_folder, converted_in, files_in
from palo_cpp.models.names import HubName, local_name, published_as
from palo_cpp.partial_files import n_bytes_on_disk

CHECKPOINT = "checkpoint"
_KEYS_OF_CHECKPOINTS = ("mm_vision_tower", "mm_projector_type")  # what PALO's, LLaVA's and MobileVLM's config.json have


@dataclass(frozen=True)
class KeptModel:
    """One model that is here, whole or in parts.

    Attributes:
        name: to give to `-m`.
        outtype: type of the language model's weights; "" where the name of its file does not say; or `checkpoint`.
        n_bytes: of its files.
        n_bytes_here: of them, those that have arrived.
        languages: codes of those that it answers in; empty where they are not known yet.
        used_at: when its file was read last, seconds since 1970, as far as the file system keeps it.
        folder: where its files have their names.
        files: their names there.
        problem: why it cannot be used, and what to do; "" where nothing is missing.
    """

    name: str
    outtype: str
    n_bytes: int
    n_bytes_here: int
    languages: tuple[str, ...]
    used_at: float
    folder: str
    files: tuple[str, ...] = ()
    problem: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing."""
        return self.n_bytes == self.n_bytes_here and not self.problem

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its files."""
        return tuple(Path(self.folder) / file for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "is_complete": self.is_complete}


def kept_models(download_root: str | Path | None = None) -> list[KeptModel]:
    """Every model that is here, whoever fetched it, and every file that has arrived in part."""
    root = cache_folder(download_root)
    found: list[KeptModel] = []
    for cached in repositories_in(root):
        for commit in _snapshots_of(cached):
            found += _models_in(cached.name, cached.snapshot(commit))
        found += _partial(cached)
    for name, folder in converted_in(root):
        found += _models_in(name, folder)
    found += [_interrupted(model, folder) for model, folder in interrupted_in(root)]
    # Two revisions may have the same contents.
    distinct = {(model.name, *map(content_of, model.paths)): model for model in found}
    return sorted(distinct.values(), key=lambda model: (model.name, model.folder))


def kept_of(name: HubName, download_root: str | Path | None = None) -> list[KeptModel]:
    """What is here of one model, or with no type of all of its repository.

    Raises:
        ModelNotFoundError: nothing of it is here.
    """
    root = cache_folder(download_root)
    cached = CachedRepository(root, name.repository)
    folders = [*hub_folders(cached, name), converted_folder(root, name)]
    found = [model for folder in folders for model in _models_in(name.local, folder)]
    found += [] if name.variant else _partial(cached)
    found += [_interrupted(each, folder) for each, folder in interrupted_in(root) if each.local == name.local]
    wanted = [model for model in found if name.outtype in (None, model.outtype)]
    if not wanted:
        raise not_kept(name)
    return list({(model.name, *map(content_of, model.paths)): model for model in wanted}.values())


def not_kept(name: HubName) -> ModelNotFoundError:
    """The sentence for a model of which nothing is here."""
    return ModelNotFoundError(f"model {name}: expected its files in the cache, got none; `palo-cpp ls` lists them")


def hub_folders(cached: CachedRepository, name: HubName) -> list[Path]:
    """Folders of the hub's cache with files of a model: none for a further checkpoint, which is always converted."""
    return [] if name.variant else [cached.snapshot(commit) for commit in _snapshots_of(cached)]


def _snapshots_of(cached: CachedRepository) -> list[str]:
    """The commits that the cache has files of."""
    return sorted(path.name for path in (cached.folder / "snapshots").glob("*") if path.is_dir())


def finished_in(folder: Path) -> list[str]:
    """Paths of the files of a folder, without those of a conversion that was interrupted."""
    return [path for path in files_in(folder) if not path.startswith(".")]


def interrupted_in(root: Path) -> list[tuple[HubName, Path]]:
    """Conversions of the room `pull` that were interrupted, with the folders of what there is of them."""
    folders = sorted(path for path in (root.parent / "palo-cpp" / ".pull").glob("*--*-*") if path.is_dir())
    parts = ((folder.name.rpartition("-"), folder) for folder in folders)
    return [(local_name(name.replace("--", "/"), outtype), folder) for (name, _, outtype), folder in parts]


def _interrupted(name: HubName, folder: Path) -> KeptModel:
    files = [path for path in folder.rglob("*") if path.is_file()]
    n_bytes, n_here = sum(path.stat().st_size for path in files), sum(map(n_bytes_on_disk, files))
    problem = "its conversion was interrupted; pull it again"
    return KeptModel(str(name), name.outtype or "", n_bytes, n_here, (), 0.0, str(folder), (), problem)


def _models_in(repository: str, folder: Path) -> Iterator[KeptModel]:
    paths = finished_in(folder)
    for text in texts_in(paths):
        outtype = outtype_of(text)
        chosen = choose_files(repository, paths, outtype) if outtype else ChosenFiles(text, _any_mmproj(paths))
        if chosen.text == text:
            yield _model(local_name(repository, outtype or None), folder, chosen)
    if not has_gguf(paths) and (weights := weight_files(paths)) and _is_checkpoint(repository, folder):
        yield _checkpoint(repository, folder, paths, weights)


def _any_mmproj(paths: list[str]) -> str | None:
    return next(filter(is_mmproj_name, paths), None)


def _model(name: HubName, folder: Path, chosen: ChosenFiles) -> KeptModel:
    sizes = [(folder / path).stat() for path in chosen.paths]
    n_bytes = sum(size.st_size for size in sizes)
    languages, mmproj, problem = _facts(folder / chosen.text)
    if mmproj == "needed" and chosen.mmproj is None:
        problem = f"its mmproj file is missing; pull {name} again"
    used_at, outtype = sizes[0].st_atime, name.outtype or ""
    return KeptModel(str(name), outtype, n_bytes, n_bytes, languages, used_at, str(folder), chosen.paths, problem)


def _facts(text: Path) -> tuple[tuple[str, ...], MmprojUse, str]:
    """(languages, whether it has an mmproj file, what is wrong)."""
    try:
        header = read_header(text)
    except PaloError:
        return (), "none", "its file is damaged; `palo-cpp verify` says how"
    try:
        family = family_of(header)
        return family.languages(header), family.mmproj, ""
    except PaloError:  # a model of somebody else's
        return (), "none", ""


def _is_checkpoint(repository: str, folder: Path) -> bool:
    """Whether the folder has a checkpoint that `pull` would convert; others that are in the cache are not ours."""
    config = _json(folder / "config.json")
    return published_as(repository) is not None or any(key in config for key in _KEYS_OF_CHECKPOINTS)


def _checkpoint(repository: str, folder: Path, paths: list[str], weights: list[str]) -> KeptModel:
    sizes = [(folder / path).stat() for path in paths]
    shards = {path for index in weights if index.endswith(".json") for path in _shards(folder / index)}
    missing = shards - set(paths)
    problem = "not converted; `palo-cpp pull` does it"
    if missing:
        problem = f"{len(missing)} of {len(shards)} files of weights are missing; pull it again"
    n_bytes, used_at = sum(size.st_size for size in sizes), max(size.st_atime for size in sizes)
    return KeptModel(repository, CHECKPOINT, n_bytes, n_bytes, (), used_at, str(folder), tuple(paths), problem)


def _shards(index: Path) -> set[str]:
    table = _json(index).get("weight_map")
    return {str(name) for name in table.values()} if isinstance(table, dict) else set()


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _partial(cached: CachedRepository) -> Iterator[KeptModel]:
    for blob, n_here in partials_in(cached.blobs):
        name, outtype = f"{cached.name}/{blob.path}", outtype_of(blob.path)
        problem = f"{100 * n_here / max(1, blob.size):.0f} % has arrived; pull it again"
        yield KeptModel(name, outtype, blob.size, n_here, (), 0.0, str(cached.blobs), (), problem)
