r"""From a JSON schema to a grammar of llama.cpp (GBNF), so that an answer is JSON that the schema accepts.

What a schema says is kept or refused by its name: a keyword passed over in silence would let answers through that it
forbids. The grammar may be narrower than the schema: properties come in the schema's order, none that it does
not name are added beside those it names, and characters are written themselves, never as `\u` escapes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from palo_cpp.errors import ArgumentError

# What says something to people, or is said elsewhere.
_ANNOTATIONS = {
    *("title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated", "readOnly"),
    *("writeOnly", "$defs", "definitions"),
}
_OF_TYPE = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "format"},
    "number": set[str](),
    "integer": set[str](),
    "boolean": set[str](),
    "null": set[str](),
}
# llama.cpp unrolls repetitions, and a grammar of many rules costs time at every token.
_N_MAX_REPEATS, _N_MAX_SCHEMAS, _MAX_DEPTH = 500, 500, 32

# One space at most: a grammar that lets a model add white space for ever lets it do nothing else.
_BASE = {
    "comma": '"," " "?',
    "colon": '":" " "?',
    "char": r'[^"\\\x00-\x1F\x7F] | "\\" ["\\/bfnrt]',
    "string": r'"\"" char* "\""',
    "integer": '"-"? ("0" | [1-9] [0-9]{0,15})',
    "number": 'integer ("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,3})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "value": "object | array | string | number | boolean | null",
    "object": '"{" (string colon value (comma string colon value)*)? "}"',
    "array": '"[" (value (comma value)*)? "]"',
}
_DATE = '[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])'
_TIME = '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("Z" | [-+] [01] [0-9] ":" [0-5] [0-9])'
_FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f'{_DATE} "T" {_TIME}',
    "uuid": '[0-9a-f]{8} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{12}',
}


def json_grammar(schema: Mapping[str, Any] | bool) -> str:
    """The grammar of the JSON that a schema accepts.

    Args:
        schema: a JSON schema; `{"type": "object"}` accepts any object.

    Returns:
        A grammar in GBNF whose root rule is `root`.

    Raises:
        ArgumentError: something in it that is not supported, by its name.
    """
    rules = _Rules(schema)
    root = rules.of(schema, "$", 0)
    used = {**_BASE, **rules.made, "root": root}
    return "\n".join(f"{name} ::= {rule}" for name, rule in used.items())


class _Rules:
    """Makes the rules of one schema.

    Args:
        document: the whole schema, in which references point.
    """

    def __init__(self, document: Any) -> None:
        self.made: dict[str, str] = {}
        self._document = document
        self._names: dict[str, str] = {}  # of the schemas that are referred to
        self._n_schemas = 0

    def of(self, schema: Any, where: str, depth: int) -> str:
        """The right side of a rule for one schema; `where` names it in messages."""
        self._n_schemas += 1
        if self._n_schemas > _N_MAX_SCHEMAS or depth > _MAX_DEPTH:
            _refuse(where, f"at most {_N_MAX_SCHEMAS} schemas, {_MAX_DEPTH} within each other", "more")
        if schema is True:
            return "value"
        if not isinstance(schema, Mapping):
            _refuse(where, "a schema that accepts something: an object or true", _shown(schema))
        said = {key: value for key, value in schema.items() if key not in _ANNOTATIONS}
        if not said:
            return "value"
        for keyword, make in self._alone().items():
            if keyword in said:
                others = sorted(set(said) - {keyword} - ({"type"} if keyword in ("const", "enum") else set()))
                if others:
                    _refuse(where, f"{keyword} alone", f"{', '.join(others)} beside it")
                return make(said[keyword], f"{where}.{keyword}", depth + 1)
        return self._of_types(said, where, depth)

    def _alone(self) -> dict[str, Callable[[Any, str, int], str]]:
        """Keywords that decide all by themselves."""
        return {
            "$ref": self._reference,
            "const": lambda value, _where, _depth: _literal(value),
            "enum": self._enumeration,
            "anyOf": self._union,
            "oneOf": self._union,
            "allOf": self._only_one,
        }

    def _of_types(self, said: Mapping[str, Any], where: str, depth: int) -> str:
        types = said.get("type") or next((kind for kind in ("object", "array") if _OF_TYPE[kind] & set(said)), None)
        kinds: list[Any] = types if isinstance(types, list) else [types]
        is_known = all(isinstance(kind, str) and kind in _OF_TYPE for kind in kinds)
        known = {"type"}.union(*(_OF_TYPE[kind] for kind in (kinds if is_known else _OF_TYPE)))
        for keyword in said:
            if keyword not in known:
                _refuse(where, "keywords that are supported", f"{_shown(keyword)}, which is not")
        if not is_known or not kinds:
            _refuse(f"{where}.type", f"one of {', '.join(_OF_TYPE)}", _shown(types))
        make = {"object": self._object, "array": self._array, "string": self._string}
        return " | ".join(f"({make[k](said, where, depth)})" if k in make else k for k in kinds)

    def _reference(self, pointer: Any, where: str, depth: int) -> str:
        if not isinstance(pointer, str) or not (pointer == "#" or pointer.startswith("#/")):
            _refuse(where, "a reference within the schema, #/...", _shown(pointer))
        if pointer not in self._names:
            target = self._document
            for part in pointer.split("/")[1:]:
                key = part.replace("~1", "/").replace("~0", "~")
                if not isinstance(target, Mapping) or key not in target:
                    _refuse(where, "a reference to something in the schema", _shown(pointer))
                target = target[key]
            self._names[pointer] = name = f"ref{len(self._names)}"
            self.made[name] = self.of(target, pointer, depth)
        return self._names[pointer]

    def _enumeration(self, values: Any, where: str, _depth: int) -> str:
        if not isinstance(values, list) or not 0 < len(values) <= _N_MAX_SCHEMAS:
            _refuse(where, f"a list of 1 to {_N_MAX_SCHEMAS} values", _shown(values))
        return " | ".join(_literal(value) for value in values)

    def _union(self, schemas: Any, where: str, depth: int) -> str:
        if not isinstance(schemas, list) or not schemas:
            _refuse(where, "a list of schemas", _shown(schemas))
        return " | ".join(f"({self.of(schema, f'{where}[{i}]', depth)})" for i, schema in enumerate(schemas))

    def _only_one(self, schemas: Any, where: str, depth: int) -> str:
        if not isinstance(schemas, list) or len(schemas) != 1:
            _refuse(where, "one schema", "several, which are not merged")
        return self.of(schemas[0], f"{where}[0]", depth)

    def _object(self, said: Mapping[str, Any], where: str, depth: int) -> str:
        properties, required = said.get("properties", {}), said.get("required", [])
        if not isinstance(properties, Mapping):
            _refuse(f"{where}.properties", "an object", _shown(properties))
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            _refuse(f"{where}.required", "a list of names", _shown(required))
        if missing := [name for name in required if name not in properties]:
            _refuse(f"{where}.required", "names that are among the properties", _shown(missing[0]))
        if not properties:
            return self._map(said.get("additionalProperties", True), f"{where}.additionalProperties", depth)
        members = []
        for name, schema in properties.items():
            rule = self._named("member", self.of(schema, f"{where}.properties.{name}", depth + 1))
            members.append((f"{_literal(name)} colon {rule}", name in required))
        return f'"{{" {self._members(members)} "}}"'

    def _map(self, schema: Any, where: str, depth: int) -> str:
        """An object whose names the schema leaves open."""
        if schema is False:
            return '"{" "}"'
        rule = self._named("member", self.of(schema, where, depth + 1))
        return f'"{{" (string colon {rule} (comma string colon {rule})*)? "}}"'

    def _members(self, members: Sequence[tuple[str, bool]]) -> str:
        """Members in order, the optional ones there or not, with commas between those that are there."""
        first, after = '""', '""'
        for member, is_required in reversed(members):
            begins = f"{member} {after}"
            first = self._named("members", begins if is_required else f"{begins} | {first}")
            after = self._named("more", f"comma {member} {after}" if is_required else f"(comma {member})? {after}")
        return first

    def _array(self, said: Mapping[str, Any], where: str, depth: int) -> str:
        low, high = _bounds(said, "minItems", "maxItems", where)
        before, items = said.get("prefixItems", []), said.get("items", True)
        if not isinstance(before, list):
            _refuse(f"{where}.prefixItems", "a list of schemas", _shown(before))
        if before:
            if (low, high) != (0, None) or items not in (True, False):
                _refuse(f"{where}.prefixItems", "them alone, with items false", "more keywords beside them")
            parts = [self._named("item", self.of(s, f"{where}.prefixItems[{i}]", depth)) for i, s in enumerate(before)]
            return f'"[" {" comma ".join(parts)} "]"'
        item = self._named("item", self.of(items, f"{where}.items", depth + 1)) if items is not False else ""
        if not item or high == 0:
            return '"[" "]"'
        rest = f"(comma {item}){{{max(low - 1, 0)},{'' if high is None else high - 1}}}"
        return f'"[" {item} {rest} "]"' if low else f'"[" ({item} {rest})? "]"'

    def _string(self, said: Mapping[str, Any], where: str, _depth: int) -> str:
        low, high = _bounds(said, "minLength", "maxLength", where)
        if "format" in said:
            if said["format"] not in _FORMATS or (low, high) != (0, None):
                _refuse(f"{where}.format", f"one of {', '.join(_FORMATS)}, without lengths", _shown(said["format"]))
            return rf'"\"" {_FORMATS[said["format"]]} "\""'
        if (low, high) == (0, None):
            return "string"
        return rf'"\"" char{{{low},{"" if high is None else high}}} "\""'

    def _named(self, kind: str, rule: str) -> str:
        name = f"{kind}{len(self.made)}"
        self.made[name] = rule
        return name


def _bounds(said: Mapping[str, Any], low_name: str, high_name: str, where: str) -> tuple[int, int | None]:
    low, high = said.get(low_name, 0), said.get(high_name)
    for name, value in ((low_name, low), (high_name, high)):
        if value is None and name == high_name:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _N_MAX_REPEATS:
            _refuse(f"{where}.{name}", f"a whole number from 0 to {_N_MAX_REPEATS}", _shown(value))
    if high is not None and high < low:
        _refuse(f"{where}.{high_name}", f"at least {low_name}", _shown(high))
    return low, high


def _literal(value: Any) -> str:
    """The JSON text of a value as a terminal; characters as they are, for models do not spell them in escapes."""
    text = json.dumps(value, ensure_ascii=False)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _refuse(where: str, expected: str, got: str) -> NoReturn:
    raise ArgumentError(f"json_schema: expected {expected} at {where[:120]}, got {got}; simplify the schema")
