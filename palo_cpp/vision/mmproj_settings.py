"""What the metadata of an mmproj file say, checked: the keyword arguments of the C++ core's encoder."""

from __future__ import annotations

import logging
import re
from typing import Any, Literal, get_args

import numpy as np

_logger = logging.getLogger(__name__)

TowerName = Literal["clip", "beit3"]
ProjectorName = Literal["mlp", "ldp", "ldpv2", "linear", "identity"]
Preprocess = Literal["pad", "crop", "stretch"]
Metadata = dict[str, Any]

# What the keys of a tower's sizes begin with.
KEY_PREFIXES: dict[TowerName, str] = {"clip": "clip.vision", "beit3": "beit3"}

_MLP_TYPE = re.compile(r"mlp([1-9]\d?)x_gelu")


class MetadataError(Exception):
    """A key of the file is absent or has no usable value: `<key>: expected X, got Y`."""


def read_settings(metadata: Metadata, names: set[str]) -> dict[str, Any]:
    """The keyword arguments of the core's encoder.

    Args:
        metadata: keys and values of the file.
        names: of its tensors.

    Returns:
        name of an argument -> value.

    Raises:
        MetadataError: a key is absent or has no usable value.
    """
    architecture = metadata.get("general.architecture")
    if architecture == "clip":
        return _clip_settings(metadata, names)
    if architecture == "beit3":
        return _beit3_settings(metadata)
    raise MetadataError(f"general.architecture: expected clip or beit3 (an mmproj file), got {_shorten(architecture)}")


def _clip_settings(metadata: Metadata, names: set[str]) -> dict[str, Any]:
    if metadata.get("clip.has_vision_encoder", True) is not True:
        raise MetadataError("clip.has_vision_encoder: expected true, got false: a file for sound, not for images")
    projector, n_projector_layers = _projector(metadata, names)
    return {
        **_sizes(metadata, "clip"),
        "n_layer": _n_layer(metadata, names),
        "n_query": 0,
        "use_gelu": _flag(metadata, "clip.use_gelu"),
        "is_square_ffn_swapped": "palo.version" not in metadata,
        "projector": projector,
        "n_projector_layers": n_projector_layers,
    }


def _beit3_settings(metadata: Metadata) -> dict[str, Any]:
    """VisCPM's eye (convert/families/viscpm/tensor_rows.py): exact GELU, and a mapping of two Linear layers."""
    return {
        **_sizes(metadata, "beit3"),
        "n_layer": _size(metadata, "beit3.block_count"),
        "n_query": _size(metadata, "beit3.query_count"),
        "use_gelu": True,
        "is_square_ffn_swapped": False,
        "projector": "mlp",
        "n_projector_layers": 2,
    }


def _sizes(metadata: Metadata, tower: TowerName) -> dict[str, Any]:
    prefix = KEY_PREFIXES[tower]
    return {
        "tower": tower,
        "image_size": _size(metadata, f"{prefix}.image_size"),
        "patch_size": _size(metadata, f"{prefix}.patch_size"),
        "n_embd": _size(metadata, f"{prefix}.embedding_length"),
        "n_head": _size(metadata, f"{prefix}.attention.head_count"),
        "n_ff": _size(metadata, f"{prefix}.feed_forward_length"),
        "eps": _number(metadata, f"{prefix}.attention.layer_norm_epsilon"),
    }


def _value(metadata: Metadata, key: str) -> Any:
    if key not in metadata:
        raise MetadataError(f"{key}: expected in the metadata, got no such key")
    return metadata[key]


def _size(metadata: Metadata, key: str) -> int:
    value = _value(metadata, key)
    # The core checks ranges; it takes 64 signed bits.
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 32:
        raise MetadataError(f"{key}: expected a whole number, got {_shorten(value)}")
    return value


def _number(metadata: Metadata, key: str) -> float:
    value = _value(metadata, key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise MetadataError(f"{key}: expected a number, got {_shorten(value)}")
    return float(value)


def _flag(metadata: Metadata, key: str) -> bool:
    value = metadata.get(key, False)
    if not isinstance(value, bool):
        raise MetadataError(f"{key}: expected true or false, got {_shorten(value)}")
    return value


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _projector(metadata: Metadata, names: set[str]) -> tuple[str, int]:
    """The core's kind of projector and, for `mlp`, the number of its Linear layers."""
    kind = metadata.get("clip.projector_type", metadata.get("clip.vision.projector_type"))
    if kind is None and metadata.get("clip.has_llava_projector") is True:
        kind = "mlp"  # files of 2023 have no projector_type: there was one kind only
    if kind in ("ldp", "ldpv2", "identity"):
        return kind, 0
    if kind == "linear":
        return "mlp", 1
    match = _MLP_TYPE.fullmatch(kind) if isinstance(kind, str) else None
    if match:
        return "mlp", int(match[1])
    if kind != "mlp":
        known = "mlp, mlpNx_gelu, linear, identity, ldp or ldpv2"
        raise MetadataError(f"clip.projector_type: expected {known}, got {_shorten(kind)}")
    if "mm.1.weight" in names or "mm.3.weight" in names:
        raise MetadataError("tensors: expected an mlp projector, got one with norms (mm.1, mm.3) as Yi-VL has it")
    n_layers = 2
    while f"mm.{2 * n_layers}.weight" in names:
        n_layers += 1
    return "mlp", n_layers


def _n_layer(metadata: Metadata, names: set[str]) -> int:
    """Layers to run, so that the result is the hidden state that the projector was trained on.

    Differs from llama.cpp at our pin (tools/mtmd/models/llava.cpp), which runs block_count - 1 layers where
    `clip.vision.feature_layer` is absent: its old converter had already dropped the last layer from the file and from
    block_count, so the projector gets a state one layer too early (ggml-org/llama.cpp issue 25817).
    """
    block_count = _size(metadata, "clip.vision.block_count")
    selected = metadata.get("clip.vision.feature_layer")
    if selected is not None:
        return _feature_layer(selected, block_count)
    has_last_block = any(name.startswith(f"v.blk.{block_count - 1}.") for name in names)
    # block_count counts the whole tower where the file has what follows the last layer, or lacks that layer: then the
    # select layer -2 is one before its end.
    is_whole = "v.post_ln.weight" in names or not has_last_block
    if not is_whole:
        _logger.debug("the file's %d layers all run: its converter dropped what follows the select layer", block_count)
    return block_count - 1 if is_whole else block_count


def _feature_layer(selected: object, block_count: int) -> int:
    layers = selected if isinstance(selected, list) else [selected]
    layer = layers[0] if len(layers) == 1 else None
    if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer <= block_count:
        raise MetadataError(f"clip.vision.feature_layer: expected one of 0 to {block_count}, got {_shorten(selected)}")
    return layer


def projector_name(settings: dict[str, Any]) -> ProjectorName:
    """The kind of projector; `settings` as `read_settings` returns them."""
    kind: ProjectorName = settings["projector"]
    return "linear" if kind == "mlp" and settings["n_projector_layers"] == 1 else kind


def preprocess_mode(metadata: Metadata) -> Preprocess:
    """How images are made square.

    Raises:
        MetadataError: the key has no usable value.
    """
    default = "stretch" if metadata.get("general.architecture") == "beit3" else "pad"
    value = metadata.get("palo.image_preprocess", default)
    for mode in get_args(Preprocess):
        if value == mode:
            return mode  # type: ignore[no-any-return]  # one of the literals
    raise MetadataError(f"palo.image_preprocess: expected pad, crop or stretch, got {_shorten(value)}")


def three_numbers(metadata: Metadata, key: str, above: float = -np.inf) -> tuple[float, float, float]:
    """The values of the three channels.

    Args:
        metadata: keys and values of the file.
        key: whose value is meant.
        above: what each value must exceed.

    Returns:
        Red, green, blue.

    Raises:
        MetadataError: the key is absent or has no such value.
    """
    value = _value(metadata, key)
    if not isinstance(value, list) or len(value) != 3 or not all(isinstance(x, (int, float)) for x in value):
        raise MetadataError(f"{key}: expected three numbers, got {_shorten(value)}")
    if not all(np.isfinite(x) and x > above for x in value):
        raise MetadataError(f"{key}: expected finite numbers above {above:g}, got {_shorten(value)}")
    return (float(value[0]), float(value[1]), float(value[2]))
