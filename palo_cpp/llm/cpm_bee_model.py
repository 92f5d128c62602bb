"""The language model of VisCPM: CPM-Bee on our C++ core, whole prompts in, several paths of an answer side by side."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import AnswerStopped, ArgumentError, ModelFormatError, OutOfMemoryError, PaloError
from palo_cpp.forked import process_guard
from palo_cpp.ggml.backend import BackendMode, BackendUse, checked_mode, loading
from palo_cpp.ggml.gguf_header import GgufHeader, read_header
from palo_cpp.llm.context import checked_n_threads
from palo_cpp.llm.cpm_bee_prompt import BeePrompt, prompt_arrays, rows_of
from palo_cpp.llm.cpm_bee_sizes import check_cpm_bee, checked_n_paths, core_settings, cpm_bee_sizes, n_cells_of
from palo_cpp.llm.text_sizes import checked_n_ctx

logger = logging.getLogger(__name__)

KvType = Literal["f16", "f32"]

_REGISTRY_NAME = "PALO"  # of our backend in ggml's registry


class CpmBeeModel:
    """CPM-Bee from a GGUF file. It holds one prompt and the paths of its answer.

    All methods may be called from several threads; a lock lets one at a time compute.

    Attributes:
        path: the GGUF file.
        sizes: its sizes, as the header has them.
        n_ctx: tokens that a prompt and one path may take.
        n_cells: tokens that a prompt and all paths may take together; what they share counts once.
        n_paths: paths of an answer that there is room for.
        n_vocab, n_embd: sizes.
        n_threads: threads that compute.
        backend: which of its weights our own kernels compute with.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        n_ctx: int = 0,
        n_paths: int = 3,
        n_threads: int = 0,
        backend: BackendMode = "auto",
        kv_type: KvType = "f16",
        header: GgufHeader | None = None,
    ) -> None:
        """Load the weights.

        Args:
            path: a GGUF file of the architecture `cpmbee`.
            n_ctx: tokens of context; 0 takes what the model was made for.
            n_paths: paths of an answer that are followed at once, 1 to 16.
            n_threads: 0 takes the physical cores that this process may use.
            backend: "auto" and "palo" compute with our kernels wherever they can, "cpu" never.
            kv_type: of keys and values; "f32" is exact, in twice the memory, and slow.
            header: its header, where it has been read already.

        Raises:
            ModelNotFoundError: no such file.
            ModelFormatError: not GGUF, damaged, or no CPM-Bee.
            ArgumentError: n_ctx, n_paths, n_threads, backend or kv_type out of range.
            OutOfMemoryError: weights or context do not fit.
        """
        self.path = Path(path)
        self._guard = process_guard()
        self._guard.check(self.path.name)
        header = header or read_header(self.path)
        check_cpm_bee(header)
        self.sizes = cpm_bee_sizes(header)
        self.n_ctx = checked_n_ctx(n_ctx, self.sizes)
        self.n_paths = checked_n_paths(n_paths)
        self.n_cells = n_cells_of(self.n_ctx, self.n_paths)
        self.n_threads = checked_n_threads(n_threads)
        self.n_vocab, self.n_embd = self.sizes.n_vocab, self.sizes.n_embd
        self._lock = threading.RLock()
        # Differs from llama.cpp's models: "auto" does not time the kernels. The alternative is ggml's plain weights,
        # for its repacked ones cannot be read back, and the embedding is both looked up and multiplied with.
        mode = checked_mode(backend)
        if kv_type not in ("f16", "f32"):
            raise ArgumentError(f"kv_type: expected 'f16' or 'f32', got {kv_type!r}")
        with loading("cpu" if mode == "cpu" else "palo") as placed:
            self._core: Any = self._load(header, "" if mode == "cpu" else _REGISTRY_NAME, kv_type)
        self.backend = BackendUse(mode, placed.use.n_packed_bytes, placed.use.reason)
        logger.debug("%s: %s", self.path.name, self.backend)

    def _load(self, header: GgufHeader, backend: str, kv_type: KvType) -> Any:
        core = _core()
        try:
            return core.CpmBee(
                _raw_tensors(header),
                **core_settings(header),
                n_cells=self.n_cells,
                n_threads=self.n_threads,
                backend=backend,
                is_kv_f32=kv_type == "f32",
            )
        except core.FormatError as error:
            raise ModelFormatError(f"{self.path.name}: {error}") from None
        except MemoryError:
            raise OutOfMemoryError(
                f"{self.path.name}: expected memory for its weights and {self.n_cells} tokens of context, got none; "
                "choose a smaller quantization or a smaller n_ctx, or close other programs"
            ) from None
        except (ValueError, TypeError) as error:
            raise ArgumentError(str(error)) from None

    def prefill(self, prompt: BeePrompt, *, should_stop: Callable[[], bool] | None = None) -> NDArray[np.float32]:
        """Take a prompt; what was held before is forgotten. The prompt is path 0 of the answer.

        Args:
            prompt: all of it, in one piece.
            should_stop: asked every few layers, whether anybody still waits for it. Ctrl-C is seen then, too.

        Returns:
            logits [n_vocab + n_extra] f32 after its last token.

        Raises:
            ArgumentError: a prompt that cannot be taken; what was held stays.
            ModelFormatError: the logits are not numbers: the weights are damaged.
            OutOfMemoryError: no memory to compute.
            AnswerStopped: it should; then no prompt is held.
        """
        logits, _ = self._prefill(prompt, 1, should_stop)
        last: NDArray[np.float32] = logits[0]
        return last

    def hidden_states(self, prompt: BeePrompt) -> NDArray[np.float32]:
        """Take a prompt as `prefill` does; the hidden states [n, n_embd] f32 of all its tokens, after the last norm."""
        _, hidden = self._prefill(prompt, len(prompt), None)
        return hidden

    def step(
        self,
        parents: Sequence[int],
        ids: Sequence[int],
        *,
        segments: Sequence[int],
        positions: Sequence[int],
        subs: Sequence[int] | None = None,
    ) -> NDArray[np.float32]:
        """Append a token to each path; no key and no value is copied.

        Args:
            parents: the earlier path that each continues; others are dropped.
            ids: tokens of the vocabulary, one for each path.
            segments: of the request's tree, one for each path.
            positions: places in that segment, one for each path.
            subs: numbers of unknown words, 0 for all other tokens.

        Returns:
            logits [n_paths, n_vocab + n_extra] f32 that follow.

        Raises:
            ArgumentError: a step that cannot be taken, or no room; what was held stays.
            ModelFormatError: the logits are not numbers: the weights are damaged.
            OutOfMemoryError: no memory to compute.
        """
        rows = rows_of(ids, [0] * len(ids) if subs is None else subs, segments, positions)
        if len(parents) > self.n_paths:
            raise ArgumentError(f"paths: expected at most {self.n_paths}, got {len(parents)}; load with more n_paths")
        with self._opened() as core:
            logits, _ = self._computed(core.step, np.asarray(parents, np.int32), rows)
        return logits

    def rewind(self) -> None:
        """Back to the prompt, to begin another answer to it.

        Raises:
            ArgumentError: no prompt is held.
        """
        with self._opened() as core:
            try:
                core.rewind()
            except ValueError as error:
                raise ArgumentError(str(error)) from None

    @property
    def n_used_cells(self) -> int:
        """Cells up to the last one that the prompt and the paths use."""
        with self._opened() as core:
            return int(core.n_used_cells)

    def _prefill(
        self, prompt: BeePrompt, n_hidden: int, should_stop: Callable[[], bool] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if not 0 < len(prompt) <= self.n_ctx:
            raise ArgumentError(f"prompt: expected 1 to {self.n_ctx} tokens, got {len(prompt)}; shorten it")
        arrays = prompt_arrays(prompt, self.n_embd)

        def between() -> None:
            if should_stop is not None and should_stop():
                raise AnswerStopped("prompt: its answer is not wanted any more")

        with self._opened() as core:
            return self._computed(core.prefill, **arrays, n_hidden=n_hidden, between=between)

    def _computed(self, work: Any, *arguments: Any, **named: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        try:
            logits, hidden = work(*arguments, **named)
        except MemoryError:
            raise OutOfMemoryError(
                f"{self.path.name}: expected memory to compute with, got none; shorten the question"
            ) from None
        except ValueError as error:
            raise ArgumentError(str(error)) from None
        except RuntimeError as error:
            raise PaloError(f"{self.path.name}: {error}; report this as a bug") from None
        if not np.isfinite(logits).all():
            raise ModelFormatError(
                f"{self.path.name}: expected logits that are numbers, got NaN or infinity; "
                "the weights are damaged: copy or convert them again"
            )
        return logits, hidden

    def _opened(self) -> _Opened:
        self._guard.check(self.path.name)
        return _Opened(self)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._core is None

    def close(self) -> None:
        """Free the model; every later call is an ArgumentError. Closing twice does nothing."""
        if self._guard.is_forked:
            self._core = None
        else:
            with self._lock:
                self._core = None

    def __enter__(self) -> CpmBeeModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Opened:
    """The core of an open model, held against other threads."""

    def __init__(self, model: CpmBeeModel) -> None:
        self._model = model

    def __enter__(self) -> Any:
        self._model._lock.acquire()
        if self._model._core is None:
            self._model._lock.release()
            raise ArgumentError(f"{self._model.path.name}: expected an open model, got a closed one; load it again")
        return self._model._core

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._model._lock.release()


def _core() -> ModuleType:
    try:
        from palo_cpp import _core
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise PaloError(
            f"palo_cpp._core: expected the compiled core, got: {reason}; "
            "install the package with `pip install .` instead of running it from its source folder"
        ) from error
    return _core


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
    """Outermost first, without the ones that ggml appends."""
    n_dims = max((i + 1 for i, size in enumerate(shape) if size != 1), default=1)
    return tuple(reversed(shape[:n_dims]))
