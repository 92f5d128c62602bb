"""A source folder in any published layout -> one flat table of tensors, the configurations and the tokenizer's folder.

The layouts: a whole checkpoint; a LoRA adapter or a lone projector over a base model; the vision tower inside or apart.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from palo_cpp.errors import ModelFormatError, ModelNotFoundError

from ...checkpoint import (
    Tensors,
    first_file,
    has_weights,
    merge_lora,
    read_json,
    read_json_if_any,
    read_tensor_file,
    read_weights,
    with_canonical_names,
)
from .sizes import (
    KNOWN_TOWERS,
    MODEL_TYPES,
    Config,
    Projector,
    TextSizes,
    VisionSizes,
    projector,
    text_sizes,
    vision_sizes,
)

_log = logging.getLogger("palo_cpp")
_DEFAULT_TOWER = "openai/clip-vit-large-patch14-336"


@dataclass
class Source:
    """Everything that the two files are made from.

    Attributes:
        folder: the source folder.
        config: its config.json.
        text: sizes of the decoder.
        vision: sizes of the tower.
        projector: kind and widths of the projector.
        tensors: canonical names -> tensors of decoder, tower and projector.
        tokenizer_folder: where tokenizer.model lies.
        preprocess: `pad` or `crop`.
        warnings: what the user should know, one sentence each.
    """

    folder: Path
    config: Config
    text: TextSizes
    vision: VisionSizes
    projector: Projector
    tensors: Tensors
    tokenizer_folder: Path
    preprocess: str
    warnings: list[str] = field(default_factory=list)

    @property
    def folders(self) -> set[Path]:
        """Every folder that something is read from."""
        paths = {part.path.parent for tensor in self.tensors.values() for part in _stored_parts(tensor)}
        return {path.resolve() for path in paths | {self.folder, self.tokenizer_folder}}


def _stored_parts(tensor: Any) -> list[Any]:
    return (
        [tensor]
        if hasattr(tensor, "path")
        else [p for t in (tensor.base, tensor.a, tensor.b) for p in _stored_parts(t)]
    )


def open_source(folder: Path, vision_tower: Path | None, base: Path | None) -> Source:
    """Find and list everything a conversion needs; reads configurations and tables of contents only.

    Args:
        folder: the checkpoint.
        vision_tower: folder of the CLIP tower, where it is not inside the checkpoint.
        base: folder of the base LLaMA, for a LoRA adapter or a lone projector.

    Raises:
        ModelNotFoundError: a folder or file is missing; the message says how to pass it.
        ModelFormatError: something in the files is wrong or not supported.
    """
    if not folder.is_dir():
        raise ModelNotFoundError(f"{folder}: no such folder; expected a checkpoint with its config.json")
    warnings: list[str] = []
    config, tensors, tokenizer_folder = _checkpoint(folder, base, warnings)
    _check_config(config)
    tower_folder = _tower_folder(folder, config, vision_tower)
    tensors = _with_tower(tensors, config, tower_folder, warnings)
    vision = vision_sizes(
        _tower_config(config, tower_folder),
        config.get("mm_vision_select_layer", -2),
        read_json_if_any(tower_folder / "preprocessor_config.json") if tower_folder else None,
    )
    tensors = _merged(folder, tensors)
    text = text_sizes(config)
    source = Source(
        folder=folder,
        config=config,
        text=text,
        vision=vision,
        projector=projector(config, vision.n_embd, text.n_embd),
        tensors=tensors,
        tokenizer_folder=tokenizer_folder,
        preprocess=_preprocess(config),
        warnings=warnings,
    )
    for warning in warnings:
        _log.warning("%s", warning)
    return source


def _checkpoint(folder: Path, base: Path | None, warnings: list[str]) -> tuple[Config, Tensors, Path]:
    """Config, weights without tower and LoRA applied, and the tokenizer's folder."""
    config = read_json(folder / "config.json")
    adapter = read_json_if_any(folder / "adapter_config.json")
    lone = first_file(folder, "mm_projector.bin", "mm_projector.safetensors")
    if adapter is None and has_weights(folder):
        if base is not None:
            warnings.append(f"--base {base} is not needed: {folder} holds a whole checkpoint")
        tensors = with_canonical_names(read_weights(folder))
        if lone is not None and not any(name.startswith("mm_projector.") for name in tensors):
            tensors |= with_canonical_names(read_tensor_file(lone))
        return config, tensors, _tokenizer_folder(folder, None)
    if adapter is None and lone is None:
        raise ModelNotFoundError(f"{folder}: no weights; expected a checkpoint, a LoRA adapter or mm_projector.bin")
    base_folder = _base_folder(folder, base, adapter, config)
    tensors = with_canonical_names(read_weights(base_folder))
    over = first_file(folder, "non_lora_trainables.bin", "non_lora_trainables.safetensors") if adapter else lone
    if over is not None:
        tensors |= with_canonical_names(read_tensor_file(over))
    if adapter is not None and lone is not None and over is None:
        tensors |= with_canonical_names(read_tensor_file(lone))
    _inherit_sizes(config, read_json(base_folder / "config.json"))
    return config, tensors, _tokenizer_folder(folder, base_folder)


def _merged(folder: Path, tensors: Tensors) -> Tensors:
    adapter = read_json_if_any(folder / "adapter_config.json")
    if adapter is None:
        return tensors
    path = first_file(folder, "adapter_model.safetensors", "adapter_model.bin")
    if path is None:
        raise ModelNotFoundError(f"{folder}: adapter_config.json without adapter_model.safetensors or .bin; fetch it")
    return merge_lora(tensors, with_canonical_names(read_tensor_file(path)), adapter)


def _inherit_sizes(config: Config, base: Config) -> None:
    """An adapter's config.json may leave the decoder's sizes to its base model."""
    for key, value in base.values.items():
        config.values.setdefault(key, value)


def _base_folder(folder: Path, base: Path | None, adapter: Config | None, config: Config) -> Path:
    if base is not None:
        if not base.is_dir():
            raise ModelNotFoundError(f"{base}: no such folder; --base must name the folder of the base model")
        return base
    named = adapter.get("base_model_name_or_path") if adapter else config.get("_name_or_path")
    if (found := _local_folder(folder, named)) is not None and found.resolve() != folder.resolve():
        return found
    what = "a LoRA adapter" if adapter else "a lone projector"
    raise ModelNotFoundError(
        f"{folder}: {what} needs its base model {named or '(unnamed)'}; download it and pass its folder with --base"
    )


def _local_folder(folder: Path, named: Any) -> Path | None:
    """A folder that a config names, relative to the checkpoint or absolute."""
    if not isinstance(named, str) or not named or "\0" in named:
        return None
    path = folder / named  # an absolute name replaces `folder`
    return path if path.is_dir() and (path / "config.json").is_file() else None


def _tokenizer_folder(folder: Path, base: Path | None) -> Path:
    for candidate in (folder, base):
        if candidate is not None and (candidate / "tokenizer.model").is_file():
            return candidate
    raise ModelNotFoundError(f"{folder}: no tokenizer.model; copy it there from the base model")


def _check_config(config: Config) -> None:
    expected: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
        ("model_type", "llava", MODEL_TYPES),
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


def _tower_folder(folder: Path, config: Config, vision_tower: Path | None) -> Path | None:
    if vision_tower is None:
        return _local_folder(folder, _tower_name(config))
    if not vision_tower.is_dir():
        raise ModelNotFoundError(f"{vision_tower}: no such folder; --vision-tower must name the folder of the tower")
    return vision_tower


def _tower_config(config: Config, tower_folder: Path | None) -> Config:
    if tower_folder is not None:
        return read_json(tower_folder / "config.json")
    if isinstance(config.get("vision_config"), dict):
        return Config(config.path, config.get("vision_config"))
    if (known := KNOWN_TOWERS.get(_tower_name(config))) is not None:
        return Config(config.path, known)
    raise ModelNotFoundError(_how_to_pass_tower(config))


def _how_to_pass_tower(config: Config) -> str:
    name = _tower_name(config)
    return f"{config.path.parent}: needs the vision tower {name}; download it and pass its folder with --vision-tower"


def _with_tower(tensors: Tensors, config: Config, tower_folder: Path | None, warnings: list[str]) -> Tensors:
    """Weights inside the checkpoint win over those of the tower's folder, for they may have been tuned."""
    inside = {name for name in tensors if name.startswith("vision_model.")}
    apart: Tensors = {}
    if tower_folder is not None and (has_weights(tower_folder) or not inside):
        apart = with_canonical_names(read_weights(tower_folder))
    if not inside:
        if not apart:
            raise ModelNotFoundError(_how_to_pass_tower(config))
        return tensors | apart
    differing = [name for name in sorted(inside & set(apart)) if _differ(tensors[name], apart[name])]
    if differing:
        warnings.append(
            f"{len(differing)} tensors of the vision tower differ between the checkpoint and {tower_folder} "
            f"(as {differing[0]}); the checkpoint's are used"
        )
    return tensors


def _differ(a: Any, b: Any) -> bool:
    """Whether two tensors hold other values; f16, bf16 and f32 copies of one weight count as equal."""
    if a.shape != b.shape:
        return True
    if a.dtype.startswith(("I", "U")) or b.dtype.startswith(("I", "U")):
        return False  # computed buffers
    from ...stored_tensor import to_float32

    left, right = (to_float32(t.read(), t.dtype) for t in (a, b))
    coarsest = min((a.dtype, b.dtype), key=("BF16", "F16", "F32").index)
    tolerance = {"BF16": 2.0**-8, "F16": 2.0**-10, "F32": 0.0}[coarsest] if a.dtype != b.dtype else 0.0
    return not np.allclose(left, right, rtol=tolerance, atol=tolerance * 2.0**-14)
