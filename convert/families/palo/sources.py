"""A source folder in any published layout -> one flat table of tensors, the configurations and the tokenizer's folder.

The layouts: a whole checkpoint; a LoRA adapter or a lone projector over a base model; the vision tower inside or apart.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palo_cpp.errors import ModelFormatError, ModelNotFoundError
from palo_cpp.languages.languages import LANGUAGES

from ...checkpoint import CheckpointFolder, Tensors, base_folder, renamed
from ...json_file import Config
from ...lora import merge_lora
from ...stored_tensor import to_float32
from ...token_table import TokenTable
from ...tokenizer import read_tokenizer
from ..family import Companions, OutputFile
from .files import MMPROJ, TEXT, add_mmproj_keys, add_text_keys
from .names import canonical_name, drop_reason
from .sizes import KNOWN_TOWERS, Projector, TextSizes, VisionSizes, read_projector, text_sizes, vision_sizes
from .tensor_rows import projector_specs, text_specs, vision_specs

_log = logging.getLogger("palo_cpp")
_DEFAULT_TOWER = "openai/clip-vit-large-patch14-336"


@dataclass
class PaloCheckpoint:
    """Everything that the two files are made from: a `families.family.Model`.

    Attributes:
        folder: the source folder.
        config: its config.json.
        text: sizes of the decoder.
        vision: sizes of the tower.
        projector: kind and widths of the projector.
        tensors: canonical names -> tensors of decoder, tower and projector.
        tokenizer_folder: where the tokenizer lies.
        tokens: the vocabulary.
        preprocess: `pad` or `crop`.
        warnings: what the user should know, one sentence each.
    """

    languages = tuple(LANGUAGES)

    folder: Path
    config: Config
    text: TextSizes
    vision: VisionSizes
    projector: Projector
    tensors: Tensors
    tokenizer_folder: Path
    tokens: TokenTable
    preprocess: str
    warnings: list[str]

    @property
    def folders(self) -> set[Path]:
        """Every folder that something is read from."""
        paths = {part.path.parent for tensor in self.tensors.values() for part in _stored_parts(tensor)}
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


def _stored_parts(tensor: Any) -> list[Any]:
    return (
        [tensor]
        if hasattr(tensor, "path")
        else [p for t in (tensor.base, tensor.a, tensor.b) for p in _stored_parts(t)]
    )


def open_source(checkpoint: CheckpointFolder, companions: Companions) -> PaloCheckpoint:
    """Find and list everything a conversion needs; see `Family.open`.

    Args:
        checkpoint: the source folder.
        companions: folders of the CLIP tower, where it is not inside the checkpoint, and of the base LLaMA, for a LoRA
            adapter or a lone projector.
    """
    warnings: list[str] = []
    config, tensors, folders = _checkpoint(checkpoint, companions.base, warnings)
    _check_config(config)
    tower = _tower(checkpoint, config, companions.vision_tower)
    tensors = _with_tower(tensors, config, tower, warnings)
    vision = vision_sizes(
        _tower_config(config, tower),
        config.get("mm_vision_select_layer", -2),
        tower.json("preprocessor_config.json") if tower else None,
    )
    tensors = _merged(checkpoint, tensors)
    text = text_sizes(config)
    projector = read_projector(config, vision.n_embd, text.n_embd)
    for warning in warnings:
        _log.warning("%s", warning)
    tokens, tokenizer_folder = read_tokenizer(folders, text.n_vocab)
    return PaloCheckpoint(
        folder=checkpoint.path,
        config=config,
        text=text,
        vision=vision,
        projector=projector,
        tensors=tensors,
        tokenizer_folder=tokenizer_folder,
        tokens=tokens,
        preprocess=_preprocess(config),
        warnings=[*warnings, *tokens.warnings],
    )


def _checkpoint(folder: CheckpointFolder, base: Path | None, warnings: list[str]) -> tuple[Config, Tensors, list[Path]]:
    """Config, weights without tower and LoRA applied, and folders that may hold the tokenizer."""
    if folder.adapter is None and folder.has_weights:
        if base is not None:
            warnings.append(f"--base {base} is not needed: {folder.path} holds a whole checkpoint")
        return folder.config, _whole(folder), [folder.path]
    if folder.adapter is None and not folder.has_tensors("mm_projector"):
        raise ModelNotFoundError(
            f"{folder.path}: no weights; expected a checkpoint, a LoRA adapter or mm_projector.bin"
        )
    under = base_folder(folder, base)
    trained = folder.tensors("non_lora_trainables") if folder.adapter else None
    trained = trained or folder.tensors("mm_projector") or {}
    tensors = renamed(under.weights, canonical_name) | renamed(trained, canonical_name)
    return _config(folder, under), tensors, [folder.path, under.path]


def _whole(folder: CheckpointFolder) -> Tensors:
    """A checkpoint's weights; its projector may lie in a file of its own."""
    tensors = renamed(folder.weights, canonical_name)
    if not any(name.startswith("mm_projector.") for name in tensors):
        tensors |= renamed(folder.tensors("mm_projector") or {}, canonical_name)
    return tensors


def _merged(folder: CheckpointFolder, tensors: Tensors) -> Tensors:
    if folder.adapter is None:
        return tensors
    adapter = folder.tensors("adapter_model")
    if adapter is None:
        raise ModelNotFoundError(
            f"{folder.path}: adapter_config.json without adapter_model.safetensors or .bin; fetch it"
        )
    return merge_lora(tensors, adapter, folder.adapter, canonical_name)


def _config(folder: CheckpointFolder, base: CheckpointFolder) -> Config:
    """The adapter's config.json over the base's. An adapter may have none; it is not named after its base."""
    if folder.holds("config.json"):
        return Config(folder.config.path, base.config.values | folder.config.values)
    return Config(base.config.path, {key: value for key, value in base.config.values.items() if key != "_name_or_path"})


def _check_config(config: Config) -> None:
    expected: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
        ("mm_use_im_start_end", False, (False, None)),
        ("mm_vision_select_feature", "patch", ("patch",)),
        ("mm_patch_merge_type", "flat", ("flat", None)),
        ("attention_bias", False, (False, None)),
    )
    for key, default, allowed in expected:
        if (value := config.get(key, default)) not in allowed:
            known = " or ".join(str(a) for a in allowed if a is not None)
            raise ModelFormatError(f"{config.path}: {key}: expected {known}, got {value!r}")


def _preprocess(config: Config) -> str:
    """PALO trains with `pad`; another ratio, where the config gives one, means CLIP's own centre crop."""
    ratio = config.get("image_aspect_ratio", "pad")
    if ratio == "pad":
        return "pad"
    if ratio in ("square", "crop", None):
        return "crop"
    raise ModelFormatError(f"{config.path}: image_aspect_ratio: expected pad or square, got {ratio!r}")


def _tower_name(config: Config) -> str:
    return str(config.get("mm_vision_tower", config.get("vision_tower", _DEFAULT_TOWER)))


def _tower(folder: CheckpointFolder, config: Config, given: Path | None) -> CheckpointFolder | None:
    if given is None:
        return folder.named(_tower_name(config))
    return CheckpointFolder(given, "--vision-tower must name the folder of the tower")


def _tower_config(config: Config, tower: CheckpointFolder | None) -> Config:
    if tower is not None:
        return tower.config
    if isinstance(config.get("vision_config"), dict):
        return Config(config.path, config.get("vision_config"))
    if (known := KNOWN_TOWERS.get(_tower_name(config))) is not None:
        return Config(config.path, known)
    raise ModelNotFoundError(_how_to_pass_tower(config))


def _how_to_pass_tower(config: Config) -> str:
    name = _tower_name(config)
    return f"{config.path.parent}: needs the vision tower {name}; download it and pass its folder with --vision-tower"


def _with_tower(tensors: Tensors, config: Config, tower: CheckpointFolder | None, warnings: list[str]) -> Tensors:
    """Weights inside the checkpoint win over those of the tower's folder, for they may have been tuned."""
    inside = {name for name in tensors if name.startswith("vision_model.")}
    apart: Tensors = {}
    if tower is not None and (tower.has_weights or not inside):
        apart = renamed(tower.weights, canonical_name)
    if not inside and not apart:
        raise ModelNotFoundError(_how_to_pass_tower(config))
    if not inside:
        return tensors | apart
    differing = [name for name in sorted(inside & set(apart)) if _differ(tensors[name], apart[name])]
    if differing and tower is not None:
        warnings.append(
            f"{len(differing)} tensors of the vision tower differ between the checkpoint and {tower.path} "
            f"(as {differing[0]}); the checkpoint's are used"
        )
    return tensors


def _differ(a: Any, b: Any) -> bool:
    """Whether two tensors hold other values; f16, bf16 and f32 copies of one weight count as equal."""
    if a.shape != b.shape:
        return True
    if a.dtype.startswith(("I", "U")) or b.dtype.startswith(("I", "U")):
        return False  # computed buffers

    left, right = (to_float32(t.read(), t.dtype) for t in (a, b))
    coarsest = min((a.dtype, b.dtype), key=("BF16", "F16", "F32").index)
    tolerance = {"BF16": 2.0**-8, "F16": 2.0**-10, "F32": 0.0}[coarsest] if a.dtype != b.dtype else 0.0
    return not np.allclose(left, right, rtol=tolerance, atol=tolerance * 2.0**-14)
