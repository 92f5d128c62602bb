"""The files of a checkpoint's weights: one, or shards with or without their index."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from palo_cpp.errors import ModelFormatError, ModelNotFoundError

from .json_file import read_json
from .listing import listed
from .outline import is_outline, read_outline
from .restricted_pickle import read_torch_archive
from .safetensors_file import read_safetensors
from .stored_tensor import SourceTensor, Tensors

_NAMES = ("model.safetensors", "pytorch_model.bin")  # in this order: safetensors win where both are given
_PARTS = ("adapter_model", "mm_projector", "non_lora_trainables")  # files that are no checkpoint by themselves
_SHARD = re.compile(r"(.+)-(\d{1,8})-of-(\d{1,8})\.safetensors")


def has_weights(folder: Path) -> bool:
    """Whether a folder holds a main checkpoint (not only an adapter or a projector)."""
    names = [name for stem in _NAMES for name in (stem, f"{stem}.index.json")]
    return any((folder / name).is_file() for name in names) or bool(_odd_names(folder))


def read_weights(folder: Path) -> Tensors:
    """List the tensors of a folder's main checkpoint; where several files hold one, transformers' choice counts.

    Raises:
        ModelNotFoundError: no weights, or a shard is missing.
        ModelFormatError: a file is damaged, or the index and the shards disagree.
    """
    for name in _NAMES:
        if (folder / name).is_file():
            return read_tensor_file(folder / name)
        if (index := folder / f"{name}.index.json").is_file():
            return _read_indexed(index)
    if odd := _odd_names(folder):
        return _read_shards(folder, _one_checkpoint(folder, odd))
    raise ModelNotFoundError(f"{folder}: no weights; expected model.safetensors or pytorch_model.bin, or their index")


def read_tensor_file(path: Path) -> Tensors:
    """List the tensors of one file: a safetensors file or a PyTorch pickle by its ending, or the outline of either."""
    return {**(read_outline(path, _read_whole_file) if is_outline(path) else _read_whole_file(path))}


def _read_whole_file(path: Path) -> Mapping[str, SourceTensor]:
    return read_safetensors(path) if path.suffix == ".safetensors" else read_torch_archive(path)


def _odd_names(folder: Path) -> list[str]:
    """Safetensors files under other names than transformers'."""
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    return [name for name in names if not name.startswith(_PARTS)]


def _one_checkpoint(folder: Path, names: list[str]) -> list[str]:
    """Check that files are one checkpoint: a single one, or all shards of a set whose index is not there."""
    shards = [match for name in names if (match := _SHARD.fullmatch(name))]
    if len(names) == 1 and not shards:
        return names
    if len(shards) != len(names) or len({(shard[1], shard[3]) for shard in shards}) != 1:
        raise ModelFormatError(
            f"{folder}: expected one model.safetensors, got {listed(names)}; leave only its weights there"
        )
    n_shards = int(shards[0][3])
    if {int(shard[2]) for shard in shards} != set(range(1, min(n_shards, len(names)) + 1)) or n_shards != len(names):
        raise ModelNotFoundError(f"{folder}: expected {n_shards} shards, got {listed(names)}; fetch the others")
    return names


def _read_indexed(index: Path) -> Tensors:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise ModelFormatError(f"{index}: expected a weight_map of tensor names to file names")
    names = list(dict.fromkeys(weight_map.values()))
    if outside := next((name for name in names if Path(name).name != name or name in ("", ".", "..")), None):
        raise ModelFormatError(f"{index}: a shard {outside[:80]!r} outside the folder")
    _check_shards(index.parent, names)
    tensors = _read_shards(index.parent, names)
    if absent := sorted(set(weight_map) - set(tensors)):
        raise ModelFormatError(f"{index}: the shards lack {listed(absent)}; fetch them again")
    return tensors


def _check_shards(folder: Path, names: list[str]) -> None:
    if absent := [name for name in names if not (folder / name).is_file()]:
        raise ModelNotFoundError(
            f"{folder}: {len(absent)} of {len(names)} shards are not there: {listed(absent)}; fetch them"
        )


def _read_shards(folder: Path, names: list[str]) -> Tensors:
    tensors: Tensors = {}
    for file_name in names:
        for name, tensor in read_tensor_file(folder / file_name).items():
            if name in tensors:
                raise ModelFormatError(
                    f"{folder}: tensor {name} is in two shards, {tensors[name].paths[0].name} and {file_name}"
                )
            tensors[name] = tensor
    return tensors
