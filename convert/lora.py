"""LoRA adapters, as PEFT saves them: low-rank updates over the weights of a base model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from palo_cpp.errors import ModelFormatError

from .checkpoint import unwrapped
from .json_file import Config
from .stored_tensor import LoraTensor, SourceTensor, Tensors


def merge_lora(tensors: Tensors, adapter: Tensors, config: Config, canonical_name: Callable[[str], str]) -> Tensors:
    """Put the low-rank updates of an adapter over the weights they belong to.

    Args:
        tensors: canonical names -> weights of the base model and what was trained beside it.
        adapter: the adapter's A and B matrices, by their names in its file.
        config: `adapter_config.json`.
        canonical_name: gives a weight the name that it has in `tensors`.

    Returns:
        `tensors` with a `LoraTensor` where there is an update.

    Raises:
        ModelFormatError: an update without its weight or its other half, a wrong shape, or a variant of LoRA whose
            sum is another one.
    """
    scale = _scale(config)
    pairs: dict[str, dict[str, SourceTensor]] = {}
    merged = dict(tensors)
    for name, tensor in adapter.items():
        if _is_whole_module(name, config):
            merged[canonical_name(unwrapped(name))] = tensor
            continue
        weight, half = _half(config.path, name)
        halves = pairs.setdefault(canonical_name(unwrapped(weight)), {})
        if half in halves:
            raise ModelFormatError(f"{config.path}: {halves[half].name} and {name} are the same tensor")
        halves[half] = tensor
    for weight, halves in pairs.items():
        if weight not in tensors or set(halves) != {"A", "B"}:
            raise ModelFormatError(f"{config.path}: the update of {weight} lacks its weight, its A or its B")
        _check_shapes(config, tensors[weight], halves["A"], halves["B"])
        merged[weight] = LoraTensor(tensors[weight], halves["A"], halves["B"], scale)
    return merged


def _is_whole_module(name: str, config: Config) -> bool:
    """Whether the tensor is of a module that was trained whole, beside the updates (`modules_to_save`)."""
    return ".lora_" not in name and any(f".{module}." in f".{name}" for module in config.names("modules_to_save"))


def _scale(config: Config) -> float:
    """Alpha / r, or alpha / sqrt(r) for rank-stabilized LoRA (arXiv 2312.03732)."""
    for key in ("use_dora", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "lora_bias"):
        if config.get(key):
            raise ModelFormatError(f"{config.path}: {key}: expected plain LoRA, got {config.get(key)!r}")
    if config.get("bias", "none") != "none" or config.get("peft_type", "LORA") != "LORA":
        raise ModelFormatError(f"{config.path}: expected peft_type LORA without biases")
    rank = config.size("r")
    return config.number("lora_alpha", 1.0) / (rank**0.5 if config.get("use_rslora") else rank)


def _half(path: Path, name: str) -> tuple[str, str]:
    """`x.lora_A.weight` or `x.lora_A.default.weight` -> (`x.weight`, `A`)."""
    for half in ("A", "B"):
        for ending in (f".lora_{half}.weight", f".lora_{half}.default.weight"):
            if name.endswith(ending):
                return name.removesuffix(ending) + ".weight", half
    raise ModelFormatError(f"{path}: expected lora_A and lora_B matrices in the adapter, got {name}")


def _check_shapes(config: Config, weight: SourceTensor, a: SourceTensor, b: SourceTensor) -> None:
    rank = config.size("r")
    if len(weight.shape) != 2 or a.shape != (rank, weight.shape[1]) or b.shape != (weight.shape[0], rank):
        shapes = f"A {_shape(a)}, B {_shape(b)} for a weight {_shape(weight)} and r = {rank}"
        raise ModelFormatError(f"{config.path}: the update of {weight.name} has wrong shapes: {shapes}")


def _shape(tensor: SourceTensor) -> list[Any]:
    return list(tensor.shape)
