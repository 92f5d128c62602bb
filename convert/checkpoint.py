"""A folder of a checkpoint, whatever its files are: safetensors or PyTorch zip pickles, one file or shards."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from palo_cpp.errors import ModelFormatError, ModelNotFoundError

from .json_file import Config, read_json, read_json_if_any
from .stored_tensor import Tensors
from .weight_files import has_weights, read_tensor_file, read_weights

_SUFFIXES = (".safetensors", ".bin")
_WEIGHT_FILES = (*_SUFFIXES, ".pt", ".pth")
# torch's DistributedDataParallel and DataParallel, compile, FSDP, activation checkpointing; DeepSpeed under Lightning
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}


class CheckpointFolder:
    """One opened folder. Configurations and tables of contents are read when asked for, and each once.

    Attributes:
        path: the folder.
        weights_file: the one of its files of weights that the user named, if any.
    """

    def __init__(self, path: Path, expected: str = "expected a checkpoint with its config.json") -> None:
        """Open a folder.

        Raises:
            ModelNotFoundError: there is no such folder; the message says what was `expected`.
        """
        self.weights_file = path if path.is_file() and path.suffix in _WEIGHT_FILES else None
        if self.weights_file is None and not path.is_dir():
            raise ModelNotFoundError(f"{path}: no such folder; {expected}")
        self.path = path if self.weights_file is None else path.parent

    @cached_property
    def config(self) -> Config:
        """`config.json`."""
        return read_json(self.path / "config.json")

    @cached_property
    def adapter(self) -> Config | None:
        """`adapter_config.json` of a LoRA adapter, if any."""
        return self.json("adapter_config.json")

    @property
    def has_weights(self) -> bool:
        """Whether the folder holds a main checkpoint (not only an adapter or a projector)."""
        return self.weights_file is not None or has_weights(self.path)

    @cached_property
    def weights(self) -> Tensors:
        """The tensors of the main checkpoint; see `weight_files.read_weights`."""
        return read_weights(self.path) if self.weights_file is None else read_tensor_file(self.weights_file)

    def has_tensors(self, stem: str) -> bool:
        """Whether there is a further file of weights, `stem`.safetensors or .bin."""
        return any(self.holds(stem + suffix) for suffix in _SUFFIXES)

    def tensors(self, stem: str) -> Tensors | None:
        """The tensors of a further file, `stem`.safetensors or .bin, or None where there is neither."""
        for suffix in _SUFFIXES:
            if self.holds(stem + suffix):
                return read_tensor_file(self.path / (stem + suffix))
        return None

    def json(self, name: str) -> Config | None:
        """A JSON dictionary, or None where there is no such file."""
        return read_json_if_any(self.path / name)

    def holds(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.path / name).is_file()

    def named(self, name: Any) -> CheckpointFolder | None:
        """Another model's folder that a config names, relative to this one or absolute; None where none is there."""
        if not isinstance(name, str) or not name or "\0" in name:
            return None
        path = self.path / name  # an absolute name replaces the folder
        return CheckpointFolder(path) if path.is_dir() and (path / "config.json").is_file() else None


def base_folder(folder: CheckpointFolder, given: Path | None) -> CheckpointFolder:
    """The base model of a LoRA adapter, or of what else was trained over one.

    Args:
        folder: of the adapter.
        given: the folder that the user names, if any; else the one that the adapter names counts, where it is there.

    Raises:
        ModelNotFoundError: it is not there; the message names it and says how to pass it.
    """
    if given is not None:
        return CheckpointFolder(given, "--base must name the folder of the base model")
    adapter = folder.adapter
    named = adapter.get("base_model_name_or_path") if adapter else folder.config.get("_name_or_path")
    if (found := folder.named(named)) is not None and found.path.resolve() != folder.path.resolve():
        return found
    what = "a LoRA adapter" if adapter else "a lone projector"
    name = named or "(unnamed)"
    raise ModelNotFoundError(
        f"{folder.path}: {what} needs its base model {name}; download it and pass its folder with --base"
    )


def unwrapped(name: str) -> str:
    """A tensor's name without what trainers wrap modules in: `module.` (DDP), `_orig_mod.` (torch.compile), ..."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def renamed(tensors: Tensors, canonical_name: Callable[[str], str]) -> Tensors:
    """Give tensors the names by which their family knows them.

    Raises:
        ModelFormatError: two tensors would get one name.
    """
    found: Tensors = {}
    for name, tensor in tensors.items():
        if (canonical := canonical_name(unwrapped(name))) in found:
            raise ModelFormatError(f"{tensor.paths[0]}: {found[canonical].name} and {name} are the same tensor")
        found[canonical] = tensor
    return found
