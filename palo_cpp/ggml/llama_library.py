"""llama.cpp's C library: imported late, and logging through Python's `logging`.

Everything that calls llama.cpp asks `llama_library()` for the bindings, so that `import palo_cpp` stays fast and
nothing that llama.cpp says ever reaches the terminal by itself.
"""

from __future__ import annotations

import atexit
import collections
import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from palo_cpp.ggml.backend_library import settled_amx

logger = logging.getLogger("palo_cpp.llama")
# Who has not asked to see it does not see it: without any handler Python would print warnings on stderr.
logger.addHandler(logging.NullHandler())

# enum ggml_log_level of ggml.h: none, debug, info, warn, error, cont. INFO is a page for each model: detail, to us.
_LEVELS = (logging.DEBUG, logging.DEBUG, logging.DEBUG, logging.WARNING, logging.ERROR)
_LEVEL_WARNING, _LEVEL_ERROR, _LEVEL_CONTINUED = 3, 4, 5

_callbacks: list[Any] = []
_recent_errors: collections.deque[str] = collections.deque(maxlen=8)
_recent_warnings: collections.deque[str] = collections.deque(maxlen=8)


class _LogLines:
    """Joins the fragments that llama.cpp logs into whole lines."""

    def __init__(self) -> None:
        self._text = ""
        self._level = 1

    def __call__(self, level: int, text: bytes | None, _user_data: object) -> None:
        if level != _LEVEL_CONTINUED:
            self._level = level
        self._text += (text or b"").decode("utf-8", "replace")
        *lines, self._text = self._text.split("\n")
        for line in filter(None, map(str.strip, lines)):
            if self._level == _LEVEL_ERROR:
                _recent_errors.append(line)
            if self._level == _LEVEL_WARNING:
                _recent_warnings.append(line)
            logger.log(_LEVELS[self._level], "%s", line)


@functools.cache
def llama_library() -> Any:
    """Import llama.cpp's bindings once, route its log, initialize its backends.

    Returns:
        The module `llama_cpp.llama_cpp`: one Python function for each C function.
    """
    import llama_cpp.llama_cpp as library

    callback = library.llama_log_callback(_LogLines())
    silent = library.llama_log_callback(lambda *_: None)

    def set_log(function: Any) -> None:
        library.llama_log_set(function, None)

    set_log(callback)
    # The callbacks must outlive every call into the library; at exit (after all models were freed, for those
    # register later and exit handlers run last to first) nothing may call into a dying interpreter.
    _callbacks.extend((callback, silent))
    atexit.register(set_log, silent)
    library.llama_backend_init()
    settled_amx(library)
    return library


@contextmanager
def recorded_errors() -> Iterator[collections.deque[str]]:
    """Collect what llama.cpp reports as errors while the block runs, for a message of our own."""
    _recent_errors.clear()
    yield _recent_errors


@contextmanager
def recorded_warnings() -> Iterator[collections.deque[str]]:
    """Collect what llama.cpp warns of while the block runs."""
    _recent_warnings.clear()
    yield _recent_warnings
