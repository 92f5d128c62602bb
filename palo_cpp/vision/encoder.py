"""Pixels to image embeddings: the vision tower and projector of one mmproj file.

This module reads the file's metadata and checks its meaning; weights go to the C++ core as raw blocks with their type.
Keys and tensor names are llama.cpp's: tools/mtmd/clip-impl.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from palo_cpp.errors import ArgumentError, ModelFormatError, OutOfMemoryError, PaloError
from palo_cpp.ggml.gguf_header import GgufHeader, read_header
from palo_cpp.vision.mmproj_settings import (
    KEY_PREFIXES,
    Metadata,
    MetadataError,
    Preprocess,
    ProjectorName,
    TowerName,
    preprocess_mode,
    projector_name,
    read_settings,
    three_numbers,
)

Precision = Literal["int8", "float"]


@dataclass(frozen=True)
class VisionInfo:
    """What an mmproj file holds.

    Attributes:
        tower: kind of tower: CLIP's, or BEiT-3's with learned queries.
        image_size: pixels per side of the square the tower takes.
        patch_size: pixels per side of a patch.
        n_patches: patches of an image.
        n_hidden: rows that the projector takes for an image: its patches, or BEiT-3's queries.
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

    tower: TowerName
    image_size: int
    patch_size: int
    n_patches: int
    n_hidden: int
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

    version = "4"  # raise it with each change of preprocessing, tower or projector that changes embeddings

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
            settings = read_settings(metadata, set(header.tensors))
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
        except MetadataError as error:
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
        """The tower alone: [3, S, S] -> [n_hidden, n_embd_vision], patches at the select layer or normed queries."""
        return self._run("hidden_states", pixels, self._pixel_shape)

    def residual_stream(self, pixels: ArrayLike, n_run: int) -> NDArray[np.float32]:
        """All tokens after the first `n_run` layers (fewer than run in all), for comparison stage by stage.

        Args:
            pixels: as in `encode`.
            n_run: layers to run; 0 gives the embedding.

        Returns:
            f32 [n_tokens, n_embd_vision], class token, patches, queries; several images as in `encode`.

        Raises:
            ArgumentError: the shape is another one, or there are not so many layers.
        """
        try:
            return self._run("residual_stream", pixels, self._pixel_shape, n_run)
        except (ValueError, TypeError) as error:
            raise ArgumentError(str(error)) from None

    def project(self, hidden: ArrayLike) -> NDArray[np.float32]:
        """The projector alone: [n_hidden, n_embd_vision] -> [n_image_tokens, n_embd]; several as in `encode`."""
        return self._run("project", hidden, (self.info.n_hidden, self.info.n_embd_vision))

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

    def _run(self, stage: str, values: ArrayLike, shape: tuple[int, ...], *more: int) -> NDArray[np.float32]:
        array = np.ascontiguousarray(values, dtype=np.float32)
        if array.shape[-len(shape) :] != shape or array.ndim not in (len(shape), len(shape) + 1):
            raise ArgumentError(f"{stage}: expected shape {list(shape)} or [n, ...], got {list(array.shape)}")
        batch = array.reshape((-1, *shape)) if array.ndim == len(shape) else array
        result: NDArray[np.float32] = getattr(self._open(), stage)(batch, *more)
        return result[0] if array.ndim == len(shape) else result


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


def _info(path: Path, metadata: Metadata, settings: dict[str, Any], encoder: Any) -> VisionInfo:
    name = metadata.get("general.name")
    pair_id = metadata.get("palo.pair_id")
    prefix = KEY_PREFIXES[settings["tower"]]
    return VisionInfo(
        tower=settings["tower"],
        image_size=settings["image_size"],
        patch_size=settings["patch_size"],
        n_patches=(settings["image_size"] // settings["patch_size"]) ** 2,
        n_hidden=encoder.n_hidden,
        n_image_tokens=encoder.n_image_tokens,
        n_embd=encoder.n_embd,
        n_embd_vision=settings["n_embd"],
        n_layer=settings["n_layer"],
        projector=projector_name(settings),
        preprocess=preprocess_mode(metadata),
        image_mean=three_numbers(metadata, f"{prefix}.image_mean"),
        image_std=three_numbers(metadata, f"{prefix}.image_std", above=0.0),
        pair_id=pair_id if isinstance(pair_id, str) else None,
        name=name if isinstance(name, str) and name else path.stem,
    )
