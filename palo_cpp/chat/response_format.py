"""OpenAI's `response_format`, and the schema that it asks an answer to keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from palo_cpp.errors import ArgumentError

_ANY_OBJECT = {"type": "object"}


def json_schema_of(response_format: Any, *, where: str = "response_format") -> Mapping[str, Any] | None:
    """The schema that an answer must keep.

    Args:
        response_format: `{"type": "text"}`, `{"type": "json_object"}`, or `{"type": "json_schema", "json_schema":
            {"schema": ...}}`, as chat completions have it; responses have `{"type": "json_schema", "schema": ...}`.
        where: what to call it in messages.

    Returns:
        The schema; None where any text will do.

    Raises:
        ArgumentError: another type, or no schema.
    """
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if response_format is None or kind == "text":
        return None
    if kind == "json_object":
        return _ANY_OBJECT
    if kind != "json_schema":
        raise ArgumentError(f"{where}: expected the type text, json_object or json_schema, got {kind!r}; choose one")
    wrapper = response_format.get("json_schema", response_format)
    schema = wrapper.get("schema") if isinstance(wrapper, Mapping) else None
    if not isinstance(schema, Mapping):
        raise ArgumentError(f"{where}: expected a JSON schema as schema, got {type(schema).__name__}; add it")
    return schema
