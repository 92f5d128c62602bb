"""Read a checkpoint folder into float32 tensors under their published names.

Every format is read by its own reference reader: safetensors' and torch's. Layouts: CLIP inside or in the vision
tower's folder, a lone mm_projector.bin or a LoRA adapter over a base.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A model ready to compute with.

    Attributes:
        config: The decoder's and the multimodal configuration, as in config.json.
        vision_config: The vision tower's.
        state: `model.*`, `lm_head.weight`, and the tower's `vision_model.*`, all float32.
        folder: Where the tokenizer is.
    """

    config: dict[str, Any]
    vision_config: dict[str, Any]
    state: State
    folder: Path


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read any of the layouts; a tower inside the checkpoint wins over the tower's own folder."""
    config = _read_json(folder / "config.json")
    tower_folder = folder / "vision_tower"
    tower_config = _read_json(tower_folder / "config.json")
    base = folder / "base"
    state = _read_weights(tower_folder) | _read_weights(base if base.exists() else folder)
    for name in ("mm_projector.bin", "non_lora_trainables.bin"):
        if (folder / name).exists():
            state |= {_without_peft_prefix(key): value for key, value in _load(folder / name).items()}
    if (folder / "adapter_config.json").exists():
        _merge_lora(state, folder)
    inside = "model.vision_tower.vision_tower."
    state |= {key.removeprefix(inside): value for key, value in state.items() if key.startswith(inside)}
    state = {key: value.float() for key, value in state.items() if value.is_floating_point()}
    return Checkpoint(config, tower_config.get("vision_config", tower_config), state, base if base.exists() else folder)


def _merge_lora(state: State, folder: Path) -> None:
    """W = W_base + (alpha / r) B A, arXiv 2106.09685 section 4.1."""
    config = _read_json(folder / "adapter_config.json")
    adapter = next(_load(path) for path in sorted(folder.glob("adapter_model.*")))
    for key, a in adapter.items():
        if key.endswith(".lora_A.weight"):
            stem = key.removesuffix(".lora_A.weight")
            b = adapter[f"{stem}.lora_B.weight"]
            name = f"{_without_peft_prefix(stem)}.weight"
            state[name] = state[name].float() + config["lora_alpha"] / config["r"] * (b.float() @ a.float())


def _without_peft_prefix(key: str) -> str:
    """PEFT puts `base_model.model.` before the names of the model that it wraps."""
    return key.removeprefix("base_model.model.")


def _read_weights(folder: Path) -> State:
    state: State = {}
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        for path in sorted(folder.glob(pattern)):
            state |= _load(path)
    return state


def _load(path: Path) -> State:
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    state: State = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
