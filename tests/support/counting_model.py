"""A context that only counts what it is given, and a `KvCache` on it that makes up its images."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from palo_cpp.llm.context import N_SEQ_MIN
from palo_cpp.llm.kv_cache import KvCache
from palo_cpp.segments import ImageSegment, TextSegment


class CountingModel:
    """A context that only counts what it is given; its logits show what their sequence holds."""

    def __init__(self, n_ctx: int = 100, n_parallel: int = 1) -> None:
        self.n_ctx, self.n_parallel, self.n_seq = n_ctx, n_parallel, N_SEQ_MIN
        self.n_cells = n_ctx * n_parallel
        self.during: Callable[[], None] = lambda: None  # called in each step
        self.lock = threading.RLock()
        self.sequences: dict[int, list[float]] = {}
        self.decoded: list[int | tuple[int, ...]] = []  # rows of each step, one number for each sequence
        self.fails = False

    @property
    def cells(self) -> list[float]:
        """What the only sequence holds."""
        (cells,) = [cells for cells in self.sequences.values() if cells] or [[]]
        return cells

    @property
    def n_free(self) -> int:
        return self.n_cells - sum(map(len, self.sequences.values()))

    def decode(self, inputs, *, position: int, seq_id: int = 0, all_logits: bool = False) -> np.ndarray:
        cells = self.sequences.setdefault(seq_id, [])
        assert position == len(cells)
        assert len(inputs) <= self.n_free
        if self.fails:
            raise KeyboardInterrupt
        self.during()
        self.decoded.append(len(inputs))
        rows = []
        for row in inputs:
            cells.append(float(np.sum(row)))
            rows.append(np.array([len(cells), *cells, *[0] * (self.n_cells - len(cells))], np.float32))
        return np.stack(rows) if all_logits else rows[-1]

    def decode_many(self, tokens) -> np.ndarray:
        self.during()
        during, self.during = self.during, lambda: None
        before = len(self.decoded)
        rows = [self.decode(ids, position=len(self.sequences.get(i, ())), seq_id=i) for i, ids in tokens.items()]
        self.decoded[before:] = [tuple(map(len, tokens.values()))]
        self.during = during
        return np.stack(rows)

    def remove(self, seq_id: int, start: int = 0) -> None:
        del self.sequences.setdefault(seq_id, [])[start:]

    def copy(self, source: int, target: int) -> None:
        self.sequences[target] = list(self.sequences[source])


class Cache(KvCache):
    """Prefills with embeddings of the images in the prompt, which are made here."""

    def __init__(self, model) -> None:
        super().__init__(model)
        self.encoded: list[str] = []

    def read(self, segments, values=None):
        embeddings = {}
        while (cursor := self.prefill(list(segments), embeddings)) is None:
            for each in self.images_to_prefill(segments):
                self.encoded.append(each.content_hash)
                embeddings[each.content_hash] = np.full((len(each), 2), (values or {}).get(each.content_hash, 0.5))
        return cursor

    def go_on(self, cursor, token, guess=None):
        embeddings = {}
        while (logits := self.advance(cursor, token, guess, embeddings)) is None:
            for each in self.images_to_prefill(cursor.whole()):
                self.encoded.append(each.content_hash)
                embeddings[each.content_hash] = np.full((len(each), 2), 0.5)
        return logits


def text(*tokens: int) -> TextSegment:
    return TextSegment(tokens)


def image(name: str, n_rows: int = 3) -> ImageSegment:
    return ImageSegment(name, n_rows)
