"""Models of the hub: what the cache has of them. Fetching them is the room `pull`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from palo_cpp.errors import ArgumentError, ModelNotFoundError
from palo_cpp.hub.cache import DEFAULT_REVISION, CachedRepository
from palo_cpp.hub.settings import cache_folder, is_offline
from palo_cpp.models.file_choice import choose_files
from palo_cpp.models.names import HubName


@dataclass(frozen=True)
class HubOptions:
    """How a name of the hub is looked up.

    Attributes:
        local_files_only: take only what is in the cache.
        download_root: folder of the cache; None is the hub's own.
        revision: branch, tag or commit; None is `main`.
        token: of the user; None takes the one of HF_TOKEN or `hf auth login`, False sends none.
    """

    local_files_only: bool = False
    download_root: str | Path | None = None
    revision: str | None = None
    token: str | bool | None = None


CACHE_ONLY = HubOptions(local_files_only=True)


@dataclass(frozen=True)
class ModelPaths:
    """Where one model's files lie."""

    text: Path
    mmproj: Path | None


def hub_model(name: HubName, options: HubOptions) -> ModelPaths:
    """The files of a model that is here, by its name.

    Raises:
        ModelNotFoundError: it is not in the cache.
    """
    if (found := cached_model(name, options)) is None:
        raise not_here(name)
    return found


def not_here(name: HubName) -> ModelNotFoundError:
    """The sentence for a model that must not be fetched now."""
    reason = "HF_HUB_OFFLINE is set" if is_offline() else "nothing may be fetched here"
    return ModelNotFoundError(
        f"model {name}: expected a folder or files in the hub's cache, got neither, and {reason}; "
        f"check the path, or run `palo-cpp pull {name}` first"
    )


def cached_model(name: HubName, options: HubOptions) -> ModelPaths | None:
    """The model, where the cache has its files, whoever fetched them; None where it lacks one."""
    root = cache_folder(options.download_root)
    cached = CachedRepository(root, name.repository)
    commit = cached.commit(options.revision or DEFAULT_REVISION)
    # The repository's own GGUF files are of its main checkpoint.
    found = None if commit is None or name.variant else _model_in(cached.snapshot(commit), name)
    return found or converted_model(root, name)


def _model_in(folder: Path, name: HubName) -> ModelPaths | None:
    try:
        chosen = choose_files(name.repository, files_in(folder), name.outtype)
    except (ModelNotFoundError, ArgumentError):
        return None
    return ModelPaths(folder / chosen.text, folder / chosen.mmproj if chosen.mmproj else None)


def converted_folder(root: Path, name: HubName) -> Path:
    """Where the GGUF files lie that were made of a checkpoint: beside the hub's cache, which holds nothing else."""
    return root.parent / "palo-cpp" / name.local.replace("/", "--")


def pull_folder(root: Path, name: HubName) -> Path:
    """Where the pull of a checkpoint to a type keeps what is not finished."""
    folder = converted_folder(root, name)
    return folder.parent / ".pull" / f"{folder.name}-{name.outtype}"


def converted_model(root: Path, name: HubName) -> ModelPaths | None:
    """A model that was made of a checkpoint; None where there is none of that type."""
    return _model_in(converted_folder(root, name), name)


def converted_in(root: Path) -> list[tuple[str, Path]]:
    """What was converted, as `HubName.local`, with the folders of the GGUF files."""
    folders = sorted(path for path in (root.parent / "palo-cpp").glob("*--*") if path.is_dir())
    return [(folder.name.replace("--", "/"), folder) for folder in folders]


def files_in(snapshot: Path) -> Iterator[str]:
    """Paths of the files that a snapshot has; links to contents that are gone do not count."""
    for path in sorted(snapshot.rglob("*")):
        if path.is_file():
            yield path.relative_to(snapshot).as_posix()
