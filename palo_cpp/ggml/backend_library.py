"""Where `libpalo_ggml.so` is, and what must be asked of it before llama.cpp loads any model."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import sys
from pathlib import Path
from typing import Any, Literal

# As csrc/ggml_backend/amx.h names them.
Amx = Literal["absent", "works", "withdrawn", "broken"]

_FILE_NAME = "palo_ggml.dll" if sys.platform == "win32" else "libpalo_ggml.so"


def library_path() -> Path:
    """Where the backend's library is: beside `_core`. llama.cpp programs take it in by `GGML_BACKEND_PATH`."""
    spec = importlib.util.find_spec("palo_cpp._core")
    folder = Path(spec.origin).parent if spec and spec.origin else Path(__file__).parent
    return folder / _FILE_NAME


@functools.cache
def settled_amx(llama: Any) -> Amx:
    """Keep llama.cpp from AMX products that end the process: GCC 12.2 breaks them (csrc/ggml_backend/amx.h).

    Args:
        llama: llama.cpp's bindings, not used yet.

    Returns:
        "absent" or "works" where all is well; "withdrawn" where llama.cpp goes without; "broken" where models must be
        loaded with `use_extra_bufts` off.
    """
    if b"AMX_INT8 = 1" not in llama.llama_print_system_info():
        return "absent"
    if not library_path().is_file():
        return "broken"  # perhaps it works: only the library could find out
    settle = ctypes.CDLL(str(library_path())).palo_settle_amx
    settle.restype, settle.argtypes = ctypes.c_char_p, []
    found: Amx = settle().decode()
    return found
