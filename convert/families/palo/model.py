"""An opened checkpoint of the family: what its two files are made from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from palo_cpp.errors import ModelFormatError
from palo_cpp.languages.languages import LANGUAGES

from ...checkpoint import CheckpointFolder
from ...json_file import Config
from ...stored_tensor import Tensors
from ...token_table import TokenTable
from ...tokenizer import read_tokenizer
from ..family import Companions, OutputFile
from .files import MMPROJ, TEXT, add_mmproj_keys, add_text_keys
from .names import drop_reason
from .sizes import Projector, TextSizes, VisionSizes, read_projector, text_sizes, vision_sizes
from .sources import open_source
from .tensor_rows import projector_specs, text_specs, vision_specs
from .tower import add_tower, open_tower

_log = logging.getLogger("palo_cpp")


@dataclass
class PaloCheckpoint:
    """Everything that the two files are made from: a `families.family.Model`.

    Attributes:
        folder: the source folder.
        tokenizer_folder: where its tokenizer lies.
        config: its config.json, as LLaVA writes one.
        text: sizes of the decoder.
        vision: sizes of the tower.
        projector: kind and widths of the projector.
        tensors: canonical names -> tensors of decoder, tower and projector.
        tokens: the vocabulary.
        preprocess: `pad` or `crop`.
        warnings: what the user should know, one sentence each.
    """

    languages = tuple(LANGUAGES)

    folder: Path
    tokenizer_folder: Path
    config: Config
    text: TextSizes
    vision: VisionSizes
    projector: Projector
    tensors: Tensors
    tokens: TokenTable
    preprocess: str
    warnings: list[str]

    @property
    def folders(self) -> set[Path]:
        """Every folder that something is read from."""
        paths = {path.parent for tensor in self.tensors.values() for path in tensor.paths}
        return {path.resolve() for path in paths | {self.folder, self.tokenizer_folder}}

    @property
    def files(self) -> tuple[OutputFile, ...]:
        """Decoder, and tower with projector."""
        vision, projector = self.vision, self.projector
        return (
            OutputFile(TEXT, text_specs(self.text), lambda writer: add_text_keys(writer, self.text, self.tokens)),
            OutputFile(
                MMPROJ,
                vision_specs(vision) + projector_specs(projector),
                lambda writer: add_mmproj_keys(writer, vision, projector, self.preprocess),
            ),
        )

    @property
    def facts(self) -> dict[str, str | int]:
        """Kind of the projector, and image embeddings for one image."""
        n_image_tokens = self.projector.n_image_tokens(self.vision.n_patches_per_side)
        return {"projector": self.projector.source_type, "n_image_tokens": n_image_tokens}

    @property
    def summary(self) -> str:
        """The same in words."""
        return "projector {projector}, {n_image_tokens} image tokens".format(**self.facts)

    def drop_reason(self, name: str) -> str | None:
        """Why a tensor is not needed, or None if nothing is known of it."""
        if name == "lm_head.weight" and self.text.tied_embeddings:
            return "the same weights as model.embed_tokens (tie_word_embeddings)"
        return drop_reason(name, self.vision)

    def kv_cache_bytes(self, n_ctx: int) -> int:
        """Keys and values in f16."""
        return n_ctx * self.text.n_layer * self.text.n_head_kv * self.text.head_dim * 2 * 2


def open_checkpoint(folder: CheckpointFolder, companions: Companions) -> PaloCheckpoint:
    """Find, list and check everything a conversion needs; see `Family.open`.

    Args:
        folder: the source.
        companions: folders of the CLIP tower, where it is not inside the checkpoint, and of the base LLaMA, for a LoRA
            adapter or a lone projector.
    """
    source = open_source(folder, companions.base)
    config = source.config
    text = text_sizes(config)
    tower = open_tower(source, companions.vision_tower)
    tensors, warnings = add_tower(source.tensors, config, tower)
    vision = vision_sizes(tower.config, config.get("mm_vision_select_layer", -2), tower.preprocessor)
    warnings = [*source.warnings, *warnings]
    for warning in warnings:
        _log.warning("%s", warning)
    tokens, tokenizer_folder = read_tokenizer([folder.path for folder in source.folders], text.n_vocab)
    return PaloCheckpoint(
        folder=folder.path,
        tokenizer_folder=tokenizer_folder,
        config=config,
        text=text,
        vision=vision,
        projector=read_projector(config, vision.n_embd, text.n_embd),
        tensors=source.with_adapter(tensors),
        tokens=tokens,
        preprocess=_preprocess(config),
        warnings=[*warnings, *tokens.warnings],
    )


def _preprocess(config: Config) -> str:
    """PALO trains with `pad`; another ratio, where the config gives one, means CLIP's own centre crop."""
    ratio = config.get("image_aspect_ratio", "pad")
    if ratio == "pad":
        return "pad"
    if ratio in ("square", "crop", None):
        return "crop"
    raise ModelFormatError(f"{config.path}: image_aspect_ratio: expected pad or square, got {ratio!r}")
