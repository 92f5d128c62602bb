"""An opened checkpoint of the family: what its files are made from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from palo_cpp.errors import ArgumentError, ModelFormatError, ModelNotFoundError
from palo_cpp.families.viscpm.tokenizer import BeeTokenizer

from ...checkpoint import CheckpointFolder, renamed
from ...json_file import Config
from ...listing import listed
from ...stored_tensor import Tensors
from ...weight_files import read_tensor_file
from ..family import Companions, OutputFile
from .files import TEXT, VISION, add_text_keys, add_vision_keys
from .names import canonical_name, drop_reason
from .sizes import EMBEDDING, QUERY, TextSizes, VisionSizes, text_sizes, vision_sizes
from .tensor_rows import text_specs, vision_specs
from .vocabulary import read_vocabulary

_log = logging.getLogger("palo_cpp")

MAIN_WEIGHTS = "pytorch_model.bin"
# Besides the main one: how the hub and the authors name further checkpoints of the same model.
_OTHER_WEIGHTS = ("pytorch_model.*.bin", "viscpm_chat_*.pt")
TERMS = (
    "VisCPM's authors let individuals use the weights, and anybody for research (General Model License); "
    "ask them before any other use"
)


@dataclass
class VisCpmCheckpoint:
    """Everything that the files are made from: a `families.family.Model`.

    Attributes:
        folder: the source folder.
        config: its config.json; empty where there is none.
        tensors: canonical names -> tensors.
        text: sizes of the language model.
        vision: sizes of the vision tower; None of a CPM-Bee without one.
        tokenizer: the vocabulary.
        warnings: what the user should know, one sentence each.
    """

    languages = ("zh", "en")

    folder: Path
    config: Config
    tensors: Tensors
    text: TextSizes
    vision: VisionSizes | None
    tokenizer: BeeTokenizer
    warnings: list[str]

    @property
    def folders(self) -> set[Path]:
        """Every folder that something is read from."""
        return {self.folder.resolve()}

    @property
    def files(self) -> tuple[OutputFile, ...]:
        """Language model, and vision tower with mapping where there are."""
        text = OutputFile(TEXT, text_specs(self.text), lambda writer: add_text_keys(writer, self.text, self.tokenizer))
        if (vision := self.vision) is None:
            return (text,)
        specs = vision_specs(vision, self.text.n_embd)
        return text, OutputFile(VISION, specs, lambda writer: add_vision_keys(writer, vision, self.text.n_embd))

    @property
    def facts(self) -> dict[str, str | int]:
        """Image embeddings for one image; 0 without a vision tower."""
        return {"n_image_tokens": self.vision.n_queries if self.vision else 0}

    @property
    def summary(self) -> str:
        """The same in words."""
        return f"{self.vision.n_queries} image tokens" if self.vision else "CPM-Bee without a vision tower"

    def drop_reason(self, name: str) -> str | None:
        """Why a tensor is not needed, or None if nothing is known of it."""
        return drop_reason(name)

    def kv_cache_bytes(self, n_ctx: int) -> int:
        """Keys and values in f16."""
        return n_ctx * self.text.n_layer * self.text.n_embd * 2 * 2


def is_checkpoint(folder: CheckpointFolder) -> bool:
    """Whether a folder without config.json holds one: a vocabulary, and weights of CPM-Bee."""
    if not folder.holds("vocab.txt") or not weight_files(folder):
        return False
    return EMBEDDING in map(canonical_name, _weights(folder))


def open_checkpoint(folder: CheckpointFolder, companions: Companions) -> VisCpmCheckpoint:
    """Find, list and check everything a conversion needs; see `Family.open`."""
    for option, given in (("--vision-tower", companions.vision_tower), ("--base", companions.base)):
        if given is not None:
            raise ArgumentError(f"{option}: expected none for VisCPM, whose checkpoint is whole; leave it out")
    config = folder.config if folder.holds("config.json") else Config(folder.path / "config.json", {})
    # The repository that it names was renamed before it was published.
    config = Config(config.path, {key: value for key, value in config.values.items() if key != "_name_or_path"})
    tensors = renamed(_weights(folder), canonical_name)
    warnings = [TERMS, *_other_weights(folder)]
    for warning in warnings[1:]:
        _log.warning("%s", warning)
    text = text_sizes(tensors, config)
    has_vision = any(name.startswith((QUERY, "vpm.", "mapping.")) for name in tensors)
    return VisCpmCheckpoint(
        folder=folder.path,
        config=config,
        tensors=tensors,
        text=text,
        vision=vision_sizes(tensors, config) if has_vision else None,
        tokenizer=read_vocabulary(folder.path, text.n_vocab),
        warnings=warnings,
    )


def weight_files(folder: CheckpointFolder) -> list[Path]:
    """Files of weights, the one that counts first: the file that the user named, or the main one."""
    if folder.weights_file is not None:
        return [folder.weights_file]
    others = sorted(path for pattern in _OTHER_WEIGHTS for path in folder.path.glob(pattern) if path.is_file())
    return [folder.path / MAIN_WEIGHTS, *others] if folder.holds(MAIN_WEIGHTS) else others


def _weights(folder: CheckpointFolder) -> Tensors:
    paths = weight_files(folder)
    if not paths:
        raise ModelNotFoundError(f"{folder.path}: expected weights in {MAIN_WEIGHTS}, got none; fetch it there")
    if paths[0].name != MAIN_WEIGHTS and len(paths) > 1:
        names = listed([path.name for path in paths])
        raise ModelFormatError(
            f"{folder.path}: expected one file of weights, got {names}; give the path of one instead"
        )
    return read_tensor_file(paths[0])


def _other_weights(folder: CheckpointFolder) -> list[str]:
    """Say which checkpoint is taken where there are several."""
    first, *others = weight_files(folder)
    if not others:
        return []
    names = listed([path.name for path in others])
    return [f"{folder.path}: {first.name} is converted; for {names} give the path of the file instead of the folder"]
