"""What llama.cpp wrote of one sequence's KV cache, checked byte by byte before it is given back.

llama.cpp 0.3.36's own reader (src/llama-kv-cache.cpp, `state_read_meta`, `state_read_data`) compares lengths, types and
the number of layers, but takes any position, ignores what follows the data, and takes NaN, which would then spread into
every conversation of the context, for attention may read cells that are masked. So nothing is handed down that is not
exactly what llama.cpp would have written for this model:

    u32 magic, i32 sequence, u32 streams = 1, u32 n_cells
    n_cells times: i32 position, u32 sequences = 1, i32 sequence
    u32 values transposed = 0 (so it is with flash attention, which all CPUs have), u32 n_layer
    n_layer times: i32 type = f16, u64 bytes of a row, keys [n_cells, row] f16
    n_layer times: the same for the values
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import ArgumentError, OutOfMemoryError
from palo_cpp.llm.text_sizes import TextSizes

State = NDArray[np.uint8]

_MAGIC = 0xAF143CD8  # io_magic, src/llama-context.cpp
_TYPE_F16 = 1
_F16_EXPONENT = 0x7C00  # all ones: infinity or NaN
_CELL = np.dtype([("position", "<i4"), ("n_sequences", "<u4"), ("sequence", "<i4")])
_TENSOR = np.dtype([("type", "<i4"), ("n_row_bytes", "<u8")])
_N_HEAD_BYTES, _N_LAYERS_BYTES = 16, 8


@dataclass(frozen=True)
class StateLayout:
    """The sizes that a model's states have.

    Attributes:
        n_layer: layers with keys and values.
        n_key_bytes, n_value_bytes: of one position in one layer.
    """

    n_layer: int
    n_key_bytes: int
    n_value_bytes: int

    @classmethod
    def of(cls, sizes: TextSizes) -> StateLayout:
        """The layout of a model of these sizes."""
        return cls(sizes.n_layer, 2 * sizes.n_head_kv * sizes.n_key, 2 * sizes.n_head_kv * sizes.n_value)

    @property
    def n_cell_bytes(self) -> int:
        """Bytes of a state for each position."""
        return _CELL.itemsize + self.n_layer * (self.n_key_bytes + self.n_value_bytes)

    def n_bytes(self, n_cells: int) -> int:
        """Size of a state of so many positions."""
        return _N_HEAD_BYTES + _N_LAYERS_BYTES + 2 * self.n_layer * _TENSOR.itemsize + n_cells * self.n_cell_bytes


def check_state(state: State, layout: StateLayout, n_expected: int | None = None) -> int:
    """Refuse a state that llama.cpp would not have written for a model of this layout.

    Args:
        state: bytes [n].
        layout: the model's.
        n_expected: how many positions it must hold; None takes any number.

    Returns:
        How many positions it holds, at least one: 0 to n - 1, each once.

    Raises:
        ArgumentError: it is cut short or longer, of another model, or damaged.
    """
    state = np.ascontiguousarray(state)
    n_cells = _checked_n_cells(state, layout)
    if n_expected not in (None, n_cells):
        raise _wrong(f"{n_expected} positions", str(n_cells))
    cells_end = _N_HEAD_BYTES + n_cells * _CELL.itemsize
    _check_cells(state[_N_HEAD_BYTES:cells_end].view(_CELL))
    if (found := _u32(state[cells_end : cells_end + _N_LAYERS_BYTES])) != [0, layout.n_layer]:
        raise _wrong(f"{layout.n_layer} layers with rows of values", f"{found[1]} layers, transposed: {found[0]}")
    start = cells_end + _N_LAYERS_BYTES
    for n_row_bytes in (layout.n_key_bytes,) * layout.n_layer + (layout.n_value_bytes,) * layout.n_layer:
        end = start + _TENSOR.itemsize + n_cells * n_row_bytes
        _check_tensor(state[start:end], n_row_bytes)
        start = end
    return n_cells


def taken_out(llama: Any, context: Any, seq_id: int) -> State:
    """Copy what a sequence holds; see `LanguageModel.sequence_state`."""
    n_bytes = llama.llama_state_seq_get_size(context, seq_id)
    try:
        state = np.empty(n_bytes, np.uint8)
    except MemoryError:
        raise OutOfMemoryError(f"sequence state: expected {n_bytes >> 20} MiB of memory, got none; free some") from None
    n = llama.llama_state_seq_get_data(context, _bytes(state), n_bytes, seq_id)
    if n != n_bytes:
        raise OutOfMemoryError(f"sequence state: expected {n_bytes} bytes from llama.cpp, got {n}; free some memory")
    return state


def put_back(llama: Any, context: Any, seq_id: int, state: State) -> None:
    """Fill an empty sequence with a checked state; see `LanguageModel.set_sequence_state`."""
    state = np.ascontiguousarray(state)
    n = llama.llama_state_seq_set_data(context, _bytes(state), len(state), seq_id)
    if n != len(state):
        llama.llama_memory_seq_rm(llama.llama_get_memory(context), seq_id, -1, -1)
        raise OutOfMemoryError(
            "sequence state: expected llama.cpp to take it, got a refusal; see the log of palo_cpp.llama, "
            "or read the text again instead"
        )


def _bytes(state: State) -> Any:
    return state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


def _checked_n_cells(state: State, layout: StateLayout) -> int:
    if state.ndim != 1 or state.dtype != np.uint8 or len(state) < layout.n_bytes(1):
        raise _wrong(f"at least {layout.n_bytes(1)} bytes", f"shape {list(state.shape)} of {state.dtype}")
    magic, _, n_streams, n_cells = _u32(state[:_N_HEAD_BYTES])
    if magic != _MAGIC or n_streams != 1:
        raise _wrong(f"the mark {_MAGIC:#x} and one stream", f"{magic:#x} and {n_streams}")
    if len(state) != layout.n_bytes(n_cells):
        raise _wrong(f"{layout.n_bytes(n_cells)} bytes for {n_cells} positions of this model", str(len(state)))
    return n_cells


def _check_cells(cells: NDArray[np.void]) -> None:
    if not np.array_equal(np.sort(cells["position"]), np.arange(len(cells))) or (cells["n_sequences"] != 1).any():
        raise _wrong(f"positions 0 to {len(cells) - 1}, each once, in one sequence", "others")


def _check_tensor(tensor: State, n_row_bytes: int) -> None:
    found = tensor[: _TENSOR.itemsize].view(_TENSOR)[0]
    if (int(found["type"]), int(found["n_row_bytes"])) != (_TYPE_F16, n_row_bytes):
        raise _wrong(f"rows of {n_row_bytes} bytes of f16", f"{found['n_row_bytes']} of type {found['type']}")
    numbers = tensor[_TENSOR.itemsize :].view("<u2")
    # On the bits, for numpy has no fast isfinite for f16: 300 MiB take 0.15 s.
    if ((numbers & _F16_EXPONENT) == _F16_EXPONENT).any():
        raise _wrong("finite numbers", "NaN or infinity")


def _u32(data: State) -> list[int]:
    numbers: list[int] = data.view("<u4").tolist()
    return numbers


def _wrong(expected: str, got: str) -> ArgumentError:
    return ArgumentError(f"sequence state: expected {expected}, got {got}; read the text again instead")
