"""`/v1/responses`: images, events, and what a response repeats."""

from __future__ import annotations

import json

import pytest
from running_server import data_uri, encoded

URL = "/v1/responses"


def asked(*parts, **fields):
    return {"input": [{"role": "user", "content": list(parts)}], "max_output_tokens": 40, **fields}


def text(value):
    return {"type": "input_text", "text": value}


def image(data):
    return {"type": "input_image", "image_url": data_uri(data), "detail": "auto"}


def test_a_question_about_an_image(server, nano, red_circle):
    reply = server.post(URL, asked(image(red_circle), text("What is this?"), lang="es"))
    said = reply.json
    (message,) = said["output"]
    assert reply.status == 200 and said["status"] == "completed" and said["object"] == "response"
    assert message["content"][0]["text"] == nano.ask(red_circle, "What is this?", lang="es", max_tokens=40).text
    assert said["usage"]["total_tokens"] == said["usage"]["input_tokens"] + said["usage"]["output_tokens"] > 0
    assert said["max_output_tokens"] == 40 and said["store"] is False


def test_text_alone_and_instructions(server, nano):
    said = server.post(URL, {"input": "What is this?", "instructions": "Be brief.", "max_output_tokens": 20}).json
    expected = nano.ask(None, "What is this?", system="Be brief.", max_tokens=20)
    assert said["output"][0]["content"][0]["text"] == expected.text
    assert said["instructions"] == "Be brief."


def test_events_in_order(server, red_circle):
    reply = server.post(URL, asked(text("?"), image(red_circle), stream=True, lang="hi"))
    events = reply.events
    kinds = [event["type"] for event in events]
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert len(deltas) > 3 and "".join(deltas) == events[-1]["response"]["output"][0]["content"][0]["text"]
    assert f"event: {kinds[0]}\n" in reply.body.decode()


def test_a_second_turn(server, red_circle):
    first = server.post(URL, asked(text("What is this?"), image(red_circle))).json
    again = asked(text("What is this?"), image(red_circle))
    again["input"] += [first["output"][0], {"type": "message", "role": "user", "content": "What colour is it?"}]
    second = server.post(URL, again).json
    assert second["palo"]["n_images_encoded"] == 0
    assert second["usage"]["input_tokens_details"]["cached_tokens"] > first["usage"]["input_tokens"] - 2


def test_an_answer_that_is_cut_is_incomplete(server, red_circle):
    said = server.post(URL, asked(image(red_circle), max_output_tokens=2)).json
    assert said["status"] == "incomplete" and said["incomplete_details"] == {"reason": "max_output_tokens"}


def test_json_and_logprobs(server, red_circle):
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    form = {"format": {"type": "json_schema", "name": "a", "schema": schema}}
    wanted = {"text": form, "include": ["message.output_text.logprobs"], "top_logprobs": 1}
    part = server.post(URL, asked(text("?"), image(red_circle), **wanted)).json["output"][0]["content"][0]
    assert isinstance(json.loads(part["text"])["a"], bool)
    assert len(part["logprobs"]) > 3 and len(part["logprobs"][0]["top_logprobs"]) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("previous_response_id", "resp_1"),
        ("conversation", "c"),
        ("background", True),
        ("tools", [{"type": "web_search"}]),
        ("reasoning", {"effort": "high"}),
        ("include", ["file_search_call.results"]),
        ("text", {"format": {"type": "grammar"}}),
        ("text", {"verbosity": "high"}),
        ("input", []),
        ("input", [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]),
        ("input", [{"role": "user", "content": [{"type": "input_file", "file_data": "f"}]}]),
        ("input", [{"type": "function_call_output", "call_id": "c", "output": "o"}]),
        ("instructions", 3),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_name(server, field, value):
    reply = server.post(URL, {"input": "Hello", field: value})
    assert reply.status == 400 and reply.json["error"]["param"].startswith(field)


def test_raw_base64(server, red_circle):
    plain = server.post(URL, asked(text("?"), {"type": "input_image", "image_url": encoded(red_circle)}))
    assert plain.json["palo"]["n_images"] == 1
