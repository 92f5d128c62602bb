"""A folder of a checkpoint, whatever its files are: safetensors or PyTorch zip pickles, one file or shards."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from palo_cpp.errors import ModelFormatError, ModelNotFoundError

from .json_file import Config, read_json, read_json_if_any
from .restricted_pickle import read_torch_archive
from .safetensors_file import read_safetensors
from .stored_tensor import SourceTensor, StoredTensor

_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # in this order: safetensors win where both are given
_SUFFIXES = (".safetensors", ".bin")
Tensors = dict[str, SourceTensor]


class CheckpointFolder:
    """One opened folder. Configurations and tables of contents are read when asked for, and each once.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path, expected: str = "expected a checkpoint with its config.json") -> None:
        """Open a folder.

        Raises:
            ModelNotFoundError: there is no such folder; the message says what was `expected`.
        """
        if not path.is_dir():
            raise ModelNotFoundError(f"{path}: no such folder; {expected}")
        self.path = path

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
        return any(self.holds(name) or self.holds(f"{name}.index.json") for name in _WEIGHT_FILES)

    @cached_property
    def weights(self) -> dict[str, StoredTensor]:
        """The tensors of the main checkpoint.

        Raises:
            ModelNotFoundError: no weights, or a shard is missing.
            ModelFormatError: a file is damaged, or the index and the shards disagree.
        """
        for name in _WEIGHT_FILES:
            if self.holds(f"{name}.index.json"):
                return _read_shards(self.path / f"{name}.index.json")
            if self.holds(name):
                return read_tensor_file(self.path / name)
        raise ModelNotFoundError(
            f"{self.path}: no weights; expected model.safetensors or pytorch_model.bin, or their index"
        )

    def has_tensors(self, stem: str) -> bool:
        """Whether there is a further file of weights, `stem`.safetensors or .bin."""
        return any(self.holds(stem + suffix) for suffix in _SUFFIXES)

    def tensors(self, stem: str) -> dict[str, StoredTensor] | None:
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


def read_tensor_file(path: Path) -> dict[str, StoredTensor]:
    """List the tensors of one file, a safetensors file or a PyTorch pickle by its ending."""
    return read_safetensors(path) if path.suffix == ".safetensors" else read_torch_archive(path)


def renamed(tensors: dict[str, StoredTensor], canonical_name: Callable[[str], str]) -> Tensors:
    """Give tensors the names by which their family knows them.

    Raises:
        ModelFormatError: two tensors would get one name.
    """
    found: Tensors = {}
    for name, tensor in tensors.items():
        if (canonical := canonical_name(name)) in found:
            raise ModelFormatError(f"{tensor.path}: {found[canonical].name} and {name} are the same tensor")
        found[canonical] = tensor
    return found


def _read_shards(index: Path) -> dict[str, StoredTensor]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise ModelFormatError(f"{index}: expected a weight_map of tensor names to file names")
    tensors: dict[str, StoredTensor] = {}
    for file_name in dict.fromkeys(weight_map.values()):
        for name, tensor in read_tensor_file(_shard(index, file_name)).items():
            if name in tensors:
                raise ModelFormatError(f"{index}: tensor {name} is in two shards")
            tensors[name] = tensor
    if absent := sorted(set(weight_map) - set(tensors)):
        raise ModelFormatError(f"{index}: the shards lack {_listed(absent)}; fetch them again")
    return tensors


def _shard(index: Path, file_name: str) -> Path:
    if Path(file_name).name != file_name or file_name in ("", ".", ".."):
        raise ModelFormatError(f"{index}: a shard {file_name[:80]!r} outside the folder")
    path = index.parent / file_name
    if not path.is_file():
        raise ModelNotFoundError(f"{path}: no such file, but {index.name} names it; fetch it")
    return path


def _listed(names: list[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
