"""The JSON files of a checkpoint, whose values are taken out by type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from palo_cpp.errors import ModelFormatError, ModelNotFoundError

_MAX_JSON_BYTES = 64 * 1024**2
_MAX_SIZE = 2**24


class Config:
    """A JSON dictionary whose values are taken out by type, with the file named in every complaint.

    Numbers may be written as other programs write them: 4096.0, "4096" or "1e-05".
    """

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self.path, self.values = path, values

    def size(self, key: str, default: int | None = None) -> int:
        """A positive integer."""
        value = self.values.get(key, default)
        if value is None and default is not None:
            value = default
        number = _number(value)
        if number is None or not 0 < number < _MAX_SIZE or number != int(number):
            raise ModelFormatError(f"{self.path}: {key}: expected a positive integer, got {value!r}")
        return int(number)

    def number(self, key: str, default: float) -> float:
        """A positive finite number."""
        value = self.values.get(key, default)
        number = _number(value)
        if number is None or not 0 < number < float("inf"):
            raise ModelFormatError(f"{self.path}: {key}: expected a positive number, got {value!r}")
        return number

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.values.get(key)
        if value is None:
            return default
        if value in (0, 1):  # true and false are
            return bool(value)
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        raise ModelFormatError(f"{self.path}: {key}: expected true or false, got {value!r}")

    def part(self, key: str) -> Config:
        """A dictionary inside, empty where there is none."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            raise ModelFormatError(f"{self.path}: {key}: expected a dictionary, got {value!r}"[:300])
        return Config(self.path, value or {})

    def names(self, key: str) -> list[str]:
        """The strings of a list; none where it is something else."""
        value = self.values.get(key)
        return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []

    def get(self, key: str, default: Any = None) -> Any:
        """Any value."""
        return self.values.get(key, default)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def read_json(path: Path) -> Config:
    """Read a JSON dictionary, in UTF-8 or as programs of Windows write it: with a byte order mark, or in UTF-16.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelFormatError: it holds something else; the message names the place.
    """
    if not path.is_file():
        raise ModelNotFoundError(f"{path}: no such file; a checkpoint folder must hold it")
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise ModelFormatError(f"{path}: expected at most {_MAX_JSON_BYTES} bytes of JSON")
    try:
        values = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        place = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise ModelFormatError(
            f"{path}: could not read it as JSON: {place}; correct that line, or fetch it again"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{path}: damaged JSON ({type(error).__name__}); fetch it again") from None
    if not isinstance(values, dict):
        raise ModelFormatError(f"{path}: expected a JSON dictionary, got {type(values).__name__}")
    return Config(path, values)


def read_json_if_any(path: Path) -> Config | None:
    """Read a JSON dictionary, or None where there is no such file."""
    return read_json(path) if path.is_file() else None
