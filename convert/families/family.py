"""What the converter has to know of a family of models. Whatever is outside of `families` is the same for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..checkpoint import CheckpointFolder
from ..json_file import Config
from ..stored_tensor import Shape, Tensors
from ..tensor_spec import TensorSpec

if TYPE_CHECKING:
    import gguf


@dataclass(frozen=True)
class Companions:
    """Folders that a checkpoint may need beside its own; None where the user gave none.

    Attributes:
        vision_tower: of the vision tower, where its weights are not inside the checkpoint.
        base: of the base model, for a LoRA adapter or what else was trained over it.
    """

    vision_tower: Path | None = None
    base: Path | None = None


def _no_own_types(_specs: Sequence[TensorSpec], _outtype: str) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class FileKind:
    """One of the files that a model of the family consists of.

    Attributes:
        role: what it is for: `text` takes its type from --outtype, `mmproj` from --mmproj-outtype.
        architecture: `general.architecture`.
        gguf_type: `general.type`.
        name: of the file, with `{name}` for the model's and `{type}` for that of its weights.
        types: that its weights can be written in.
        is_llama: llama.cpp knows the architecture, so its quantizer writes what is not in `UNQUANTIZED`.
        precision: of a tensor, by its name and shape in the file: `TensorSpec.precision`.
        own_types: types of the tensors that do not have the file's own, by their names; for mixtures that llama.cpp's
            quantizer does not make.
    """

    role: str
    architecture: str
    gguf_type: str
    name: str
    types: tuple[str, ...]
    is_llama: bool
    precision: Callable[[str, Shape], str]
    own_types: Callable[[Sequence[TensorSpec], str], Mapping[str, str]] = _no_own_types


@dataclass(frozen=True)
class OutputFile:
    """One file that a checkpoint becomes.

    Attributes:
        kind: which of the family's files it is.
        specs: its tensors, in this order; they say where each comes from.
        add_keys: writes its keys: sizes, and where the file has them tokenizer and chat template.
    """

    kind: FileKind
    specs: list[TensorSpec]
    add_keys: Callable[[gguf.GGUFWriter], None]


class Model(Protocol):
    """An opened checkpoint: its configurations and tables of contents are read and checked, its weights are not."""

    @property
    def config(self) -> Config:
        """The config.json that decides."""

    @property
    def folders(self) -> set[Path]:
        """Every folder that something is read from, resolved."""

    @property
    def tensors(self) -> Tensors:
        """All tensors by their canonical names, those that are not needed too."""

    @property
    def files(self) -> tuple[OutputFile, ...]:
        """What it becomes."""

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes for `general.languages`."""

    @property
    def facts(self) -> dict[str, str | int]:
        """What the plan says of it, for JSON."""

    @property
    def summary(self) -> str:
        """The same in a few words."""

    @property
    def warnings(self) -> list[str]:
        """What the user should know, one sentence each."""

    def drop_reason(self, name: str) -> str | None:
        """Why a tensor that no file takes is not needed, or None if nothing is known of it."""

    def kv_cache_bytes(self, n_ctx: int) -> int:
        """Memory that keys and values of so many tokens take when the model runs, in f16."""


class Family(Protocol):
    """A family of models.

    Attributes:
        name: for messages.
        model_types: values of `model_type` that its checkpoints have.
        published: hub repositories of its models, for folders that were downloaded without telling where from.
        kinds: the files that a model consists of.
    """

    name: str
    model_types: tuple[str, ...]
    published: tuple[str, ...]
    kinds: tuple[FileKind, ...]

    def recognizes(self, config: Config) -> bool:
        """Whether this is the config.json of one of its checkpoints."""

    def recognizes_folder(self, folder: CheckpointFolder) -> bool:
        """Whether a folder without config.json is one of its checkpoints."""

    def open(self, folder: CheckpointFolder, companions: Companions) -> Model:
        """Find, list and check everything a conversion needs.

        Raises:
            ModelNotFoundError: a folder or file is missing; the message says how to pass it.
            ModelFormatError: something in the files is wrong or not supported.
        """
