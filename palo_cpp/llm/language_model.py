"""The language model: tokens or embeddings in, logits out, several sequences; llama.cpp underneath.

llama.cpp ends the process where an assertion fails, so everything is checked here before it is handed down.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import ArgumentError, OutOfMemoryError
from palo_cpp.forked import process_guard
from palo_cpp.ggml.backend import BackendMode, BackendUse, checked_mode, loading
from palo_cpp.ggml.gguf_header import GgufHeader, read_header
from palo_cpp.ggml.llama_library import llama_library
from palo_cpp.llm import context as llama_context
from palo_cpp.llm.batch import DecodeRows, joined, rows_of_sequence
from palo_cpp.llm.gguf_checks import check_language_model, checked_embeddings, checked_tokens
from palo_cpp.llm.model_text import ModelText
from palo_cpp.llm.sequence_lengths import SequenceLengths
from palo_cpp.llm.sequence_state import State, StateLayout, check_state, put_back, taken_out
from palo_cpp.llm.text_sizes import TextSizes, checked_n_ctx
from palo_cpp.llm.vocabulary import Vocabulary

logger = logging.getLogger(__name__)


class LanguageModel(ModelText):
    """A LLaMA decoder from a GGUF file.

    All methods may be called from several threads; one lock guards the context, another one text and tokens, so that
    nobody waits for a step to lay out a prompt.

    Attributes:
        path: the GGUF file.
        metadata: its metadata, key -> value.
        n_ctx: tokens of context that one answer may take.
        n_cells: tokens that fit into the context, over all sequences: `n_ctx` for each of `n_parallel`.
        n_parallel: answers that the context has room for at once.
        n_seq: sequences that it can hold.
        n_vocab, n_embd, n_layer: the model's sizes.
        sizes: all of them, as the file's header has them.
        n_threads: threads that compute, for one token and for many alike.
        bos_id, eos_id: token ids; eos_id is `</s>`.
        backend: which of its weights our own kernels compute with.
        lock: hold it to keep other threads out over several calls; a `PaloError` in a forked child.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        n_ctx: int = 0,
        n_threads: int = 0,
        n_parallel: int = 1,
        backend: BackendMode = "auto",
        header: GgufHeader | None = None,
    ) -> None:
        """Map the file and make a context.

        Args:
            path: a text GGUF file.
            n_ctx: tokens of context; 0 takes what the model was trained with, 4096 at most.
            n_threads: 0 takes the physical cores that this process may use.
            n_parallel: answers that have room for `n_ctx` tokens each, 1 to 16.
            backend: "auto" computes with our kernels where they win, "palo" wherever they can, "cpu" never.
            header: its header, where it has been read already.

        Raises:
            ModelNotFoundError: no such file.
            ModelFormatError: not GGUF, damaged, or no LLaMA.
            ArgumentError: n_ctx, n_threads, n_parallel or backend out of range.
            OutOfMemoryError: llama.cpp could not get the memory for the context.
        """
        self.path = Path(path)
        self._guard = process_guard()
        self._guard.check(self.path.name)
        self._header = header or read_header(self.path)
        check_language_model(self._header)
        self.sizes = TextSizes.of(self._header)
        self.n_ctx = checked_n_ctx(n_ctx, self.sizes)
        self.n_parallel = llama_context.checked_n_parallel(n_parallel)
        self.n_cells = self.n_ctx * self.n_parallel
        self.n_seq = llama_context.n_sequences(self.n_parallel)
        self.n_threads = llama_context.checked_n_threads(n_threads)
        mode = checked_mode(backend)
        self.metadata = self._header.metadata
        self._lock, self._text_lock = threading.RLock(), threading.RLock()
        self._llama = llama_library()
        with loading(mode) as placed:
            self._model = llama_context.load_model(self._llama, self.path)
        self.backend: BackendUse = placed.use
        logger.debug("%s: %s", self.path.name, self.backend)
        self._context = llama_context.make_context(self._llama, self._model, self.n_cells, self.n_seq, self.n_threads)
        self._close = weakref.finalize(self, llama_context.free, self._guard, self._llama, self._model, self._context)
        if self.backend.is_active:
            llama_context.warm_up(self._llama, self._model, self._context)
        self._read_sizes()

    def _read_sizes(self) -> None:
        llama = self._llama
        self._vocabulary = Vocabulary(llama, self._model, self.path.name, self._text_lock)
        self.n_vocab = self._vocabulary.n_tokens
        self.bos_id, self.eos_id = self._vocabulary.bos_id, self._vocabulary.eos_id
        self.n_embd: int = llama.llama_model_n_embd(self._model)
        self.n_layer: int = llama.llama_model_n_layer(self._model)
        self._n_batch: int = llama.llama_n_batch(self._context)
        self._lengths = SequenceLengths(self.n_seq)

    @property
    def lock(self) -> threading.RLock:
        """See the class. In a forked child it may be held by a thread that is not there: that is checked first."""
        self._guard.check(self.path.name)
        return self._lock

    # ---- sequences

    def decode(
        self,
        inputs: Sequence[int] | NDArray[Any],
        *,
        position: int,
        seq_id: int = 0,
        all_logits: bool = False,
    ) -> NDArray[np.float32]:
        """Append tokens or embeddings to a sequence and return the logits that follow.

        Args:
            inputs: token ids [n], or embeddings [n, n_embd] f32 (an image's, in causal attention like text).
            position: where the first of them goes; must be the sequence's length.
            seq_id: which sequence.
            all_logits: return the logits of every position instead of the last.

        Returns:
            A copy of the logits: [n_vocab] f32, or [n, n_vocab] with `all_logits`.

        Raises:
            ArgumentError: an input or position that llama.cpp could not take; nothing was decoded.
        """
        with self.lock:
            self._check_open()
            self._check_seq_id(seq_id)
            self._check_position(position, seq_id)
            values = self._checked_inputs(inputs)
            rows = rows_of_sequence(values, position=position, seq_id=seq_id, all_logits=all_logits)
            n_piece = min(self._n_batch, llama_context.N_OUTPUTS_MAX) if all_logits else self._n_batch
            logits = self._decode_rows(rows, n_piece)
        return logits if all_logits else logits[-1]

    def decode_many(self, tokens: Mapping[int, Sequence[int]]) -> NDArray[np.float32]:
        """Append tokens to several sequences at once: the weights are read once for all of them.

        Args:
            tokens: seq_id -> token ids that follow what that sequence holds.

        Returns:
            A copy of the logits after the last token of each, [n_sequences, n_vocab] f32, in the order given. Against
            `decode`, sums may be taken in another order: they differ in the last bits.

        Raises:
            ArgumentError: no sequence, or tokens that llama.cpp could not take; nothing was decoded.
        """
        if not tokens:
            raise ArgumentError("tokens: expected at least one sequence, got none")
        with self.lock:
            self._check_open()
            for seq_id in tokens:
                self._check_seq_id(seq_id)
            rows = [
                rows_of_sequence(
                    checked_tokens(ids, self.n_vocab), position=self._lengths[seq_id], seq_id=seq_id, all_logits=False
                )
                for seq_id, ids in tokens.items()
            ]
            return self._decode_rows(joined(rows), self._n_batch)

    def _checked_inputs(self, inputs: Sequence[int] | NDArray[Any]) -> NDArray[Any]:
        if isinstance(inputs, np.ndarray) and inputs.ndim != 1:
            return checked_embeddings(inputs, self.n_embd)
        return checked_tokens(inputs, self.n_vocab)

    def _check_seq_id(self, seq_id: int) -> None:
        llama_context.check_seq_id(seq_id, self.n_seq)

    def _check_position(self, position: int, seq_id: int) -> None:
        if position != self._lengths[seq_id]:
            raise ArgumentError(f"position: expected {self._lengths[seq_id]}, got {position}; decode in order")

    def _check_fits(self, n_tokens: int, n_free: int) -> None:
        if n_tokens > n_free:
            raise ArgumentError(
                f"context: expected at most {n_free} more tokens, got {n_tokens}: {n_tokens - n_free} too many of "
                f"{self.n_cells}; shorten the text or choose a larger n_ctx"
            )

    def _decode_rows(self, rows: DecodeRows, n_piece: int) -> NDArray[np.float32]:
        """Decode in pieces; the logits asked for, [n_wanted, n_vocab]. After a failure all is as it was."""
        self._check_fits(len(rows), self.n_free)
        before = {seq_id: self._lengths[seq_id] for seq_id in rows.lengths()}
        logits = []
        try:
            for piece in rows.pieces(n_piece):
                self._decode_batch(piece)
                if piece.wanted.any():
                    logits.append(self._logits(int(piece.wanted.sum())))
        except BaseException:  # Ctrl-C between two pieces, too: leave no half of the inputs behind
            for seq_id, length in before.items():
                self.remove(seq_id, length)
            raise
        return logits[0] if len(logits) == 1 else np.concatenate(logits)

    def _decode_batch(self, rows: DecodeRows) -> None:
        """Hand one piece to llama.cpp."""
        status = self._llama.llama_decode(self._context, rows.to_llama(self._llama))
        if status != 0:
            raise OutOfMemoryError(
                f"{self.path.name}: expected llama.cpp to decode {len(rows)} tokens, got status {status}; "
                "see the log of palo_cpp.llama, free memory or choose a smaller n_ctx"
            )
        for seq_id, n in rows.lengths().items():
            self._lengths.append(seq_id, n)

    def _logits(self, n_rows: int) -> NDArray[np.float32]:
        data = self._llama.llama_get_logits(self._context)
        return np.array(np.ctypeslib.as_array(data, shape=(n_rows, self.n_vocab)), dtype=np.float32)

    def n_tokens(self, seq_id: int = 0) -> int:
        """How many tokens and embeddings a sequence holds."""
        self._check_seq_id(seq_id)
        return self._lengths[seq_id]

    @property
    def n_free(self) -> int:
        """Tokens that still fit into the context; what sequences share counts once."""
        return self.n_cells - self._lengths.n_used

    def remove(self, seq_id: int, start: int = 0, end: int = -1) -> None:
        """Drop what a sequence holds from `start` to its end (`end` < 0, or its length).

        Raises:
            ArgumentError: a range that would leave a hole.
        """
        self._check_seq_id(seq_id)
        with self.lock:
            self._check_open()
            length = self._lengths[seq_id]
            if start < 0 or 0 <= end < length:
                raise ArgumentError(f"range: expected start >= 0 and the sequence's end {length}, got {start}:{end}")
            memory = self._llama.llama_get_memory(self._context)
            self._llama.llama_memory_seq_rm(memory, seq_id, start, -1)
            self._lengths.truncate(seq_id, start)

    def copy(self, source: int, target: int) -> None:
        """Make sequence `target` what `source` is; the cells are shared until they differ."""
        self._check_seq_id(source)
        self._check_seq_id(target)
        if source == target:
            return
        with self.lock:
            self.remove(target)
            memory = self._llama.llama_get_memory(self._context)
            self._llama.llama_memory_seq_cp(memory, source, target, -1, -1)
            self._lengths.copy(source, target)

    # ---- sequences kept outside

    def sequence_state(self, seq_id: int = 0, *, end: int | None = None) -> State:
        """What a sequence holds, for `set_sequence_state` of this model in this or another process.

        Args:
            seq_id: which sequence.
            end: copy no more than so many positions.

        Returns:
            Bytes [n]: keys and values in f16, 192 KiB a position for MobilePALO, 512 for 7B.

        Raises:
            ArgumentError: it is empty.
            OutOfMemoryError: no memory for the copy.
        """
        self._check_seq_id(seq_id)
        with self.lock:
            self._check_open()
            length = self._lengths[seq_id]
            n_cells = length if end is None else min(end, length)
            if n_cells <= 0:
                raise ArgumentError("sequence state: expected a sequence that holds something, got an empty one")
            if n_cells == length:
                return taken_out(self._llama, self._context, seq_id)
            spare = next((i for i in range(self.n_seq) if not self._lengths[i]), None)
            if spare is None:
                raise ArgumentError("sequence state: expected a sequence that is free, got none; remove one")
            # Sequences share cells, so the shorter copy costs nothing.
            self.copy(seq_id, spare)
            self.remove(spare, n_cells)
            try:
                return taken_out(self._llama, self._context, spare)
            finally:
                self.remove(spare)

    def set_sequence_state(self, state: State, seq_id: int = 0, *, n_expected: int | None = None) -> int:
        """Put back what `sequence_state` returned; what stood in the sequence is dropped.

        Args:
            state: bytes [n], from anywhere: they are checked first (sequence_state.py).
            seq_id: which sequence.
            n_expected: how many positions there must be in it.

        Returns:
            How many positions it holds now.

        Raises:
            ArgumentError: damaged, of another model, or too long for the context; nothing has changed.
            OutOfMemoryError: llama.cpp did not take it; the sequence is empty.
        """
        self._check_seq_id(seq_id)
        n_cells = check_state(state, StateLayout.of(self.sizes), n_expected)
        with self.lock:
            self._check_open()
            self._check_fits(n_cells, self.n_cells - self._lengths.n_used_without(seq_id))
            self.remove(seq_id)
            put_back(self._llama, self._context, seq_id, state)
            self._lengths.append(seq_id, n_cells)
        return n_cells

    def n_state_bytes(self, n_tokens: int) -> int:
        """Size of `sequence_state` for so many tokens and embeddings."""
        return StateLayout.of(self.sizes).n_bytes(n_tokens)

    # ---- end of life

    @property
    def has_equal_rows(self) -> bool:
        """Whether a row's logits are the same to the bit however many rows are decoded at once.

        They are where our kernels take every matrix; llama.cpp's take one row and several in different ways.
        """
        tensors = self._header.tensors
        matrices = [t for name, t in tensors.items() if t.shape[1] > 1 and name != "token_embd.weight"]
        n_bytes = sum(tensor.n_bytes for tensor in matrices)
        return "output.weight" in tensors and self.backend.n_packed_bytes >= n_bytes

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return not self._close.alive

    def _check_open(self) -> None:
        if self.is_closed:
            raise ArgumentError(f"{self.path.name}: expected an open model, got a closed one; load it again")

    def close(self) -> None:
        """Free the model; every later call is an ArgumentError. Closing twice does nothing."""
        if self._guard.is_forked:
            self._close()
        else:
            with self._lock, self._text_lock:
                self._close()

    def __enter__(self) -> LanguageModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
