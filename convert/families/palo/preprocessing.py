"""How a checkpoint's images are prepared, as transformers' image processors write it down."""

from __future__ import annotations

from ...checkpoint import CheckpointFolder
from ...json_file import Config

# What palo_cpp does with every image; CLIPImageProcessor's defaults. 3 is Pillow's bicubic.
_STEPS = {"do_resize": True, "do_center_crop": True, "do_rescale": True, "do_normalize": True, "resample": 3}


def read_preprocessor(folders: list[CheckpointFolder]) -> Config | None:
    """The first folder's preprocessor_config.json, or the part of processor_config.json that transformers 5 writes."""
    for folder in folders:
        if (config := folder.json("preprocessor_config.json")) is not None:
            return config
        if (config := folder.json("processor_config.json")) is not None and config.get("image_processor"):
            return config.part("image_processor")
    return None


def preprocessing_warnings(preprocessor: Config) -> list[str]:
    """Steps that palo_cpp takes and the checkpoint's own processor does not, or otherwise."""
    found = [
        f"{preprocessor.path}: {key}: expected {expected}, got {preprocessor.get(key)!r}; "
        "palo_cpp prepares images as CLIP's processor does"
        for key, expected in _STEPS.items()
        if preprocessor.get(key, expected) not in (expected, None)
    ]
    size = preprocessor.get("size")
    if isinstance(size, dict) and "shortest_edge" not in size and size.get("height") is not None:
        found.append(f"{preprocessor.path}: size: stretches images to a square; palo_cpp keeps their proportions")
    return found
