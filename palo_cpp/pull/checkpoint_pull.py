"""A checkpoint on the hub: planned by its headers, fetched, converted and quantized.

In `palo-cpp/.pull/NAME-TYPE`, beside the hub's cache, lies what outlasts a killed process: the unfinished GGUF files
with their journal, and the list of files that were fetched for this conversion alone.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from palo_cpp.errors import DownloadError, ModelNotFoundError
from palo_cpp.hub.repository import Repository, fetch, open_repository
from palo_cpp.hub.speed import measured_speed
from palo_cpp.models.checkpoint_files import variant_files
from palo_cpp.models.checksums import write_sums
from palo_cpp.models.file_choice import DEFAULT_OUTTYPE
from palo_cpp.models.hub_models import ModelPaths, converted_folder, converted_model, pull_folder
from palo_cpp.models.names import HubName, published_as
from palo_cpp.partial_files import free_bytes, n_bytes_on_disk
from palo_cpp.pull.checkpoint_parts import Part, outlined_part
from palo_cpp.pull.checkpoint_shards import CheckpointShards, FetchedFiles, sizes
from palo_cpp.pull.plan import Pull, PullOptions, PullPlan, Watch

if TYPE_CHECKING:
    from palo_cpp.convert.conversion import Conversion
    from palo_cpp.convert.reading_order import SourceFiles

_GIB = 1 << 30
_MARGIN_BYTES = 32 << 20


@contextmanager
def opened_checkpoint(repository: Repository, name: HubName, options: PullOptions) -> Iterator[Pull]:
    """Plan the pull of a checkpoint; its headers are kept until the block ends. See `pulling.opened_pull`."""
    name = replace(name, outtype=name.outtype or DEFAULT_OUTTYPE)
    work = pull_folder(repository.cached.root, name)
    if (done := converted_model(repository.cached.root, name)) is not None:
        if work.exists():
            _forget(repository, name, work)
        yield DonePull(repository, name, done)
        return
    made = [path for path in (work, *work.parents) if not path.exists()]
    work.mkdir(parents=True, exist_ok=True)
    outlines = Path(tempfile.mkdtemp(prefix="outlines-", dir=work))
    try:
        yield CheckpointPull(_parts(repository, name, options, outlines), name, options, work)
    finally:
        shutil.rmtree(outlines, ignore_errors=True)
        _remove_if_empty(work, work.parent, *made)


def _forget(repository: Repository, name: HubName, work: Path) -> None:
    """Remove what a process left that was killed after its conversion."""
    with repository.cached.lock(f"pull-{name.outtype}"):
        FetchedFiles(work / "fetched", repository.cached.root).remove()
        shutil.rmtree(work, ignore_errors=True)
        _remove_if_empty(work.parent)


def _remove_if_empty(*folders: Path) -> None:
    for folder in folders:
        with suppress(OSError):  # something is kept in it, or it is gone
            folder.rmdir()


def _parts(repository: Repository, name: HubName, options: PullOptions, outlines: Path) -> list[Part]:
    """Checkpoint; base model, under an adapter."""
    checkpoint = outlined_part(repository, outlines, weights=_weights_of(repository, name))
    base = checkpoint.config.get("base_model_name_or_path") if checkpoint.is_adapter else None
    return [checkpoint, outlined_part(_further(base, options), outlines)] if base else [checkpoint]


def _weights_of(repository: Repository, name: HubName) -> list[str]:
    """The files of a further checkpoint in a repository; none where the main one is meant."""
    model = published_as(name.repository, name.variant) if name.variant else None
    if model is None:
        return []
    if not (found := variant_files(repository.files, model.weights)):
        there = ", ".join(path for path in repository.files if path.endswith((".bin", ".safetensors", ".pt"))) or "none"
        raise ModelNotFoundError(
            f"{name}: expected weights named {model.weights} in {name.repository}, got {there}; "
            "name another model, or download the file and give it to `palo-cpp convert`"
        )
    return found[:1]


def _further(repository: object, options: PullOptions) -> Repository:
    hub = options.hub
    return open_repository(str(repository), download_root=hub.download_root, token=hub.token)


class DonePull:
    """A checkpoint that was converted to this type before; see `pulling.Pull`."""

    def __init__(self, repository: Repository, name: HubName, paths: ModelPaths) -> None:
        self._paths = paths
        n_bytes = sum(path.stat().st_size for path in (paths.text, paths.mmproj) if path)
        self.plan = PullPlan(name, (), converted_folder(repository.cached.root, name), 0, 0, n_bytes)

    def run(self, watch: Watch) -> ModelPaths:  # noqa: ARG002  # there is nothing to watch
        """It is here."""
        return self._paths


class CheckpointPull:
    """See `pulling.Pull`.

    Args:
        parts: the checkpoint and, under an adapter, its base model; the vision tower is added where they lack it.
        name: of the model, with its type.
        options: how it is pulled.
        work: folder for what outlasts a killed process.

    Raises:
        PaloError: the checkpoint cannot be converted.
    """

    def __init__(self, parts: list[Part], name: HubName, options: PullOptions, work: Path) -> None:
        self._name, self._options, self._work = name, options, work
        self._parts = parts
        self._tower: Part | None = None
        self._root = parts[0].repository.cached.root
        self._output = converted_folder(self._root, name)
        self.plan = self._planned(self._find_tower())

    def _find_tower(self) -> Conversion:
        """Plan with as little of the tower's repository as the checkpoint asks for: nothing, its sizes, its weights."""
        with suppress(ModelNotFoundError):  # if something else is missing, the last attempt says so again
            return self._convert(is_plan=True)
        outlines, tower = self._parts[0].folder.parent, _further(self._parts[0].tower, self._options)
        with suppress(ModelNotFoundError):
            self._tower = outlined_part(tower, outlines, with_weights=False)
            return self._convert(is_plan=True)
        self._tower = outlined_part(tower, outlines)
        return self._convert(is_plan=True)

    @property
    def _all_parts(self) -> list[Part]:
        return [*self._parts, self._tower] if self._tower else self._parts

    def _planned(self, conversion: Conversion) -> PullPlan:
        downloads = tuple(part.download for part in self._all_parts)
        n_bytes_result = conversion.plan.n_bytes_needed
        n_bytes_here = sum(map(n_bytes_on_disk, self._unfinished.glob("*")))
        n_bytes_peak = n_bytes_result - n_bytes_here + self._n_bytes_of_sources(conversion)
        repository, path = self._parts[0].repository, max(self._parts[0].paths, key=self._size)
        return PullPlan(
            name=self._name,
            downloads=downloads,
            folder=self._output,
            n_bytes_result=n_bytes_result,
            n_bytes_peak=max(0, n_bytes_peak),
            n_bytes_memory=conversion.plan.run_memory_bytes,
            measure=lambda: measured_speed(repository, path),
            warnings=tuple(conversion.plan.warnings),
        )

    def _size(self, path: str) -> int:
        return self._parts[0].repository.files[path].size

    def _n_bytes_of_sources(self, conversion: Conversion) -> int:
        """Most that the checkpoint's files take of the disk at once, those that are here not counted."""
        from palo_cpp.convert.reading_order import most_bytes_at_once, reading_steps

        if not self._options.is_low_disk:
            return sum(part.download.n_bytes_missing for part in self._all_parts)
        missing = sizes(self._all_parts)
        return most_bytes_at_once(reading_steps(conversion.plan.files), missing.__getitem__)

    def run(self, watch: Watch) -> ModelPaths:
        """Fetch and convert; another process that does so already is waited for."""
        with self._parts[0].repository.cached.lock(f"pull-{self._name.outtype}"):
            return converted_model(self._root, self._name) or self._run(watch)

    def _run(self, watch: Watch) -> ModelPaths:
        self._check_room()
        fetched = FetchedFiles(self._work / "fetched", self._root)
        shards = CheckpointShards(self._all_parts, fetched, is_low_disk=self._options.is_low_disk, watch=watch)
        if not self._options.is_low_disk:
            shards.fetch_all()
        done = self._convert(shards, watch)
        if self._options.is_kept:
            for part in self._all_parts:
                fetch(part.repository, part.paths)
        else:
            fetched.remove()
        write_sums(self._output, done.paths.values())
        shutil.rmtree(self._work)  # outlines of processes that were killed, too
        return ModelPaths(done.model_path, done.mmproj_path)

    @property
    def _unfinished(self) -> Path:
        return self._work / "unfinished"

    def _convert(
        self, shards: SourceFiles | None = None, watch: Watch | None = None, *, is_plan: bool = False
    ) -> Conversion:
        from palo_cpp.convert.conversion import Resumption, convert_checkpoint
        from palo_cpp.convert.families import Companions

        folders = [part.folder for part in self._parts]
        companions = Companions(self._tower.folder if self._tower else None, *folders[1:])
        return convert_checkpoint(
            folders[0],
            self._output,
            companions,
            {"text": str(self._name.outtype).lower(), "mmproj": "f16"},
            name=self._name.title if self._name.variant else None,
            dry_run=is_plan,
            progress=watch.convert if watch else None,
            files=shards,
            resumption=None if is_plan else Resumption(self._unfinished, _source_id(self._all_parts)),
        )

    def _check_room(self) -> None:
        needed, free = self.plan.n_bytes_peak + _MARGIN_BYTES, free_bytes(self._work)
        if free < needed:
            less = "" if self._options.is_low_disk else "; --low-disk needs less"
            raise DownloadError(
                f"{self._output}: expected {needed / _GIB:.1f} GiB of free space for {self._name}, got "
                f"{free / _GIB:.1f} GiB{less}; free some, or set HF_HOME to a folder on another disk"
            )


def _source_id(parts: Sequence[Part]) -> str:
    """Says which bytes the files have."""
    files = [f"{part.repository.name}/{f.path} {f.etag} {f.size}" for part in parts for f in part.download.files]
    return hashlib.sha256("\n".join(files).encode()).hexdigest()
