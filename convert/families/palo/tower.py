"""The vision tower: inside the checkpoint, in a folder of its own, or both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palo_cpp.errors import ModelNotFoundError

from ...checkpoint import CheckpointFolder, renamed
from ...json_file import Config
from ...stored_tensor import Tensors, to_float32
from .names import canonical_name
from .preprocessing import read_preprocessor
from .sizes import KNOWN_TOWERS
from .sources import Source

_DEFAULT_TOWER = "openai/clip-vit-large-patch14-336"


@dataclass(frozen=True)
class Tower:
    """Where the tower is described.

    Attributes:
        folder: its own, or None where all is inside the checkpoint.
        config: a CLIPVisionConfig, or a CLIPConfig that holds one.
        preprocessor: `preprocessor_config.json`, if any.
    """

    folder: CheckpointFolder | None
    config: Config
    preprocessor: Config | None


def open_tower(source: Source, given: Path | None) -> Tower:
    """Find the tower.

    Args:
        source: the checkpoint.
        given: the folder that the user names, if any; else the one that config.json names counts, where it is there.

    Raises:
        ModelNotFoundError: it is described nowhere; the message says how to pass it.
    """
    config = source.config
    if given is None:
        folder = source.folders[0].named(_tower_name(config))
    else:
        folder = CheckpointFolder(given, "--vision-tower must name the folder of the tower")
    if folder is not None:
        return Tower(folder, folder.config, read_preprocessor([folder]) or source.preprocessor)
    if isinstance(config.get("vision_config"), dict):
        return Tower(None, Config(config.path, config.get("vision_config")), source.preprocessor)
    if (known := KNOWN_TOWERS.get(_tower_name(config))) is not None:
        return Tower(None, Config(config.path, known), source.preprocessor)
    raise ModelNotFoundError(_how_to_pass(config))


def add_tower(tensors: Tensors, config: Config, tower: Tower) -> tuple[Tensors, list[str]]:
    """Add the tower's weights from its folder, where they are not inside the checkpoint.

    Weights inside the checkpoint win over those of the tower's folder, for they may have been tuned.

    Returns:
        The tensors with a tower, and what the user should know.

    Raises:
        ModelNotFoundError: the weights are nowhere; the message says how to pass them.
    """
    inside = {name for name in tensors if name.startswith("vision_model.")}
    apart: Tensors = {}
    if tower.folder is not None and (tower.folder.has_weights or not inside):
        apart = renamed(tower.folder.weights, canonical_name)
    if not inside and not apart:
        raise ModelNotFoundError(_how_to_pass(config))
    if not inside:
        return tensors | apart, []
    differing = [name for name in sorted(inside & set(apart)) if _differ(tensors[name], apart[name])]
    if not differing or tower.folder is None:
        return tensors, []
    return tensors, [
        f"{len(differing)} tensors of the vision tower differ between the checkpoint and {tower.folder.path} "
        f"(as {differing[0]}); the checkpoint's are used"
    ]


def _tower_name(config: Config) -> str:
    return str(config.get("mm_vision_tower", config.get("vision_tower", _DEFAULT_TOWER)))


def _how_to_pass(config: Config) -> str:
    name = _tower_name(config)
    return f"{config.path.parent}: needs the vision tower {name}; download it and pass its folder with --vision-tower"


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
