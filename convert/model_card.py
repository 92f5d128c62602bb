"""Name, origin and licence of a model, as far as the source folder says."""

from __future__ import annotations

import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from palo_cpp.errors import ArgumentError

from .checkpoint import CheckpointFolder
from .json_file import Config

if TYPE_CHECKING:
    import gguf

_HUB_FOLDER = re.compile(r"models--([\w.-]+?)--([\w.-]+)")  # huggingface_hub's cache layout
_VARIANT = re.compile(r"(?:pytorch_model\.|viscpm_chat_)(\w+?)(?:_checkpoint)?")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class ModelCard:
    """What is written into both files about where the model comes from.

    Attributes:
        name: of the model, usable as a file name.
        repository: `ORGANIZATION/NAME` on the hub, or None.
        license: identifier as the hub spells it; `unknown` where the source says nothing.
    """

    name: str
    repository: str | None
    license: str

    def add_to(self, writer: gguf.GGUFWriter) -> None:
        """Write the general keys."""
        writer.add_name(self.name)
        writer.add_license(self.license)
        if self.repository is not None:
            url = f"https://huggingface.co/{self.repository}"
            writer.add_organization(self.repository.split("/")[0])
            writer.add_source_url(url)
            writer.add_source_repo_url(url)
        writer.add_string("palo.version", package_version())


def model_card(checkpoint: CheckpointFolder, config: Config, name: str | None, published: tuple[str, ...]) -> ModelCard:
    """Collect the card.

    Args:
        checkpoint: its folder, and the file in it that the user named.
        config: its config.json.
        name: wished by the user; by default the repository's or the folder's, with what distinguishes the file.
        published: hub repositories, for folders that were downloaded without telling where from.
    """
    folder = checkpoint.path
    repository = _repository(folder, config, published)
    chosen = name
    if chosen is None:
        chosen = (repository or folder.resolve().name).split("/")[-1] + _variant(checkpoint.weights_file)
    safe = re.sub(r"[^\w.+-]+", "-", chosen).strip("-.")
    if name is not None and safe != name:
        raise ArgumentError(f"--name: expected letters, digits and . _ + - (it becomes a file name), got {name!r}")
    return ModelCard(safe or "model", repository, _license(folder / "README.md"))


def _variant(weights: Path | None) -> str:
    """`pytorch_model.v1.bin` -> `-v1`, for a folder with several checkpoints."""
    match = _VARIANT.fullmatch("" if weights is None else weights.stem)
    return f"-{match[1]}" if match else ""


def _repository(folder: Path, config: Config, published: tuple[str, ...]) -> str | None:
    for part in reversed(folder.resolve().parts):
        if match := _HUB_FOLDER.fullmatch(part):
            return f"{match[1]}/{match[2]}"
    for repository in published:
        if repository.split("/")[1].lower() == folder.resolve().name.lower():
            return repository
    named = config.get("_name_or_path")
    is_repository = isinstance(named, str) and _REPOSITORY.fullmatch(named) and not (folder / named).exists()
    return named if is_repository and not str(named).startswith(".") else None


def _license(card: Path) -> str:
    """`license:` of the YAML block that begins a hub model card."""
    text = card.read_text(encoding="utf-8", errors="replace")[:20_000] if card.is_file() else ""
    block = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    found = re.search(r"^license:\s*([\w.+-]+)\s*$", block[1], re.MULTILINE) if block else None
    return found[1] if found else "unknown"


def package_version() -> str:
    """Of palo_cpp, which made the files."""
    try:
        return importlib.metadata.version("palo-cpp")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
