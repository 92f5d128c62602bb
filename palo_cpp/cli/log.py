"""Shows on stderr what the library logs: warnings always, stages on the status line, everything with `--debug`."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from palo_cpp.cli.console import notice, warn

LOGGER = "palo_cpp"
# Most of llama.cpp's warnings are of no use to a user; `--debug` shows them.
LLAMA_LOGGER = "palo_cpp.llama"


class _Warnings(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        is_debugging = logging.getLogger(LOGGER).level <= logging.DEBUG
        if is_debugging and record.levelno < logging.WARNING:
            notice(f"{record.name}: {record.getMessage()}")
        elif record.levelno >= logging.WARNING and (is_debugging or record.name != LLAMA_LOGGER):
            warn(record.getMessage())


class _Stages(logging.Handler):
    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.INFO:
            self._show(record.getMessage())


@contextmanager
def shown_warnings(*, is_debugging: bool) -> Iterator[None]:
    """Show warnings of the library on stderr while the block runs, and with `is_debugging` all it logs."""
    with _handling(LOGGER, _Warnings(), logging.DEBUG if is_debugging else logging.INFO):
        yield


@contextmanager
def shown_stages(show: Callable[[str], None]) -> Iterator[None]:
    """Pass the stages of a question (`palo_cpp.chat.stages` logs them as INFO) to `show` while the block runs."""
    with _handling("palo_cpp.chat.stages", _Stages(show), logging.NOTSET):
        yield


class _Requests(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.INFO:  # others are shown as every command shows them
            print(time.strftime("%H:%M:%S"), record.getMessage(), file=sys.stderr, flush=True)


@contextmanager
def shown_requests() -> Iterator[None]:
    """Show a line on stderr for each request that `palo_cpp.server` answers, while the block runs."""
    with _handling("palo_cpp.server", _Requests(), logging.INFO):
        yield


@contextmanager
def _handling(name: str, handler: logging.Handler, level: int) -> Iterator[None]:
    logger = logging.getLogger(name)
    level_before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level_before)
