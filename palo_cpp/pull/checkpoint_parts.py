"""The repositories that a checkpoint is made of, each as a folder of outlines beside its small files."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palo_cpp.convert.outline import write_outline
from palo_cpp.errors import ModelFormatError
from palo_cpp.hub.hashing import hasher_for
from palo_cpp.hub.remote_file import RemoteFile
from palo_cpp.hub.remote_reader import RemoteReader
from palo_cpp.models.checkpoint_files import configuration_files, weight_files
from palo_cpp.models.names import published_as
from palo_cpp.pull.plan import DownloadPlan

if TYPE_CHECKING:
    from palo_cpp.hub.repository import FileInfo, Repository

_DEFAULT_TOWER = "openai/clip-vit-large-patch14-336"
_MOST_SMALL_BYTES = 64 << 20  # a vocabulary has a few MB


@dataclass(frozen=True)
class Part:
    """A repository that the model is made of.

    Attributes:
        repository: where it is.
        folder: with its small files, and outlines of the others.
        paths: of all files that the conversion reads.
    """

    repository: Repository
    folder: Path
    paths: tuple[str, ...]

    @property
    def download(self) -> DownloadPlan:
        """For the plan."""
        return DownloadPlan(self.repository, [self.repository.files[path] for path in self.paths])

    @property
    def config(self) -> dict[str, Any]:
        """What its configurations say."""
        values: dict[str, Any] = {}
        for name in ("config.json", "adapter_config.json"):
            if (self.folder / name).is_file():
                values |= _json_object(self.folder / name)
        return values

    @property
    def is_adapter(self) -> bool:
        """Whether it is a LoRA adapter."""
        return "adapter_config.json" in self.repository.files

    @property
    def tower(self) -> str:
        """Repository of the vision tower that it was trained with."""
        config, published = self.config, published_as(self.repository.name)
        named = config.get("mm_vision_tower") or config.get("vision_tower")
        return str(named or (published.vision_tower if published else _DEFAULT_TOWER))

    def outlined(self) -> Iterator[tuple[Path, FileInfo]]:
        """Outlines, with the files that they stand for."""
        for path in self.paths:
            if not _is_small(path):
                yield self.folder / path, self.repository.files[path]


def _json_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelFormatError(f"{path.name}: expected JSON, got something else; tell who publishes it") from error
    return found if isinstance(found, dict) else {}


def outlined_part(
    repository: Repository, folder: Path, *, with_weights: bool = True, weights: Sequence[str] = ()
) -> Part:
    """Read small files and headers of a repository.

    Args:
        repository: of a checkpoint, an adapter, a base model or a vision tower.
        folder: for the outlines; a folder with the repository's name is made in it.
        with_weights: else its small files only.
        weights: files of them; where none is given, the names in the repository decide.

    Raises:
        DownloadError: the hub refuses or fails.
        ModelFormatError: a file is damaged, or none of a checkpoint.
    """
    weights = list(weights) or (weight_files(repository.files) if with_weights else [])
    paths = (*configuration_files(repository.files), *weights)
    part = Part(repository, folder / repository.cached.folder.name, paths)
    part.folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        with _reader(repository, repository.files[path]) as file:
            if _is_small(path):
                (part.folder / path).write_bytes(_checked(file, repository, repository.files[path]))
            else:
                write_outline(part.folder / path, file, repository.files[path].size)
    return part


def _is_small(path: str) -> bool:
    return not path.endswith((".safetensors", ".bin"))


def _reader(repository: Repository, file: FileInfo) -> io.BufferedReader:
    cached = repository.cached.path(repository.commit, file.path)
    if cached.is_file():
        return cached.open("rb")
    remote = RemoteFile(repository.name, repository.commit, file.path, repository.token)
    return io.BufferedReader(RemoteReader(remote, file.size))


def _checked(content: io.BufferedReader, repository: Repository, file: FileInfo) -> bytes:
    if file.size > _MOST_SMALL_BYTES:
        raise ModelFormatError(
            f"{repository.name}/{file.path}: expected a small file, got {file.size} bytes; do not use this repository"
        )
    data = content.read()
    if file.etag:
        hasher = hasher_for(file.etag, len(data))
        hasher.update(data)
        if (got := hasher.hexdigest()) != file.etag:
            raise ModelFormatError(
                f"{repository.name}/{file.path}: expected hash {file.etag}, got {got}; fetch it again later"
            )
    return data
