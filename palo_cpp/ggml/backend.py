"""Our matrix kernels under llama.cpp: the ggml backend in `libpalo_ggml.so`, taken into this process once.

The library packs weights as llama.cpp loads them and computes the products with them. What it takes on is decided when
a model is loaded and stays so for that model; everything else is llama.cpp's.
"""

from __future__ import annotations

import ctypes
import functools
import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from palo_cpp.errors import ArgumentError
from palo_cpp.ggml.backend_library import library_path
from palo_cpp.ggml.llama_library import llama_library, recorded_warnings

logger = logging.getLogger(__name__)

# auto: block types where our kernels win a start-up check; palo: all that there are kernels for; cpu: none.
BackendMode = Literal["auto", "palo", "cpu"]
BACKEND_MODES: tuple[BackendMode, ...] = get_args(BackendMode)
ENVIRONMENT = "PALO_CPP_BACKEND"
_REGISTRY_NAME = b"PALO"

# The mode is the whole process's, so models are loaded one at a time.
_loading = threading.Lock()


@dataclass(frozen=True)
class BackendUse:
    """What the backend does for one loaded model.

    Attributes:
        mode: what was asked for.
        n_packed_bytes: weights that our kernels compute with; the rest is llama.cpp's.
        reason: why that is nothing, where it is nothing.
    """

    mode: BackendMode
    n_packed_bytes: int = 0
    reason: str = ""

    @property
    def is_active(self) -> bool:
        """Whether our kernels compute at all."""
        return self.n_packed_bytes > 0


@dataclass(frozen=True)
class TypeUse:
    """Whether weights of one block type are taken, and why."""

    is_active: bool
    reason: str


@dataclass(frozen=True)
class BackendStatus:
    """What the backend would do for the next model.

    Attributes:
        path: the library.
        is_registered: whether ggml took it in.
        reason: why not.
        mode, isa: what is in force.
        types: ggml's name of a block type -> whether it is taken.
    """

    path: Path
    is_registered: bool
    reason: str = ""
    mode: str = ""
    isa: str = ""
    types: dict[str, TypeUse] = field(default_factory=dict)


class _Entry:
    """The backend as ggml's registry knows it: the functions that it offers by name."""

    def __init__(self, llama: Any, entry: int) -> None:
        find = _function(llama, "ggml_backend_reg_get_proc_address", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
        self.set_mode = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_char_p)(find(entry, b"palo_set_mode"))
        self.status = ctypes.CFUNCTYPE(ctypes.c_char_p)(find(entry, b"palo_status"))
        self.read_speed = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_size_t, ctypes.c_int)(
            find(entry, b"palo_read_speed")
        )
        self.packed_bytes = ctypes.CFUNCTYPE(ctypes.c_size_t)(find(entry, b"palo_packed_bytes"))


def _function(llama: Any, name: str, result: Any, *arguments: Any) -> Any:
    """A function of the one libggml that libllama links to."""
    function = getattr(llama._lib, name)
    function.restype, function.argtypes = result, arguments
    return function


def is_registered(llama: Any) -> bool:
    """Whether ggml knows the backend already; asking does not register it."""
    return _find_entry(llama) is not None


def _find_entry(llama: Any) -> int | None:
    find = _function(llama, "ggml_backend_reg_by_name", ctypes.c_void_p, ctypes.c_char_p)
    entry: int | None = find(_REGISTRY_NAME)
    return entry


@functools.cache
def _registered() -> tuple[_Entry | None, str]:
    """The backend, taken in at the first call; or None and why not. The library itself logs why it stays out."""
    llama = llama_library()
    if entry := _find_entry(llama):  # somebody was quicker, with this library or with a copy of it
        return _Entry(llama, entry), ""
    path = library_path()
    if not path.is_file():
        return None, _warned(f"{path.name}: expected it in {path.parent}, got no such file; install palo-cpp again")
    load = _function(llama, "ggml_backend_load", ctypes.c_void_p, ctypes.c_char_p)
    with recorded_warnings() as lines:
        entry = load(os.fsencode(path))
    if entry:
        return _Entry(llama, entry), ""
    return None, lines[0] if lines else _warned(f"{path.name}: ggml could not load it")


def _warned(reason: str) -> str:
    logger.warning("llama.cpp computes with its own kernels alone: %s", reason)
    return reason


def checked_mode(mode: str) -> BackendMode:
    """The mode, if there is one of this name.

    Raises:
        ArgumentError: there is none.
    """
    if mode not in BACKEND_MODES:
        raise ArgumentError(f"backend: expected {', '.join(map(repr, BACKEND_MODES))}, got {mode!r}")
    return mode


@dataclass
class _Loading:
    """What is known of the backend's share once a model is loaded."""

    use: BackendUse


@contextmanager
def loading(mode: BackendMode) -> Iterator[_Loading]:
    """Have weights that are loaded in the block placed as `mode` says; one block at a time runs in a process.

    Args:
        mode: "cpu" does not even load the backend's library.

    Yields:
        An object whose `use`, after the block, shows what the backend took.
    """
    with _loading:
        entry, reason = _registered() if mode != "cpu" or _registered.cache_info().currsize else (None, "switched off")
        found = _Loading(BackendUse(mode, reason=reason))
        if entry is None:
            yield found
            return
        entry.set_mode(mode.encode())
        before = entry.packed_bytes()
        yield found
        n_bytes = entry.packed_bytes() - before
        none = "switched off" if mode == "cpu" else "no weight of a type and shape where our kernels win"
        found.use = BackendUse(mode, n_bytes, "" if n_bytes > 0 else none)


def backend_status(mode: BackendMode | None = None) -> BackendStatus:
    """What the backend would do for a model loaded now; where nobody did yet, times its kernels (milliseconds).

    Args:
        mode: as if loading with this mode; None is the one in force.
    """
    with _loading:
        entry, reason = _registered()
        if entry is None:
            return BackendStatus(library_path(), is_registered=False, reason=reason)
        if mode:
            entry.set_mode(mode.encode())
        status = json.loads(entry.status() or b"{}")
    types = {name: TypeUse(use["active"], use["reason"]) for name, use in status["types"].items()}
    return BackendStatus(library_path(), is_registered=True, mode=status["mode"], isa=status["isa"], types=types)


def read_speed(n_bytes: int, n_threads: int) -> float | None:
    """Bytes per second at which threads read memory and do nothing else: what decoding would reach at best.

    Args:
        n_bytes: how much to read, from at most 1 GiB of memory.
        n_threads: how many threads read.

    Returns:
        The speed; None where the backend's library cannot be used.
    """
    entry, _ = _registered()
    speed: float = entry.read_speed(n_bytes, n_threads) if entry else 0.0
    return speed or None
