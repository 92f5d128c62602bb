"""Random tensors of every type that random models need, made as fast as random bytes can be.

A quantized block is random bits under a chosen scale, so its values are uniform, not normal; speed does not depend on
that, and the standard deviation is what was asked for. Layouts: ggml/src/ggml-common.h.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import ArgumentError

Bytes = NDArray[np.uint8]

# Uniform integers of 4, 5, 6 and 8 bits have these standard deviations: sqrt((n^2 - 1) / 12).
_STD_4, _STD_5, _STD_6, _STD_8 = (math.sqrt((4**bits - 1) / 12) for bits in (4, 5, 6, 8))
_RMS_SCALE_6 = math.sqrt(63 * 127 / 6)  # root mean square of a 6-bit scale 0..63


@dataclass(frozen=True)
class _Block:
    """One quantized block.

    Attributes:
        n_values, n_bytes: its size.
        scale_at: offset of its f16 scale.
        std: standard deviation of its values where the scale is 1 and the other bits are random.
        offset: what is added is the scale times this; stored as an f16 right after the scale (None: no such field).
        has_k_scales: twelve bytes of 6-bit scales and minima follow (Q4_K, Q5_K).
    """

    n_values: int
    n_bytes: int
    scale_at: int
    std: float
    offset: float | None = None
    has_k_scales: bool = False


_BLOCKS = {
    "Q8_0": _Block(32, 34, 0, _STD_8),
    "Q4_0": _Block(32, 18, 0, _STD_4),
    "Q4_1": _Block(32, 20, 0, _STD_4, offset=-7.5),
    "Q5_0": _Block(32, 22, 0, _STD_5),
    "Q5_1": _Block(32, 24, 0, _STD_5, offset=-15.5),
    # The minimum is subtracted: scale * (s * q - offset * s), with the same 6-bit s.
    "Q4_K": _Block(256, 144, 0, _STD_4 * _RMS_SCALE_6, offset=7.5, has_k_scales=True),
    "Q5_K": _Block(256, 176, 0, _STD_5 * _RMS_SCALE_6, offset=15.5, has_k_scales=True),
    "Q6_K": _Block(256, 210, 208, _STD_6 * _STD_8),
}
_FLOATS = {"F32": 4, "F16": 2, "BF16": 2}


def n_bytes(shape: tuple[int, ...], type_name: str) -> int:
    """Size of a tensor's data.

    Raises:
        ArgumentError: rows of the tensor are not whole blocks.
    """
    if type_name in _FLOATS:
        return math.prod(shape) * _FLOATS[type_name]
    block = _BLOCKS[type_name]
    if shape[-1] % block.n_values:
        raise ArgumentError(
            f"type {type_name}: expected rows of a multiple of {block.n_values} values, got {shape[-1]}; "
            "choose another type"
        )
    return math.prod(shape) // block.n_values * block.n_bytes


def random_tensor(
    name: str, shape: tuple[int, ...], type_name: str, *, std: float, mean: float = 0.0, seed: int = 0
) -> Bytes:
    """Draw a tensor; the same seed and name give the same bytes.

    Args:
        name: its name, part of the seed.
        shape: row-major.
        type_name: by the gguf package's names.
        std: standard deviation of the values.
        mean: their mean; only for float types.
        seed: of the whole model.

    Returns:
        Its data, u8 [n_bytes].
    """
    generator = np.random.Generator(np.random.SFC64([seed, zlib.crc32(name.encode())]))
    if type_name in _FLOATS:
        return _random_floats(generator, math.prod(shape), type_name, std, mean)
    return _random_blocks(generator, n_bytes(shape, type_name), _BLOCKS[type_name], std)


def _random_floats(generator: np.random.Generator, n: int, type_name: str, std: float, mean: float) -> Bytes:
    values = generator.standard_normal(n, dtype=np.float32)
    values *= np.float32(std)
    values += np.float32(mean)
    if type_name == "F16":
        return values.astype(np.float16).view(np.uint8)
    if type_name == "BF16":
        return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    return values.view(np.uint8)


def _random_blocks(generator: np.random.Generator, size: int, block: _Block, std: float) -> Bytes:
    blocks = np.frombuffer(bytearray(generator.bytes(size)), np.uint8).reshape(-1, block.n_bytes)
    # Scales of either sign: unsigned codes stand half a step below zero on average, and that must cancel.
    signs = generator.integers(0, 2, len(blocks)) * 2 - 1
    scales = (std / block.std * signs * generator.uniform(0.75, 1.25, len(blocks))).astype(np.float16)
    _put_f16(blocks, block.scale_at, scales)
    if block.offset is not None:
        _put_f16(blocks, block.scale_at + 2, scales * np.float16(block.offset))
    if block.has_k_scales:
        _equal_scales_and_minima(blocks[:, 4:16])
    return blocks.reshape(-1)


def _put_f16(blocks: Bytes, at: int, values: NDArray[np.float16]) -> None:
    blocks[:, at : at + 2] = values[:, None].view(np.uint8)


def _equal_scales_and_minima(packed: Bytes) -> None:
    """Make the eight 6-bit minima equal to the eight scales, packed [n, 12], so that the values have no mean.

    Source: ggml/src/ggml-quants.c, `get_scale_min_k4`.
    """
    packed[:, 4:8] = packed[:, 0:4]
    packed[:, 8:12] = (packed[:, 8:12] & 0x0F) * 0x11
