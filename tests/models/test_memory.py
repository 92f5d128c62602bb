"""What a model will take, from headers alone, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palo_cpp.errors import OutOfMemoryError
from palo_cpp.ggml.gguf_header import GgufHeader, TensorInfo
from palo_cpp.llm.text_sizes import TextSizes
from palo_cpp.models.memory import MemoryEstimate, check_memory_fits, estimate_memory

MIB = 1 << 20


def estimate(text: GgufHeader, mmproj: GgufHeader | None, **options: Any) -> MemoryEstimate:
    return estimate_memory(text, mmproj, TextSizes.of(text), **options)


# ---- estimates


def header(size_bytes: int, tensors: dict[str, TensorInfo] | None = None, **metadata: int) -> GgufHeader:
    return GgufHeader(Path("a.gguf"), size_bytes, dict(metadata), {}, {}, [b"x"] * 32000, tensors or {})


def palo_7b(size_bytes: int = 4081 * MIB) -> GgufHeader:
    sizes = {
        "llama.context_length": 4096,
        "llama.embedding_length": 4096,
        "llama.feed_forward_length": 11008,
        "llama.block_count": 32,
        "llama.attention.head_count": 32,
    }
    return header(size_bytes, **sizes)


def test_kv_cache_of_palo_7b_is_512_kib_a_token():
    estimated = estimate(palo_7b(), None, n_ctx=2048)
    assert estimated.kv_cache == 2048 * 512 * 1024
    assert estimated.text == 4081 * MIB
    assert estimated.vision == 0
    assert estimated.total == estimated.text + estimated.kv_cache + estimated.compute


def test_grouped_heads_take_less():
    grouped = header(1, **(palo_7b().metadata | {"llama.attention.head_count_kv": 8}))
    assert estimate(grouped, None, n_ctx=2048).kv_cache == 2048 * 128 * 1024


@pytest.mark.parametrize(("precision", "bytes_per_weight"), [("int8", 68 / 64), ("float", 4)])
def test_vision_weights_count_as_they_are_packed(precision, bytes_per_weight):
    mmproj = header(10, {"v.blk": TensorInfo("v.blk", (1024, 4096, 1, 1), 1, 8 * MIB, offset=0)})
    estimated = estimate(palo_7b(), mmproj, n_ctx=256, vision_precision=precision)
    assert estimated.vision == bytes_per_weight * 1024 * 4096 + 64 * MIB


def test_a_load_that_fits_or_cannot_be_told_goes_on():
    estimated = estimate(palo_7b(), None, n_ctx=2048)
    check_memory_fits(estimated, estimated.total, n_ctx=2048)
    check_memory_fits(estimated, None, n_ctx=2048)


def test_a_load_that_cannot_fit_is_refused_with_advice():
    estimated = estimate(palo_7b(), None, n_ctx=2048)
    with pytest.raises(OutOfMemoryError) as refused:
        check_memory_fits(estimated, 3 << 30, n_ctx=2048)
    message = str(refused.value)
    assert "weights 4.0 GiB, context of 2048 tokens 1.0 GiB" in message
    assert "got 3.0 GiB available" in message and "smaller quantization" in message
    estimated = estimate(palo_7b(100 * MIB), None, n_ctx=4096)
    with pytest.raises(OutOfMemoryError, match=r"choose a smaller n_ctx \(-c\), or"):
        check_memory_fits(estimated, 1 << 30, n_ctx=4096)
