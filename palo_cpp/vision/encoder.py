"""Pixels to image embeddings: the vision tower and projector of one mmproj file.

This module reads the file's metadata and checks its meaning; weights go to the C++ core as raw blocks with their type.
Keys and tensor names are llama.cpp's: tools/mtmd/clip-impl.h.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from palo_cpp.errors import ArgumentError, ModelFormatError, OutOfMemoryError, PaloError
from palo_cpp.ggml.gguf_header import GgufHeader, read_header

_logger = logging.getLogger(__name__)

ProjectorName = Literal["mlp", "ldp", "ldpv2", "linear", "identity"]
Preprocess = Literal["pad", "crop"]
Precision = Literal["int8", "float"]
Metadata = dict[str, Any]

_MLP_TYPE = re.compile(r"mlp([1-9]\d?)x_gelu")


@dataclass(frozen=True)
class VisionInfo:
    """What an mmproj file holds.

    Attributes:
        image_size: pixels per side of the square the tower takes.
        patch_size: pixels per side of a patch.
        n_patches: patches of an image.
        n_image_tokens: image embeddings that the decoder gets for an image.
        n_embd: width of an image embedding, the decoder's.
        n_embd_vision: width of the tower.
        n_layer: layers that run, up to the select layer.
        projector: kind of projector.
        preprocess: how images were made square when the model was trained.
        image_mean: per channel, of pixel values in [0, 1].
        image_std: per channel, of pixel values in [0, 1].
        pair_id: the id that text and mmproj file of one conversion share; None in files that others wrote.
        name: `general.name`, or the file's name.
    """

    image_size: int
    patch_size: int
    n_patches: int
    n_image_tokens: int
    n_embd: int
    n_embd_vision: int
    n_layer: int
    projector: ProjectorName
    preprocess: Preprocess
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    pair_id: str | None
    name: str


class VisionEncoder:
    """Vision tower and projector of one mmproj file.

    Computing takes no lock: several threads may use one encoder. Results are equal bit for bit for any `n_threads`.

    Args:
        path: the mmproj file.
        n_threads: threads to compute on; 0 means one per physical core that this process may use.
        precision: "int8" computes on weights and activations of 8 bits, with a scale for every 64 of them; "float" on
            f32, in four times the memory and more time.
        with_tower: load the tower, too; without it, only `project` works.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelFormatError: the file is damaged, hostile, incomplete or of an unknown kind.
        OutOfMemoryError: the weights do not fit.
        ArgumentError: `n_threads`, `precision` or the environment variable PALO_CPP_ISA has no usable value.

    Example:
        >>> with VisionEncoder("mmproj-PALO-7B-F16.gguf") as encoder:
        ...     image_embeddings = encoder.encode(pixels)  # [576, 4096]
    """

    version = "1"  # raise it with each change of preprocessing, tower or projector that changes embeddings

    def __init__(
        self, path: str | Path, *, n_threads: int = 0, precision: Precision = "int8", with_tower: bool = True
    ) -> None:
        if precision not in ("int8", "float"):
            raise ArgumentError(f"vision precision: expected 'int8' or 'float', got {precision!r}")
        self.precision: Precision = precision
        path = Path(path)
        core = _load_core()
        header = read_header(path)
        try:
            metadata: Metadata = {**header.metadata, **header.numbers}
            settings = _settings(metadata, set(header.tensors))
            if not with_tower:
                settings["n_layer"] = 0
            self._encoder: Any = core.VisionEncoder(
                _raw_tensors(header),
                **settings,
                n_threads=n_threads or _default_n_threads(),
                is_int8=precision == "int8",
            )
            self.info = _info(path, metadata, settings, self._encoder)
        except core.FormatError as error:
            raise ModelFormatError(f"{path.name}: {error}") from None
        except _MetadataError as error:
            raise ModelFormatError(f"{path.name}: {error}; convert the checkpoint again") from None
        except MemoryError:
            raise OutOfMemoryError(f"{path.name}: its weights do not fit into memory; close other programs") from None
        except (ValueError, TypeError) as error:
            raise ArgumentError(str(error)) from None

    def encode(self, pixels: ArrayLike) -> NDArray[np.float32]:
        """Turn normalized pixels into image embeddings.

        Args:
            pixels: f32 [3, image_size, image_size], or [n, 3, image_size, image_size] for several images.

        Returns:
            f32 [n_image_tokens, n_embd], or [n, n_image_tokens, n_embd].

        Raises:
            ArgumentError: the shape is another one.
            PaloError: the encoder was closed.
        """
        return self._run("encode", pixels, self._pixel_shape)

    def patch_embeddings(self, pixels: ArrayLike) -> NDArray[np.float32]:
        """The patch convolution alone: [3, S, S] -> [n_patches, n_embd_vision]; several images as in `encode`."""
        return self._run("patch_embeddings", pixels, self._pixel_shape)

    def hidden_states(self, pixels: ArrayLike) -> NDArray[np.float32]:
        """The tower alone: [3, S, S] -> hidden state at the select layer, [n_patches, n_embd_vision]."""
        return self._run("hidden_states", pixels, self._pixel_shape)

    def project(self, hidden: ArrayLike) -> NDArray[np.float32]:
        """The projector alone: [n_patches, n_embd_vision] -> [n_image_tokens, n_embd]; several as in `encode`."""
        return self._run("project", hidden, (self.info.n_patches, self.info.n_embd_vision))

    @property
    def n_threads(self) -> int:
        """Threads that compute."""
        return int(self._open().n_threads)

    @property
    def isa(self) -> str:
        """Instruction set of the kernels in use."""
        return str(self._open().isa)

    def close(self) -> None:
        """Free the weights. Closing twice is harmless."""
        self._encoder = None

    def __enter__(self) -> VisionEncoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _pixel_shape(self) -> tuple[int, int, int]:
        return (3, self.info.image_size, self.info.image_size)

    def _open(self) -> Any:
        if self._encoder is None:
            raise PaloError("vision encoder: expected an open one, got one that was closed; load the model again")
        return self._encoder

    def _run(self, stage: str, values: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float32]:
        array = np.ascontiguousarray(values, dtype=np.float32)
        if array.shape[-len(shape) :] != shape or array.ndim not in (len(shape), len(shape) + 1):
            raise ArgumentError(f"{stage}: expected shape {list(shape)} or [n, ...], got {list(array.shape)}")
        batch = array.reshape((-1, *shape)) if array.ndim == len(shape) else array
        result: NDArray[np.float32] = getattr(self._open(), stage)(batch)
        return result[0] if array.ndim == len(shape) else result


class _MetadataError(Exception):
    """A key of the file is absent or has no usable value: `<key>: expected X, got Y`."""


def _load_core() -> ModuleType:
    try:
        from palo_cpp import _core
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise PaloError(
            f"palo_cpp._core: expected the compiled core, got: {reason}; "
            "install the package with `pip install .` instead of running it from its source folder"
        ) from error
    return _core


def _default_n_threads() -> int:
    from palo_cpp.machine import n_physical_cores

    return n_physical_cores()


def _raw_tensors(header: GgufHeader) -> dict[str, tuple[int, tuple[int, ...], NDArray[np.uint8]]]:
    """Name -> (ggml type, shape row-major, bytes); the bytes are views of the memory-mapped file."""
    file = np.memmap(header.path, np.uint8, "r")
    return {
        tensor.name: (
            tensor.type,
            _row_major(tensor.shape),
            np.asarray(file[tensor.offset : tensor.offset + tensor.n_bytes]),
        )
        for tensor in header.tensors.values()
    }


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Outermost dimension first, without the ones that ggml adds to make four."""
    n_dims = max((i + 1 for i, size in enumerate(shape) if size != 1), default=1)
    return shape[:n_dims][::-1]


def _settings(metadata: Metadata, names: set[str]) -> dict[str, Any]:
    """The keyword arguments of the core's encoder."""
    architecture = metadata.get("general.architecture")
    if architecture != "clip":
        raise _MetadataError(f"general.architecture: expected clip (an mmproj file), got {architecture!r}")
    if metadata.get("clip.has_vision_encoder", True) is not True:
        raise _MetadataError("clip.has_vision_encoder: expected true, got false: a file for sound, not for images")
    projector, n_projector_layers = _projector(metadata, names)
    return {
        "image_size": _size(metadata, "clip.vision.image_size"),
        "patch_size": _size(metadata, "clip.vision.patch_size"),
        "n_embd": _size(metadata, "clip.vision.embedding_length"),
        "n_head": _size(metadata, "clip.vision.attention.head_count"),
        "n_ff": _size(metadata, "clip.vision.feed_forward_length"),
        "n_layer": _n_layer(metadata, names),
        "eps": _number(metadata, "clip.vision.attention.layer_norm_epsilon"),
        "use_gelu": _flag(metadata, "clip.use_gelu"),
        "is_square_ffn_swapped": "palo.version" not in metadata,
        "projector": projector,
        "n_projector_layers": n_projector_layers,
    }


def _value(metadata: Metadata, key: str) -> Any:
    if key not in metadata:
        raise _MetadataError(f"{key}: expected in the metadata, got no such key")
    return metadata[key]


def _size(metadata: Metadata, key: str) -> int:
    value = _value(metadata, key)
    # The core checks ranges; it takes 64 signed bits.
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 32:
        raise _MetadataError(f"{key}: expected a whole number, got {_shorten(value)}")
    return value


def _number(metadata: Metadata, key: str) -> float:
    value = _value(metadata, key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _MetadataError(f"{key}: expected a number, got {_shorten(value)}")
    return float(value)


def _flag(metadata: Metadata, key: str) -> bool:
    value = metadata.get(key, False)
    if not isinstance(value, bool):
        raise _MetadataError(f"{key}: expected true or false, got {_shorten(value)}")
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
        raise _MetadataError(f"clip.projector_type: expected {known}, got {_shorten(kind)}")
    if "mm.1.weight" in names or "mm.3.weight" in names:
        raise _MetadataError("tensors: expected an mlp projector, got one with norms (mm.1, mm.3) as Yi-VL has it")
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
        raise _MetadataError(f"clip.vision.feature_layer: expected one of 0 to {block_count}, got {_shorten(selected)}")
    return layer


def _info(path: Path, metadata: Metadata, settings: dict[str, Any], encoder: Any) -> VisionInfo:
    name = metadata.get("general.name")
    pair_id = metadata.get("palo.pair_id")
    return VisionInfo(
        image_size=settings["image_size"],
        patch_size=settings["patch_size"],
        n_patches=(settings["image_size"] // settings["patch_size"]) ** 2,
        n_image_tokens=encoder.n_image_tokens,
        n_embd=encoder.n_embd,
        n_embd_vision=settings["n_embd"],
        n_layer=settings["n_layer"],
        projector=_projector_name(settings),
        preprocess=_preprocess(metadata),
        image_mean=_three_numbers(metadata, "clip.vision.image_mean"),
        image_std=_three_numbers(metadata, "clip.vision.image_std", above=0.0),
        pair_id=pair_id if isinstance(pair_id, str) else None,
        name=name if isinstance(name, str) and name else path.stem,
    )


def _projector_name(settings: dict[str, Any]) -> ProjectorName:
    kind: ProjectorName = settings["projector"]
    return "linear" if kind == "mlp" and settings["n_projector_layers"] == 1 else kind


def _preprocess(metadata: Metadata) -> Preprocess:
    value = metadata.get("palo.image_preprocess", "pad")
    if value == "pad":
        return "pad"
    if value == "crop":
        return "crop"
    raise _MetadataError(f"palo.image_preprocess: expected pad or crop, got {_shorten(value)}")


def _three_numbers(metadata: Metadata, key: str, above: float = -np.inf) -> tuple[float, float, float]:
    value = _value(metadata, key)
    if not isinstance(value, list) or len(value) != 3 or not all(isinstance(x, (int, float)) for x in value):
        raise _MetadataError(f"{key}: expected three numbers, got {_shorten(value)}")
    if not all(np.isfinite(x) and x > above for x in value):
        raise _MetadataError(f"{key}: expected finite numbers above {above:g}, got {_shorten(value)}")
    return (float(value[0]), float(value[1]), float(value[2]))
