"""A folder of weights -> tensor names and where each one lies, whatever the files are.

Takes safetensors and PyTorch zip pickles, one file or shards with an index. Nothing but tables of contents is read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from palo_cpp.errors import ModelFormatError, ModelNotFoundError

from .families.palo.sizes import Config
from .families.palo.tensor_rows import canonical_name
from .restricted_pickle import read_torch_archive
from .safetensors_file import read_safetensors
from .stored_tensor import LoraTensor, SourceTensor, StoredTensor

_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # in this order: safetensors win where both are given
_MAX_JSON_BYTES = 64 * 1024**2
Tensors = dict[str, SourceTensor]


def read_json(path: Path) -> Config:
    """Read a JSON dictionary.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelFormatError: it holds something else.
    """
    if not path.is_file():
        raise ModelNotFoundError(f"{path}: no such file; a checkpoint folder must hold it")
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise ModelFormatError(f"{path}: expected at most {_MAX_JSON_BYTES} bytes of JSON")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{path}: damaged JSON ({type(error).__name__}); fetch it again") from None
    if not isinstance(values, dict):
        raise ModelFormatError(f"{path}: expected a JSON dictionary, got {type(values).__name__}")
    return Config(path, values)


def read_json_if_any(path: Path) -> Config | None:
    """Read a JSON dictionary, or None where there is no such file."""
    return read_json(path) if path.is_file() else None


def has_weights(folder: Path) -> bool:
    """Whether the folder holds a main checkpoint (not only an adapter or a projector)."""
    return any((folder / name).is_file() or (folder / f"{name}.index.json").is_file() for name in _WEIGHT_FILES)


def read_weights(folder: Path) -> dict[str, StoredTensor]:
    """List the tensors of a folder's main checkpoint.

    Raises:
        ModelNotFoundError: no weights, or a shard is missing.
        ModelFormatError: a file is damaged, or the index and the shards disagree.
    """
    for name in _WEIGHT_FILES:
        if (index := folder / f"{name}.index.json").is_file():
            return _read_shards(index)
        if (folder / name).is_file():
            return read_tensor_file(folder / name)
    raise ModelNotFoundError(f"{folder}: no weights; expected model.safetensors or pytorch_model.bin, or their index")


def read_tensor_file(path: Path) -> dict[str, StoredTensor]:
    """List the tensors of one file, a safetensors file or a PyTorch pickle by its ending."""
    return read_safetensors(path) if path.suffix == ".safetensors" else read_torch_archive(path)


def first_file(folder: Path, *names: str) -> Path | None:
    """The first of these files that exists."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


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


def with_canonical_names(tensors: dict[str, StoredTensor]) -> Tensors:
    """Strip the layout's prefixes from the names.

    Raises:
        ModelFormatError: two tensors would get one name.
    """
    renamed: Tensors = {}
    for name, tensor in tensors.items():
        if (canonical := canonical_name(name)) in renamed:
            raise ModelFormatError(f"{tensor.path}: {renamed[canonical].name} and {name} are the same tensor")
        renamed[canonical] = tensor
    return renamed


def merge_lora(tensors: Tensors, adapter: Tensors, config: Config) -> Tensors:
    """Put the low-rank updates of an adapter over the weights they belong to.

    Args:
        tensors: canonical names -> weights of base, tower and projector.
        adapter: canonical names -> the adapter's A and B matrices.
        config: `adapter_config.json`.

    Returns:
        `tensors` with a `LoraTensor` where there is an update.

    Raises:
        ModelFormatError: an update without its weight or its other half, a wrong shape, or a variant of LoRA whose
            sum is another one.
    """
    scale = _lora_scale(config)
    pairs: dict[str, dict[str, SourceTensor]] = {}
    for name, tensor in adapter.items():
        weight, half = _lora_half(config.path, name)
        pairs.setdefault(weight, {})[half] = tensor
    merged = dict(tensors)
    for weight, halves in pairs.items():
        if weight not in tensors or set(halves) != {"A", "B"}:
            raise ModelFormatError(f"{config.path}: the update of {weight} lacks its weight, its A or its B")
        _check_lora_shapes(config, tensors[weight], halves["A"], halves["B"])
        merged[weight] = LoraTensor(tensors[weight], halves["A"], halves["B"], scale)
    return merged


def _lora_scale(config: Config) -> float:
    """Alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA (arXiv 2312.03732)."""
    for key in ("use_dora", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "lora_bias", "modules_to_save"):
        if config.get(key):
            raise ModelFormatError(f"{config.path}: {key}: expected plain LoRA, got {config.get(key)!r}")
    if config.get("bias", "none") != "none" or config.get("peft_type", "LORA") != "LORA":
        raise ModelFormatError(f"{config.path}: expected peft_type LORA without biases")
    rank = config.size("r")
    return config.number("lora_alpha", 1.0) / (rank**0.5 if config.get("use_rslora") else rank)


def _lora_half(path: Path, name: str) -> tuple[str, str]:
    """`x.lora_A.weight` or `x.lora_A.default.weight` -> (`x.weight`, `A`)."""
    for half in ("A", "B"):
        for ending in (f".lora_{half}.weight", f".lora_{half}.default.weight"):
            if name.endswith(ending):
                return canonical_name(name.removesuffix(ending) + ".weight"), half
    raise ModelFormatError(f"{path}: expected lora_A and lora_B matrices in the adapter, got {name}")


def _check_lora_shapes(config: Config, weight: SourceTensor, a: SourceTensor, b: SourceTensor) -> None:
    rank = config.size("r")
    if len(weight.shape) != 2 or a.shape != (rank, weight.shape[1]) or b.shape != (weight.shape[0], rank):
        shapes = f"A {_shape(a)}, B {_shape(b)} for a weight {_shape(weight)} and r = {rank}"
        raise ModelFormatError(f"{config.path}: the update of {weight.name} has wrong shapes: {shapes}")


def _shape(tensor: SourceTensor) -> list[Any]:
    return list(tensor.shape)
