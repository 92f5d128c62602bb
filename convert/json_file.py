"""The JSON files of a checkpoint, whose values are taken out by type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from palo_cpp.errors import ModelFormatError, ModelNotFoundError

_MAX_JSON_BYTES = 64 * 1024**2
_MAX_SIZE = 2**24


class Config:
    """A JSON dictionary whose values are taken out by type, with the file named in every complaint."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self.path, self.values = path, values

    def size(self, key: str, default: int | None = None) -> int:
        """A positive integer."""
        value = self.values.get(key, default)
        if value is None and default is not None:
            value = default
        if type(value) is not int or not 0 < value < _MAX_SIZE:
            raise ModelFormatError(f"{self.path}: {key}: expected a positive integer, got {value!r}")
        return value

    def number(self, key: str, default: float) -> float:
        """A positive finite number."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ModelFormatError(f"{self.path}: {key}: expected a positive number, got {value!r}")
        return float(value)

    def get(self, key: str, default: Any = None) -> Any:
        """Any value."""
        return self.values.get(key, default)


def read_json(path: Path) -> Config:
    """Read a JSON dictionary.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelFormatError: it holds something else.
    """
    if not path.is_file():
        raise ModelNotFoundError(f"{path}: no such file; a checkpoint folder must hold it")
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise ModelFormatError(f"{path}: expected at most {_MAX_JSON_BYTES} bytes of JSON")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{path}: damaged JSON ({type(error).__name__}); fetch it again") from None
    if not isinstance(values, dict):
        raise ModelFormatError(f"{path}: expected a JSON dictionary, got {type(values).__name__}")
    return Config(path, values)


def read_json_if_any(path: Path) -> Config | None:
    """Read a JSON dictionary, or None where there is no such file."""
    return read_json(path) if path.is_file() else None
