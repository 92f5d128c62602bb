"""A checkpoint -> GGUF files: which ones, and what is in them, its family says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from palo_cpp.errors import ArgumentError
from palo_cpp.partial_files import partial_files

from .checkpoint import CheckpointFolder, base_folder
from .families import Companions, Model, family_of
from .file_types import FILE_TYPES
from .gguf_output import PairHash, set_pair_id, write_tensors
from .json_file import Config
from .model_card import ModelCard, model_card
from .plan import Plan, PlannedFile, make_plan
from .progress import ProgressCallback, ProgressCounter
from .quantization import quantize_text

if TYPE_CHECKING:
    import gguf


@dataclass(frozen=True)
class Conversion:
    """Result of `convert`.

    Attributes:
        plan: what was, or with `dry_run` would be, done.
        paths: role of a file, as `text` or `mmproj` -> the file.
    """

    plan: Plan
    paths: dict[str, Path]

    @property
    def model_path(self) -> Path:
        """File of the language model."""
        return self.paths["text"]

    @property
    def mmproj_path(self) -> Path:
        """File of vision tower and projector."""
        return self.paths["mmproj"]


def convert_checkpoint(
    folder: Path,
    output: Path,
    companions: Companions,
    types: dict[str, str],
    *,
    name: str | None,
    dry_run: bool,
    progress: ProgressCallback | None,
) -> Conversion:
    """See `palo_cpp.convert.convert`, which this does; `types` are those of the files by their role."""
    checkpoint = CheckpointFolder(folder)
    family = family_of(_deciding_config(checkpoint, companions))
    model = family.open(checkpoint, companions)
    card = model_card(folder, model.config, name, family.published)
    plan = make_plan(folder, card.name, model, types)
    _check_output(model, output)
    if not dry_run:
        _write(model, card, plan, output, progress)
    return Conversion(plan, {file.role: output / file.file_name for file in plan.files})


def _deciding_config(checkpoint: CheckpointFolder, companions: Companions) -> Config:
    """The config.json that names the model; PEFT's adapters have none of their own."""
    if checkpoint.adapter is None or checkpoint.holds("config.json"):
        return checkpoint.config
    return base_folder(checkpoint, companions.base).config


def _check_output(model: Model, output: Path) -> None:
    """The source is never touched, so nothing is written into its folders."""
    resolved = output.resolve()
    for folder in model.folders:
        if resolved == folder or folder in resolved.parents:
            raise ArgumentError(
                f"{output}: lies inside the source {folder}, which is never changed; choose another folder"
            )
    if resolved.exists() and not resolved.is_dir():
        raise ArgumentError(f"{output}: expected a folder, got a file; choose another name")


def _write(model: Model, card: ModelCard, plan: Plan, output: Path, report: ProgressCallback | None) -> None:
    quantized = [file for file in plan.files if file.is_quantized_afterwards]
    n_tensors = sum(len(file.tensors) for file in (*plan.files, *quantized))
    n_bytes = sum(file.n_bytes_written for file in (*plan.files, *quantized))
    progress, pair_hash = ProgressCounter(report, n_tensors, n_bytes), PairHash()
    with partial_files(output, plan.n_bytes_needed) as partial:
        paths = {file.role: partial.new(file.file_name) for file in plan.files}
        for file in plan.files:
            write_tensors(paths[file.role], _writer(model, card, file), file.tensors, pair_hash, progress)
        for path in paths.values():
            set_pair_id(path, pair_hash.hexdigest())
        for file in quantized:
            unquantized, paths[file.role] = paths[file.role], partial.new(file.file_name)
            quantize_text(unquantized, paths[file.role], file.outtype, n_threads=0, progress=progress)
        partial.publish({paths[file.role]: file.file_name for file in plan.files})


def _writer(model: Model, card: ModelCard, file: PlannedFile) -> gguf.GGUFWriter:
    """The keys of a file: general ones, then its family's."""
    import gguf

    writer = gguf.GGUFWriter(None, file.output.kind.architecture)
    writer.add_type(file.output.kind.gguf_type)
    card.add_to(writer)
    writer.add_languages(list(model.languages))
    writer.add_file_type(FILE_TYPES[file.written_type][0])
    file.output.add_keys(writer)
    return writer
