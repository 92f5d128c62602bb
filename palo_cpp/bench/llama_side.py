"""llama.cpp's side: libmtmd for the image, libllama for the text, at their best default settings.

Weights are repacked for the CPU (`use_extra_bufts`), flash attention is left to llama.cpp's choice, and nothing goes
to a GPU. The process that runs this never loads our core.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palo_cpp.bench.contestant import Setup
from palo_cpp.bench.timed_text import CausalText, TimedText
from palo_cpp.errors import ModelFormatError, PaloError
from palo_cpp.ggml.gguf_header import GgufHeader

_CHUNK_IMAGE = 1  # mtmd.h, MTMD_INPUT_CHUNK_TYPE_IMAGE
# tools/mtmd/models/llava.cpp, clip_graph_llava::build: `n_patch` of both projectors is a constant, and on another grid
# ggml_cont_4d asserts as the graph is built for the first time, in mtmd_init_from_file, which ends the process.
_LDP = {"ldp": "LDP", "ldpv2": "LDPv2"}
_LDP_GRID = 24
_WITHOUT = "measure without it: --vs none"


def unsupported(mmproj: GgufHeader) -> str:
    """Why llama.cpp cannot run a tower and projector; nothing where no reason is known before it loads them."""
    keys = mmproj.metadata
    if (architecture := keys.get("general.architecture")) != "clip":
        return f"it knows no vision tower of the architecture {architecture}"
    size, patch = keys.get("clip.vision.image_size"), keys.get("clip.vision.patch_size")
    projector = _LDP.get(str(keys.get("clip.projector_type", keys.get("clip.vision.projector_type"))))
    if projector is None or not isinstance(size, int) or not isinstance(patch, int) or patch < 1:
        return ""
    n = size // patch
    if n == _LDP_GRID:
        return ""
    return f"its {projector} projector knows only a grid of {_LDP_GRID}x{_LDP_GRID} patches, this model has {n}x{n}"


class LlamaCpp:
    """llama.cpp; see `Contestant`."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self.isa = ""
        self.n_image_tokens = 0
        self.text: TimedText = CausalText(self)
        self._chunks: Any = None
        self._watched: _TowerWatch | None = None

    def prepare(self) -> None:
        """Import libraries; where only images are encoded, also the decoder whose width libmtmd asks for."""
        from llama_cpp import mtmd_cpp

        from palo_cpp.ggml.backend import is_registered
        from palo_cpp.ggml.llama_library import llama_library

        self._llama, self._mtmd = llama_library(), mtmd_cpp
        if is_registered(self._llama):
            raise PaloError("expected its own kernels alone, got palo_cpp's in its process; unset GGML_BACKEND_PATH")
        self._silent = self._llama.llama_log_callback(lambda *_: None)  # must outlive every call
        mtmd_cpp.mtmd_log_set(self._silent, None)
        mtmd_cpp.mtmd_helper_log_set(self._silent, None)
        self.isa = self._llama.llama_print_system_info().decode().strip(" |")
        if not self._setup.n_ctx:
            self._load_text(is_repacked=False)

    def load(self) -> None:
        """Load encoder and, unless `n_ctx` is 0, language model with its context."""
        if self._setup.n_ctx:
            self._load_text(is_repacked=True)
            self._make_context()
        self._encoder = self._make_encoder()

    def _load_text(self, *, is_repacked: bool) -> None:
        parameters = self._llama.llama_model_default_params()
        parameters.n_gpu_layers = 0
        parameters.use_extra_bufts = is_repacked
        self._model = self._llama.llama_model_load_from_file(os.fsencode(self._setup.text), parameters)
        if not self._model:
            raise ModelFormatError(f"{self._setup.text.name}: could not load: llama.cpp refuses it; {_WITHOUT}")
        self._n_embd = self._llama.llama_model_n_embd(self._model)

    def _make_context(self) -> None:
        parameters = self._llama.llama_context_default_params()
        parameters.n_ctx = self._setup.n_ctx
        parameters.n_threads = parameters.n_threads_batch = self._setup.n_threads
        parameters.no_perf = True
        self._context = self._llama.llama_init_from_model(self._model, parameters)
        if not self._context:
            raise PaloError(f"could not make a context of {self._setup.n_ctx} tokens; {_WITHOUT}")
        self._n_vocab = self._llama.llama_vocab_n_tokens(self._llama.llama_model_get_vocab(self._model))

    def _make_encoder(self, watch: _TowerWatch | None = None) -> Any:
        parameters = self._mtmd.mtmd_context_params_default()
        parameters.use_gpu = parameters.print_timings = False
        parameters.n_threads = self._setup.n_threads
        if watch:
            parameters.cb_eval = watch.callback
        encoder = self._mtmd.mtmd_init_from_file(os.fsencode(self._setup.mmproj), self._model, parameters)
        if not encoder:
            raise ModelFormatError(f"{self._setup.mmproj.name}: could not load: libmtmd refuses it; {_WITHOUT}")
        return encoder

    def set_image(self, image: NDArray[np.uint8]) -> None:
        """Let libmtmd preprocess the image."""
        self._image = np.ascontiguousarray(image)
        self._chunks, self._chunk = self._tokenized(self._encoder)
        self.n_image_tokens = self._mtmd.mtmd_input_chunk_get_n_tokens(self._chunk)

    def _tokenized(self, encoder: Any) -> tuple[Any, Any]:
        """The chunks of a prompt that is an image, and the image's chunk among them."""
        mtmd, (height, width, _) = self._mtmd, self._image.shape
        bitmap = mtmd.mtmd_bitmap_init(width, height, self._image.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)))
        chunks = mtmd.mtmd_input_chunks_init()
        marker = mtmd.mtmd_default_marker()
        text = mtmd.mtmd_input_text(text=marker, text_len=len(marker), add_special=False, parse_special=True)
        bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
        status = mtmd.mtmd_tokenize(encoder, chunks, ctypes.byref(text), bitmaps, 1)
        mtmd.mtmd_bitmap_free(bitmap)
        found = [mtmd.mtmd_input_chunks_get(chunks, i) for i in range(mtmd.mtmd_input_chunks_size(chunks))]
        images = [chunk for chunk in found if mtmd.mtmd_input_chunk_get_type(chunk) == _CHUNK_IMAGE]
        if status or len(images) != 1:
            raise PaloError(f"libmtmd: expected one image chunk, got {len(images)} and status {status}; {_WITHOUT}")
        return chunks, images[0]

    def encode(self) -> NDArray[np.float32]:
        """The image's embeddings, where libmtmd keeps them: valid until the next call."""
        self._encode(self._encoder, self._chunk)
        data = self._mtmd.mtmd_get_output_embd(self._encoder)
        embeddings: NDArray[np.float32] = np.ctypeslib.as_array(data, (self.n_image_tokens, self._n_embd))
        return embeddings

    def _encode(self, encoder: Any, chunk: Any) -> None:
        if status := self._mtmd.mtmd_encode_chunk(encoder, chunk):
            raise PaloError(f"libmtmd: could not encode the image: status {status}; {_WITHOUT}")

    def project_s(self) -> float:
        """Time from the end of the tower's last layer to the end of the graph, in one run of the whole graph."""
        if self._watched is None:
            self._watched = _TowerWatch(self._llama)
            self._watched_encoder = self._make_encoder(self._watched)
            self._watched_chunks, self._watched_chunk = self._tokenized(self._watched_encoder)
            self._encode(self._watched_encoder, self._watched_chunk)  # finds the last layer
            self._watched.choose_last()
        self._encode(self._watched_encoder, self._watched_chunk)
        return time.perf_counter() - self._watched.tower_end_s

    def clear(self) -> None:
        """Empty the sequence."""
        self._llama.llama_memory_seq_rm(self._llama.llama_get_memory(self._context), 0, 0, -1)

    def decode(self, inputs: Sequence[int] | NDArray[np.float32], position: int) -> int:
        """Append to the sequence; the logits of the last position are computed."""
        batch, kept = _batch(self._llama, inputs, position)
        status = self._llama.llama_decode(self._context, batch)
        del kept
        if status:
            raise PaloError(f"could not decode {len(inputs)} tokens: status {status}; {_WITHOUT}")
        logits = self._llama.llama_get_logits_ith(self._context, -1)
        return int(np.ctypeslib.as_array(logits, (self._n_vocab,)).argmax())


def _batch(llama: Any, inputs: Sequence[int] | NDArray[np.float32], position: int) -> tuple[Any, tuple[Any, ...]]:
    """A llama_batch of tokens or embeddings, and the memory it points to."""
    n = len(inputs)
    positions = np.arange(position, position + n, dtype=np.int32)
    counts, wanted = np.ones(n, np.int32), np.zeros(n, np.int8)
    wanted[-1] = 1
    sequence = ctypes.c_int32(0)
    sequences = (ctypes.POINTER(ctypes.c_int32) * n)(*[ctypes.pointer(sequence)] * n)
    is_tokens = not (isinstance(inputs, np.ndarray) and inputs.ndim == 2)
    rows = np.ascontiguousarray(inputs, np.int32 if is_tokens else np.float32)
    batch = llama.llama_batch(
        n_tokens=n,
        token=_pointer(rows, ctypes.c_int32) if is_tokens else None,
        embd=None if is_tokens else _pointer(rows, ctypes.c_float),
        pos=_pointer(positions, ctypes.c_int32),
        n_seq_id=_pointer(counts, ctypes.c_int32),
        seq_id=ctypes.cast(sequences, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        logits=_pointer(wanted, ctypes.c_int8),
    )
    return batch, (rows, positions, counts, wanted, sequence, sequences)


def _pointer(array: NDArray[Any], c_type: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(c_type))


class _TowerWatch:
    """Notes when the tower's last layer is done, through ggml's evaluation callback.

    ggml asks about every node before it computes; where the answer is yes, it computes up to that node, waits, and
    calls again. One yes splits the graph in two, so the rest, the projector, is timed as a graph of its own.
    """

    def __init__(self, llama: Any) -> None:
        self._get_name = llama._lib.ggml_get_name  # of libggml-base, which libllama links to
        self._get_name.restype, self._get_name.argtypes = ctypes.c_char_p, (ctypes.c_void_p,)
        self._layers: list[bytes] = []
        self._last: bytes | None = None
        self.tower_end_s = 0.0
        self.callback = llama.ggml_backend_sched_eval_callback(self._on_node)

    def choose_last(self) -> None:
        """Watch the last of the layers seen so far."""
        if not self._layers:
            raise PaloError(
                "libmtmd: expected layers named layer_out-N in its graph, got none; measure the other stages: --only"
            )
        self._last = self._layers[-1]

    def _on_node(self, node: int, is_question: bool, _user_data: object) -> bool:
        if not is_question:
            self.tower_end_s = time.perf_counter()
            return True
        name = self._get_name(node) or b""
        if self._last is None and name.startswith(b"layer_out-") and b" " not in name:
            self._layers.append(name)
        return bool(name == self._last)
