"""What llama.cpp decodes in one call: rows of any sequences, each with its place."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DecodeRows:
    """Rows in the order in which they are decoded.

    Attributes:
        values: token ids [n] i32, or embeddings [n, n_embd] f32.
        positions: [n] i32, where each is in its sequence.
        seq_ids: [n] i32, which sequence that is.
        wanted: [n] i8, 1 where the logits that follow are asked for.
    """

    values: NDArray[Any]
    positions: NDArray[np.int32]
    seq_ids: NDArray[np.int32]
    wanted: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.positions)

    def lengths(self) -> Counter[int]:
        """How many rows each sequence has."""
        return Counter(self.seq_ids.tolist())

    def pieces(self, n_piece: int) -> Iterator[DecodeRows]:
        """Cut into runs of at most `n_piece` rows."""
        for start in range(0, len(self), n_piece):
            part = slice(start, start + n_piece)
            yield DecodeRows(self.values[part], self.positions[part], self.seq_ids[part], self.wanted[part])

    def to_llama(self, llama: Any) -> Any:
        """The same as a `llama_batch`, which points into these arrays: keep them until it is decoded."""
        n = len(self)
        one = (ctypes.c_int32 * n)(*[1] * n)
        address = self.seq_ids.ctypes.data
        addresses = (ctypes.c_void_p * n)(*range(address, address + n * self.seq_ids.itemsize, self.seq_ids.itemsize))
        batch = llama.llama_batch(
            n_tokens=n,
            pos=_pointer(self.positions, ctypes.c_int32),
            n_seq_id=one,
            seq_id=ctypes.cast(addresses, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
            logits=_pointer(self.wanted, ctypes.c_int8),
        )
        if self.values.ndim == 1:
            batch.token = _pointer(self.values, ctypes.c_int32)
        else:
            batch.embd = _pointer(self.values, ctypes.c_float)
        return batch


def rows_of_sequence(values: NDArray[Any], *, position: int, seq_id: int, all_logits: bool) -> DecodeRows:
    """Rows that continue one sequence; logits are asked for after the last, or after each."""
    n = len(values)
    wanted = np.zeros(n, np.int8)
    wanted[0 if all_logits else -1 :] = 1
    return DecodeRows(values, np.arange(position, position + n, dtype=np.int32), np.full(n, seq_id, np.int32), wanted)


def joined(rows: Sequence[DecodeRows]) -> DecodeRows:
    """Rows of several sequences, one after the other."""
    return DecodeRows(
        np.concatenate([each.values for each in rows]),
        np.concatenate([each.positions for each in rows]),
        np.concatenate([each.seq_ids for each in rows]),
        np.concatenate([each.wanted for each in rows]),
    )


def _pointer(array: NDArray[Any], c_type: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(c_type))
