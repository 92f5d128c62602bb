"""`palo-cpp pull` of a checkpoint: fetched with what it is built on, converted, and removed again."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palo_cpp.cli.downloading import DownloadBars, DownloadPlan, confirm, describe_plans, try_it
from palo_cpp.cli.progress import TensorProgress
from palo_cpp.errors import ModelFormatError
from palo_cpp.models.file_choice import DEFAULT_OUTTYPE

if TYPE_CHECKING:
    from palo_cpp.hub.repository import Repository
    from palo_cpp.models.hub_models import HubOptions
    from palo_cpp.models.names import HubName

_DEFAULT_TOWER = "openai/clip-vit-large-patch14-336"


@dataclass(frozen=True)
class _Part:
    """A repository that the model is made of.

    Attributes:
        plan: what is fetched of it.
        new: paths of the files that were not in the cache before, and that may go after the conversion.
    """

    plan: DownloadPlan
    new: tuple[str, ...]


@dataclass(frozen=True)
class _Parts:
    """All of them; base only under a LoRA."""

    checkpoint: _Part
    base: _Part | None
    tower: _Part

    @property
    def plans(self) -> list[DownloadPlan]:
        return [part.plan for part in (self.checkpoint, self.base, self.tower) if part]


def pull_checkpoint(
    repository: Repository, name: HubName, options: HubOptions, *, yes: bool, is_plan: bool, is_kept: bool
) -> dict[str, Any]:
    """Fetch a checkpoint and what it is built on, and convert it.

    Returns:
        What to print: as text under "text", and the rest for JSON.
    """
    from palo_cpp.models.hub_models import converted_folder, converted_model

    name = replace(name, outtype=name.outtype or DEFAULT_OUTTYPE)
    if (done := converted_model(repository.cached.root, name)) is not None and not is_plan:
        return {"outtype": name.outtype, "paths": [str(done.text), str(done.mmproj)], "text": try_it(name)}
    parts = _parts(repository, options)
    output = converted_folder(repository.cached.root, name.repository)
    summary: dict[str, Any] = {"outtype": name.outtype, "parts": [plan.to_dict() for plan in parts.plans]}
    text = describe_plans(parts.plans, repository.cached.root)
    text += f"\nconverted to {name.outtype}, in {output}" + (
        "" if is_kept else "; the checkpoint is removed after that"
    )
    if is_plan:
        return {**summary, "text": text}
    confirm(text, yes=yes)
    paths = _fetch_and_convert(parts, output, str(name.outtype).lower())
    if not is_kept:
        _remove(parts)
    return {**summary, "paths": paths, "text": try_it(name)}


def _parts(repository: Repository, options: HubOptions) -> _Parts:
    checkpoint = _part(repository)
    config = _configuration(repository)
    base = config.get("base_model_name_or_path") if "adapter_config.json" in repository.files else None
    tower = config.get("mm_vision_tower") or config.get("vision_tower") or _tower_of(repository.name)
    return _Parts(checkpoint, _part(_open(base, options)) if base else None, _part(_open(tower, options)))


def _part(repository: Repository) -> _Part:
    from palo_cpp.models.checkpoint_files import configuration_files, weight_files

    paths = [*configuration_files(repository.files), *weight_files(repository.files)]
    plan = DownloadPlan(repository, [repository.files[path] for path in paths])
    return _Part(plan, tuple(path for path in paths if not repository.has(path)))


def _configuration(repository: Repository) -> dict[str, Any]:
    """What the small files say; they are fetched for that, also for a plan."""
    from palo_cpp.hub.repository import fetch

    names = [path for path in ("config.json", "adapter_config.json") if path in repository.files]
    values: dict[str, Any] = {}
    for path in fetch(repository, names):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ModelFormatError(f"{path.name}: expected JSON, got something else; tell who publishes it") from error
        values |= found if isinstance(found, dict) else {}
    return values


def _tower_of(checkpoint: str) -> str:
    from palo_cpp.models.names import published_as

    published = published_as(checkpoint)
    return published.vision_tower if published else _DEFAULT_TOWER


def _open(repository: Any, options: HubOptions) -> Repository:
    from palo_cpp.hub.repository import open_repository

    return open_repository(str(repository), download_root=options.download_root, token=options.token)


def _fetch_and_convert(parts: _Parts, output: Path, outtype: str) -> list[str]:
    from palo_cpp.convert import convert

    with DownloadBars() as bars:
        checkpoint = _fetch(parts.checkpoint, bars)
        base = _fetch(parts.base, bars) if parts.base else None
        tower = _fetch(parts.tower, bars)
    with TensorProgress() as progress:
        done = convert(checkpoint, output, vision_tower=tower, base=base, outtype=outtype, progress=progress.update)
    return [str(done.model_path), str(done.mmproj_path)]


def _fetch(part: _Part, bars: DownloadBars) -> Path:
    from palo_cpp.hub.repository import fetch

    repository = part.plan.repository
    bars.begin()
    fetch(repository, [file.path for file in part.plan.files], bars.update)
    return repository.cached.snapshot(repository.commit)


def _remove(parts: _Parts) -> None:
    """Remove what this pull fetched; what was there before belongs to somebody else."""
    from palo_cpp.hub.contents import remove_links

    for part in (parts.checkpoint, parts.base, parts.tower):
        if part:
            repository = part.plan.repository
            remove_links(repository.cached, [repository.cached.path(repository.commit, path) for path in part.new])
