"""The C++ core; use palo_cpp.vision.encoder instead."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float32]
_Integers = NDArray[np.int32]
_Bytes = NDArray[np.uint8]
_Tensor = tuple[int, tuple[int, ...], _Bytes]

class FormatError(ValueError): ...

class VisionEncoder:
    def __init__(
        self,
        tensors: Mapping[str, _Tensor],
        *,
        tower: str,
        image_size: int,
        patch_size: int,
        n_embd: int,
        n_head: int,
        n_ff: int,
        n_layer: int,
        n_query: int,
        eps: float,
        use_gelu: bool,
        is_square_ffn_swapped: bool,
        projector: str,
        n_projector_layers: int,
        n_threads: int,
        is_int8: bool,
    ) -> None: ...
    def patch_embeddings(self, pixels: _Floats) -> _Floats: ...
    def hidden_states(self, pixels: _Floats) -> _Floats: ...
    def residual_stream(self, pixels: _Floats, n_run: int) -> _Floats: ...
    def project(self, hidden: _Floats) -> _Floats: ...
    def encode(self, pixels: _Floats) -> _Floats: ...
    @property
    def n_hidden(self) -> int: ...
    @property
    def n_image_tokens(self) -> int: ...
    @property
    def n_embd(self) -> int: ...
    @property
    def n_threads(self) -> int: ...
    @property
    def isa(self) -> str: ...

class CpmBee:
    def __init__(
        self,
        tensors: Mapping[str, _Tensor],
        *,
        n_vocab: int,
        n_embd: int,
        n_head: int,
        n_layer: int,
        n_ff: int,
        eps: float,
        embedding_scale: float,
        logit_scale: float,
        residual_divisor: float,
        rotary_scale: float,
        rotary_base: float,
        n_position_buckets: int,
        n_segment_buckets: int,
        max_distance: int,
        n_cells: int,
        n_threads: int,
        backend: str,
        is_kv_f32: bool,
    ) -> None: ...
    def prefill(
        self,
        rows: _Integers,
        is_context: _Integers,
        relations: _Integers,
        image_rows: _Integers,
        image_embeddings: _Floats,
        extra: _Integers,
        n_hidden: int,
        between: Callable[[], None],
    ) -> tuple[_Floats, _Floats]: ...
    def step(self, parents: _Integers, rows: _Integers) -> tuple[_Floats, _Floats]: ...
    def rewind(self) -> None: ...
    @property
    def n_cells(self) -> int: ...
    @property
    def n_used_cells(self) -> int: ...

def resample(
    pixels: _Bytes, axis: int, starts: _Integers, coefficients: _Integers, base: _Integers
) -> _Bytes: ...
def ggml_version() -> str: ...
def int8_peak(isa: str) -> float: ...
def available_isas() -> list[str]: ...
def isa() -> str: ...
