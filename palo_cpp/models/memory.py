"""What a model will take of the machine's memory, from the headers of its files alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from palo_cpp.errors import OutOfMemoryError
from palo_cpp.ggml.gguf_header import GgufHeader
from palo_cpp.llm.text_sizes import TextSizes

_MIB = 1 << 20


@dataclass(frozen=True)
class MemoryEstimate:
    """What a load will take, in bytes.

    Attributes:
        text: weights of the language model.
        kv_cache: keys and values of n_ctx tokens, f16.
        compute: llama.cpp's buffers for one piece of a prefill, and its logits.
        vision: weights of vision tower and projector as they are in memory, and one image's activations.
    """

    text: int
    kv_cache: int
    compute: int
    vision: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.text + self.kv_cache + self.compute + self.vision

    def __add__(self, other: MemoryEstimate) -> MemoryEstimate:
        """Both at once."""
        return MemoryEstimate(
            self.text + other.text,
            self.kv_cache + other.kv_cache,
            self.compute + other.compute,
            self.vision + other.vision,
        )


def estimate_memory(
    text: GgufHeader,
    mmproj: GgufHeader | None,
    sizes: TextSizes,
    *,
    n_ctx: int,
    n_batch: int = 512,
    vision_precision: str = "int8",
) -> MemoryEstimate:
    """Estimate what a model will take, from the headers of its files alone.

    Args:
        text: header of the text model, checked.
        mmproj: header of the mmproj file, if there is one.
        sizes: of the text model.
        n_ctx: tokens of context.
        n_batch: rows of one piece of a prefill.
        vision_precision: "int8" or "float", how the vision encoder keeps its matrices.

    Returns:
        The estimate, part by part.
    """
    n_vision = _n_weights(mmproj) if mmproj else 0
    return memory_of(text.size_bytes, n_vision, sizes, n_ctx=n_ctx, n_batch=n_batch, vision_precision=vision_precision)


def memory_of(
    text_bytes: int,
    n_vision_weights: int,
    sizes: TextSizes,
    *,
    n_ctx: int,
    n_batch: int = 512,
    vision_precision: str = "int8",
) -> MemoryEstimate:
    """Estimate what a model will take, of which there need be no file.

    Args:
        text_bytes: size of the text model's file.
        n_vision_weights: numbers in the mmproj file; 0 where there is none.
        sizes: of the text model.
        n_ctx: tokens of context.
        n_batch: rows of one piece of a prefill.
        vision_precision: "int8" or "float", how the vision encoder keeps its matrices.

    Returns:
        The estimate, part by part.
    """
    n_padded = (n_ctx + 255) // 256 * 256  # llama.cpp rounds the context up
    kv_cache = n_padded * sizes.n_cell_bytes
    # f32 activations of one piece (input, output and the feed-forward's two halves), the attention mask in f16, 64 rows
    # of logits. PALO-7B's widths: 87 MiB estimated, 60 MiB taken.
    compute = 8 * n_batch * (sizes.n_embd + sizes.n_ff) + 2 * n_batch * n_padded + 4 * 64 * sizes.n_vocab + 16 * _MIB
    return MemoryEstimate(text_bytes, kv_cache, compute, _vision_bytes(n_vision_weights, vision_precision))


def _n_weights(mmproj: GgufHeader) -> int:
    return sum(math.prod(tensor.shape) for tensor in mmproj.tensors.values())


def _vision_bytes(n_weights: int, precision: str) -> int:
    """Packed weights (int8 with an f32 scale for 64 of them, or f32) and activations of one image."""
    if not n_weights:
        return 0
    bytes_per_group = 64 + 4 if precision == "int8" else 4 * 64
    return n_weights * bytes_per_group // 64 + 64 * _MIB


def check_memory_fits(estimate: MemoryEstimate, available: int | None, *, n_ctx: int) -> None:
    """Refuse a load that cannot fit, before anything is loaded.

    Args:
        estimate: what it will take.
        available: bytes that can be had; None where the machine does not say.
        n_ctx: tokens of context that the estimate counts.

    Raises:
        OutOfMemoryError: with the parts and advice.
    """
    if available is None or estimate.total <= available:
        return
    parts = [f"weights {_size(estimate.text)}", f"context of {n_ctx} tokens {_size(estimate.kv_cache)}"]
    parts += [f"buffers {_size(estimate.compute)}", f"vision {_size(estimate.vision)}"]
    raise OutOfMemoryError(
        f"memory: expected {_size(estimate.total)} ({', '.join(parts)}), got {_size(available)} available; "
        f"{_advice(estimate)}"
    )


def _advice(estimate: MemoryEstimate) -> str:
    if estimate.kv_cache > estimate.text:
        return "choose a smaller n_ctx (-c), or close other programs"
    return "choose a smaller quantization (palo-cpp quantize) or a smaller n_ctx (-c), or close other programs"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.0f} MiB"
