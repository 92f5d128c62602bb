"""The layouts of the source folder: a whole checkpoint, or a LoRA adapter or lone projector over a base model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from palo_cpp.errors import ModelFormatError, ModelNotFoundError

from ...checkpoint import CheckpointFolder, base_folder, renamed
from ...json_file import Config
from ...lora import merge_lora
from ...stored_tensor import Tensors
from .llava_config import is_native, llava_config
from .names import canonical_name
from .preprocessing import preprocessing_warnings, read_preprocessor


@dataclass(frozen=True)
class Source:
    """What the folder and its base hold, but for a vision tower in a folder of its own.

    Attributes:
        folders: the source folder, then the base model's, for an adapter or a lone projector.
        config: the source's config.json in LLaVA's keys; what it leaves out is the base's.
        preprocessor: how images are prepared, where a folder says it.
        tensors: canonical names -> tensors, before an adapter's updates.
        warnings: what the user should know.
    """

    folders: list[CheckpointFolder]
    config: Config
    preprocessor: Config | None
    tensors: Tensors
    warnings: list[str]

    def with_adapter(self, tensors: Tensors) -> Tensors:
        """Put the LoRA adapter's updates, if there is one, over the weights."""
        folder = self.folders[0]
        if folder.adapter is None:
            return tensors
        updates = folder.tensors("adapter_model")
        if updates is None:
            raise ModelNotFoundError(
                f"{folder.path}: adapter_config.json without adapter_model.safetensors or .bin; fetch it"
            )
        return merge_lora(tensors, updates, folder.adapter, canonical_name)


def open_source(folder: CheckpointFolder, base: Path | None) -> Source:
    """List what lies in the source folder and in its base.

    Raises:
        ModelNotFoundError: no weights, or no base model; the message says how to pass it.
        ModelFormatError: something in the files is wrong or not supported.
    """
    is_whole = folder.adapter is None and folder.has_weights
    if folder.adapter is None and not is_whole and not folder.has_tensors("mm_projector"):
        raise ModelNotFoundError(
            f"{folder.path}: no weights; expected a checkpoint, a LoRA adapter or mm_projector.bin"
        )
    folders = [folder] if is_whole else [folder, base_folder(folder, base)]
    _refuse_quantized(folders[-1])
    preprocessor = read_preprocessor(folders)
    own = _config(folders)
    config = llava_config(own, preprocessor)
    warnings = [f"--base {base} is not needed: {folder.path} holds a whole checkpoint"] if is_whole and base else []
    if is_native(own) and preprocessor is not None:  # LLaVA prepares images in its own code
        warnings += preprocessing_warnings(preprocessor)
    tensors = _whole(folder) if is_whole else _over_base(*folders)
    return Source(folders, config, preprocessor, tensors, warnings)


def _refuse_quantized(weights: CheckpointFolder) -> None:
    """Refuse what a quantizer wrote; an adapter's own config.json only says how its base was loaded for training."""
    config = weights.config if weights.holds("config.json") else None
    if config is not None and (quantized := config.get("quantization_config")) is not None:
        method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
        raise ModelFormatError(
            f"{config.path}: quantization_config: expected unquantized weights, got {method!r}; convert the checkpoint "
            "that they were quantized from, and choose --outtype"
        )


def _config(folders: list[CheckpointFolder]) -> Config:
    """The source's config.json over the base's. An adapter may have none; it is not named after its base."""
    configs = [folder.config for folder in folders if folder.holds("config.json")] or [folders[0].config]
    values = {key: value for config in reversed(configs) for key, value in config.values.items()}
    if not folders[0].holds("config.json"):
        values.pop("_name_or_path", None)
    return Config(configs[0].path, values)


def _over_base(folder: CheckpointFolder, base: CheckpointFolder) -> Tensors:
    """The base's weights under what was trained beside an adapter, or under a lone projector."""
    trained = folder.tensors("non_lora_trainables") if folder.adapter else None
    trained = trained or folder.tensors("mm_projector") or {}
    return renamed(base.weights, canonical_name) | renamed(trained, canonical_name)


def _whole(folder: CheckpointFolder) -> Tensors:
    """A checkpoint's weights; its projector may lie in a file of its own."""
    tensors = renamed(folder.weights, canonical_name)
    if not any(name.startswith("mm_projector.") for name in tensors):
        tensors |= renamed(folder.tensors("mm_projector") or {}, canonical_name)
    return tensors
