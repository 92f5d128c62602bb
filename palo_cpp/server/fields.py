"""The fields of a request: each is taken, refused by its name, or known to change nothing; none is passed over."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from palo_cpp.server.refusals import Refusal, bad_field

_N_SHOWN = 60


def parse_json(body: bytes) -> dict[str, Any]:
    """The object that a body is.

    Raises:
        Refusal: it is none; JSON's extensions (NaN, half surrogate pairs) are none either.
    """
    try:
        text = body.decode("utf-8-sig")
        said = json.loads(text, parse_constant=_refuse_constant)
        if "\\ud" in text or "\\uD" in text:  # an escape may be half a character, which no text may hold
            json.dumps(said, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # UnicodeError is a ValueError, and so are numbers of too many digits
        reason = "nested too deeply" if isinstance(error, RecursionError) else _reason(error)
        raise Refusal(400, f"body: expected a JSON object in UTF-8, got something else: {reason}") from None
    if not isinstance(said, dict):
        raise Refusal(400, f"body: expected a JSON object, got {kind_of(said)}")
    return said


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at position {error.pos}"
    return "text that is no UTF-8" if isinstance(error, UnicodeError) else str(error).partition(";")[0][:_N_SHOWN]


def kind_of(value: object) -> str:
    """What JSON calls the kind of a value."""
    kinds: dict[type, str] = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return kinds.get(type(value), "null")


def shown(value: object) -> str:
    """A value for a message."""
    if isinstance(value, (dict, list)):
        return kind_of(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _N_SHOWN else f"{text[:_N_SHOWN]}…"


class Fields:
    """The fields of one object; null counts as not given.

    Args:
        said: the object.
        where: what its fields are called in messages: "" for the request itself.
    """

    def __init__(self, said: Any, where: str = "") -> None:
        if not isinstance(said, dict):
            raise bad_field(where, "an object", kind_of(said))
        self._left: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
        self._where = where

    def name(self, field: str) -> str:
        """How a field is called in messages."""
        return f"{self._where}.{field}" if self._where else field

    def take(self, field: str, default: Any = None) -> Any:
        """A field of any kind."""
        return self._left.pop(field, default)

    def text(self, field: str, default: str | None = None) -> str | None:
        """A text."""
        value = self._left.pop(field, default)
        if value is not None and not isinstance(value, str):
            raise bad_field(self.name(field), "text", kind_of(value))
        return value

    def needed_text(self, field: str) -> str:
        """A text that must be there."""
        value = self.text(field)
        if value is None:
            raise bad_field(self.name(field), "text", "none", "add it")
        return value

    def flag(self, field: str, default: bool = False) -> bool:
        """True or false."""
        value = self._left.pop(field, default)
        if not isinstance(value, bool):
            raise bad_field(self.name(field), "true or false", shown(value))
        return value

    def number(self, field: str, low: float, high: float) -> float | None:
        """A number in a range."""
        value = self._left.pop(field, None)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise bad_field(self.name(field), f"a number from {low:g} to {high:g}", shown(value))
        return float(value)

    def whole(self, field: str, low: int, high: int) -> int | None:
        """A whole number in a range; 3.0 is one, as JSON knows no difference."""
        value = self._left.pop(field, None)
        if value is None:
            return None
        if isinstance(value, float) and math.isfinite(value) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise bad_field(self.name(field), f"a whole number from {low} to {high}", shown(value))
        return value

    def texts(self, field: str, n_max: int) -> tuple[str, ...]:
        """One text, or a list of them."""
        value = self._left.pop(field, [])
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(text, str) and text for text in values):
            raise bad_field(self.name(field), "text or a list of texts, none of them empty", shown(value))
        if len(values) > n_max:
            raise bad_field(self.name(field), f"at most {n_max} texts", str(len(values)))
        return tuple(values)

    def listed(self, field: str, n_max: int) -> list[Any]:
        """A list that must be there."""
        value = self._left.pop(field, None)
        if not isinstance(value, list) or not value:
            raise bad_field(self.name(field), "a list that is not empty", "none" if value is None else kind_of(value))
        if len(value) > n_max:
            raise bad_field(self.name(field), f"at most {n_max} entries", str(len(value)))
        return value

    def harmless(self, *fields: str) -> None:
        """Fields that change no answer, whatever they say."""
        for field in fields:
            self._left.pop(field, None)

    def only(self, accepted: Mapping[str, Sequence[Any]]) -> None:
        """Fields of which only some values can be done; they ask for nothing that is not done anyway."""
        for field, values in accepted.items():
            if field in self._left and not any(_is_same(self._left[field], value) for value in values):
                wanted = " or ".join(shown(value) for value in values)
                raise bad_field(
                    self.name(field), f"it left out{f', or {wanted}' if wanted else ''}", shown(self._left[field]),
                    "nothing else is supported",
                )  # fmt: skip
            self._left.pop(field, None)

    def end(self) -> None:
        """Nothing may be left.

        Raises:
            Refusal: something is, by its name.
        """
        for field in self._left:
            named = self.name(field)[:200]
            raise Refusal(400, f"{named}: this field is not supported here; leave it out", param=named, code="unknown")


def _is_same(value: Any, other: Any) -> bool:
    """Equal, and true is not 1."""
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)
