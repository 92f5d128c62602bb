"""JSON schemas as grammars: what llama.cpp accepts and refuses under them, and what is refused by name."""

from __future__ import annotations

import json

import pytest

from palo_cpp.decoding.grammar_constraint import GrammarConstraint, GrammarVocabulary
from palo_cpp.decoding.json_grammar import json_grammar
from palo_cpp.errors import ArgumentError

COLOURS = {
    "type": "object",
    "properties": {
        "रंग": {"enum": ["लाल", 'ne"ro\\', None]},
        "n": {"type": "integer", "description": "how many"},
        "sizes": {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 3},
    },
    "required": ["रंग"],
    "additionalProperties": False,
}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {"node": {"type": "object", "properties": {"k": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}},
}
MOMENT = {"type": "string", "format": "date-time"}


@pytest.fixture(scope="module")
def vocabulary(text_gguf):
    return GrammarVocabulary(text_gguf)


@pytest.fixture(scope="module")
def byte_tokens(text_gguf):
    """The token of each byte."""
    from palo_cpp.llm.language_model import LanguageModel

    with LanguageModel(text_gguf, n_threads=1) as model:
        pieces = model.token_table.pieces
        ends = int(model.token_table.ends_generation.nonzero()[0][0])
    return {piece: token for token, piece in reversed(list(enumerate(pieces))) if len(piece) == 1}, ends


def is_accepted(vocabulary, byte_tokens, schema, text):
    """Whether an answer may be this text, and end after it."""
    tokens, end = byte_tokens
    constraint = GrammarConstraint(vocabulary, json_grammar(schema))
    for byte in text.encode():
        token = tokens[bytes([byte])]
        if not constraint.allowed()[token]:
            return False
        constraint.accept(token)
    return bool(constraint.allowed()[end])


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (True, '[1, -2.5e3, "é\\n", {"a": null}, true]'),
        ({"type": "object"}, '{"a":{"b": []}}'),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, '{"a": 1, "ब": 2}'),
        (COLOURS, '{"रंग": "लाल"}'),
        (COLOURS, '{"रंग": "ne\\"ro\\\\", "n": 12, "sizes": [1, 2.5, 3]}'),
        (COLOURS, '{"रंग": null, "sizes": [0]}'),
        (TREE, '{"k": [{"k": []}, {}]}'),
        ({"type": ["string", "null"], "maxLength": 2}, '"हि"'),
        ({"anyOf": [{"type": "boolean"}, {"const": {"a": [1, "x"]}}]}, '{"a": [1, "x"]}'),
        ({"type": "array", "prefixItems": [{"type": "string"}, {"type": "null"}], "items": False}, '["", null]'),
        ({"type": "array", "items": False}, "[]"),
        (MOMENT, '"2026-11-27T04:09:00Z"'),
    ],
)
def test_what_a_schema_accepts_may_come(vocabulary, byte_tokens, schema, text):
    json.loads(text)
    assert is_accepted(vocabulary, byte_tokens, schema, text)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "object"}, "[]"),
        ({"type": "object"}, '{"a": 1'),
        (COLOURS, '{"n": 1}'),
        (COLOURS, '{"रंग": "नीला"}'),
        (COLOURS, '{"रंग": "लाल", "sizes": []}'),
        (COLOURS, '{"रंग": "लाल", "sizes": [1, 2, 3, 4]}'),
        (COLOURS, '{"रंग": "लाल", "x": 1}'),
        (COLOURS, '{"रंग": "लाल", }'),
        (True, '"\\ud800"'),
        (True, "01"),
        (True, "\n\n"),
        ({"type": "string", "minLength": 2}, '"a"'),
        ({"type": "boolean"}, "null"),
        (MOMENT, '"2026-13-27T04:09:00Z"'),
    ],
)
def test_what_it_does_not_accept_may_not(vocabulary, byte_tokens, schema, text):
    assert not is_accepted(vocabulary, byte_tokens, schema, text)


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"type": "number", "minimum": 1}, "minimum"),
        ({"type": "string", "pattern": "a+"}, "pattern"),
        ({"type": "string", "format": "email"}, "email"),
        ({"type": "object", "properties": {"a": {"not": {}}}}, r"\$\.properties\.a.*'not'"),
        ({"type": "object", "required": ["a"]}, "required"),
        ({"properties": []}, "properties"),
        ({"type": "object", "properties": {"a": False}}, "False"),
        ({"type": "thing"}, "thing"),
        ({"$ref": "https://example.org/schema"}, r"\$ref"),
        ({"$ref": "#/$defs/none"}, r"\$ref"),
        ({"$ref": "#", "type": "object"}, "beside"),
        ({"allOf": [{}, {}]}, "allOf"),
        ({"enum": []}, "enum"),
        ({"type": "array", "maxItems": 10**9}, "maxItems"),
        ({"type": "array", "minItems": 3, "maxItems": 2}, "maxItems"),
        ({"type": "array", "minItems": True}, "minItems"),
        ({"type": "array", "prefixItems": [True], "items": True, "minItems": 1}, "prefixItems"),
        ({"anyOf": [True] * 600}, "at most"),
        (3, "a schema"),
    ],
)
def test_what_is_not_supported_is_refused_by_its_name(schema, named):
    with pytest.raises(ArgumentError, match=named):
        json_grammar(schema)


def test_a_schema_within_itself_without_end_is_refused():
    schema = {"type": "array"}
    for _ in range(40):
        schema = {"type": "array", "items": schema}
    with pytest.raises(ArgumentError, match="within each other"):
        json_grammar(schema)


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"anyOf": [{"$ref": "#"}, {"type": "null"}]}, {"const": "\ud800"}])
def test_what_llama_cpp_cannot_follow_is_refused(vocabulary, schema):
    with pytest.raises(ArgumentError, match="json_schema"):
        GrammarConstraint(vocabulary, json_grammar(schema))


def test_a_token_that_was_not_allowed_lifts_the_grammar_instead_of_ending_the_process(vocabulary, byte_tokens):
    constraint = GrammarConstraint(vocabulary, json_grammar({"type": "object"}))
    constraint.accept(byte_tokens[0][b"x"])
    assert constraint.allowed() is None
    constraint.accept(byte_tokens[0][b"y"])


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_answers_of_a_model_keep_the_schema(palo, picture, temperature):
    """A random model says anything: only the grammar makes it JSON."""
    schema = {
        "type": "object",
        "properties": {
            "ok": {"type": "boolean"},
            "色": {"enum": ["赤", "青"]},
            "n": {"type": "string", "maxLength": 5},
        },
        "required": ["ok", "色", "n"],
    }
    answer = palo.ask(picture, "What?", json_schema=schema, temperature=temperature, seed=3, max_tokens=200)
    said = json.loads(answer.text)
    assert answer.finish_reason == "stop"
    assert set(said) == {"ok", "色", "n"} and said["色"] in ("赤", "青") and len(said["n"]) <= 5


def test_create_chat_completion_takes_response_format(palo):
    messages = [{"role": "user", "content": "Yes?"}]
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    reply = palo.create_chat_completion(messages, response_format=asked, max_tokens=50)
    assert isinstance(json.loads(reply["choices"][0]["message"]["content"])["a"], bool)
