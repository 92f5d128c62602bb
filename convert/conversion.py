"""A checkpoint -> GGUF files: which ones, and what is in them, its family says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from palo_cpp.errors import ArgumentError
from palo_cpp.partial_files import partial_files

from .checkpoint import CheckpointFolder, base_folder
from .families import Companions, Model, OutputFile, family_of, family_of_folder
from .file_types import FILE_TYPES, UNQUANTIZED
from .gguf_output import GgufOutput, pair_id, set_pair_id
from .journal import Journal, fingerprint
from .json_file import Config
from .model_card import ModelCard, model_card, package_version
from .plan import Plan, make_plan
from .progress import ProgressCallback, ProgressCounter
from .reading_order import FilesHere, SourceFiles, Step, reading_steps

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


@dataclass(frozen=True)
class Resumption:
    """How a conversion outlasts its process.

    Attributes:
        folder: unfinished files stay there, and the next conversion of the same source goes on with them.
        source_id: says which bytes the source has.
    """

    folder: Path
    source_id: str


def convert_checkpoint(
    folder: Path,
    output: Path,
    companions: Companions,
    types: dict[str, str],
    *,
    name: str | None,
    dry_run: bool = False,
    progress: ProgressCallback | None = None,
    files: SourceFiles | None = None,
    resumption: Resumption | None = None,
) -> Conversion:
    """See `palo_cpp.convert.convert`, which this does.

    Args:
        folder: of the checkpoint, or one of several files of weights in it.
        output: folder for the files.
        companions: further folders.
        types: of the files by their role.
        name: of the model.
        dry_run: only make the plan.
        progress: is called after each tensor.
        files: brings the source's files when they are needed; by default they lie in their folders.
        resumption: where unfinished files stay; by default they go with a failure.
    """
    checkpoint = CheckpointFolder(folder)
    family = family_of_folder(checkpoint) or family_of(_deciding_config(checkpoint, companions))
    model = family.open(checkpoint, companions)
    card = model_card(checkpoint, model.config, name, family.published)

    def begin(file: OutputFile, outtype: str) -> gguf.GGUFWriter:
        return _writer(model, card, file, outtype)

    plan = make_plan(folder, card.name, model, types, begin)
    _check_output(model, output)
    if not dry_run:
        kept = None if resumption is None else resumption.folder
        source_id = "" if resumption is None else resumption.source_id
        with partial_files(output, plan.n_bytes_needed, kept) as partial:
            journal = Journal(kept, fingerprint(plan, source_id, package_version()))
            outputs = {
                file.role: GgufOutput(partial.new(file.file_name), begin(file.output, file.outtype), file.tensors)
                for file in plan.files
            }
            _write(plan, outputs, files or FilesHere(), journal, progress)
            partial.publish({outputs[file.role].path: file.file_name for file in plan.files})
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


def _write(
    plan: Plan, outputs: dict[str, GgufOutput], files: SourceFiles, journal: Journal, report: ProgressCallback | None
) -> None:
    steps = reading_steps(plan.files)
    progress = ProgressCounter(report, len(steps), plan.n_bytes_needed)
    opened: set[Path] = set()
    new: dict[str, str] = {}
    try:
        for step in steps:
            if step.key not in journal.digests:
                _open(step, files, opened)
                new[step.key] = outputs[step.role].write(step.tensor)
            progress.add(1, step.tensor.n_bytes, step.tensor.spec.gguf)
            if opened.intersection(step.closes):
                for output in outputs.values():
                    output.sync()
                journal.add(new)
                new = {}
            for path in opened.intersection(step.closes):
                files.close(path)
    finally:
        for output in outputs.values():
            output.close()
    in_order = [journal.digests[f"{file.role}/{tensor.spec.gguf}"] for file in plan.files for tensor in file.tensors]
    for output in outputs.values():
        set_pair_id(output.path, pair_id(in_order))


def _open(step: Step, files: SourceFiles, opened: set[Path]) -> None:
    for path in step.tensor.paths:
        if path not in opened:
            files.open(path)
            opened.add(path)


def _writer(model: Model, card: ModelCard, file: OutputFile, outtype: str) -> gguf.GGUFWriter:
    """The keys of a file: general ones, then its family's."""
    import gguf

    writer = gguf.GGUFWriter(None, file.kind.architecture)
    writer.add_type(file.kind.gguf_type)
    card.add_to(writer)
    writer.add_languages(list(model.languages))
    writer.add_file_type(FILE_TYPES[outtype][0])
    if outtype not in UNQUANTIZED:
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    file.add_keys(writer)
    return writer
