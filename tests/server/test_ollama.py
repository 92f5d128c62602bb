"""Ollama's interface: its forms, its errors, and what its clients ask before they ask."""

from __future__ import annotations

import json

import pytest
from running_server import encoded


def asked(*contents, images=(), **fields):
    roles = ("user", "assistant") * len(contents)
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    if images:
        messages[0]["images"] = [encoded(image) for image in images]
    return {"model": "palo-nano", "messages": messages, "options": {"num_predict": 40}, **fields}


def test_chat_streams_lines(server, nano, red_circle):
    reply = server.post("/api/chat", asked("What is this?", images=[red_circle], lang="hi"))
    *pieces, end = reply.lines
    text = "".join(piece["message"]["content"] for piece in pieces)
    assert text == nano.ask(red_circle, "What is this?", lang="hi", max_tokens=40).text
    assert reply.headers["content-type"].startswith("application/x-ndjson")
    assert end["done"] and end["done_reason"] == "stop" and end["eval_count"] > 0 and end["total_duration"] > 0
    assert not any(piece["done"] for piece in pieces) and len(pieces) > 3


def test_chat_as_a_whole_and_its_second_turn(server, red_circle):
    first = server.post("/api/chat", asked("What is this?", images=[red_circle], stream=False)).json
    more = asked("What is this?", first["message"]["content"], "What colour is it?", images=[red_circle], stream=False)
    second = server.post("/api/chat", more).json
    assert first["done"] and second["message"]["content"]
    assert second["palo"]["n_images_encoded"] == 0
    assert second["palo"]["n_cached_tokens"] >= first["prompt_eval_count"] - 1


def test_generate(server, nano, red_circle):
    body = {"model": "PALO-Nano:latest", "prompt": "What is this?", "images": [encoded(red_circle)], "stream": False}
    said = server.post("/api/generate", body).json
    assert said["response"] == nano.ask(red_circle, "What is this?").text
    *pieces, end = server.post("/api/generate", {**body, "stream": True}).lines
    assert "".join(piece["response"] for piece in pieces) == said["response"] and end["done"]


def test_generate_with_system_and_options(server, nano):
    # Logits move in their last bits with the place of a prompt's cells, and Nano's int8 rows make that some tenths:
    # this seed's draws are far from where that would change one.
    options = {
        "num_predict": 9,
        "temperature": 0.9,
        "seed": 38,
        "top_k": 40,
        "top_p": 0.9,
        "stop": ["zzz"],
        "num_ctx": 512,
    }
    body = {"prompt": "What?", "system": "Be brief.", "stream": False, "options": options, "keep_alive": "5m"}
    greedy = nano.ask(None, "What?", system="Be brief.", max_tokens=9).text
    expected = nano.ask(
        None, "What?", system="Be brief.", max_tokens=9, temperature=0.9, seed=38, top_k=40, top_p=0.9
    )  # fmt: skip
    assert server.post("/api/generate", body).json["response"] == expected.text != greedy


@pytest.mark.parametrize(
    "form", ["json", {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}]
)
def test_format(server, red_circle, form):
    said = server.post("/api/chat", asked("?", images=[red_circle], stream=False, format=form)).json
    assert said["done_reason"] == "length" or isinstance(json.loads(said["message"]["content"]), dict)
    assert said["message"]["content"].startswith("{")


@pytest.mark.parametrize(("path", "body"), [("/api/chat", {"messages": []}), ("/api/generate", {"prompt": ""})])
def test_nothing_asked_is_a_wish_to_load_the_model(server, path, body):
    said = server.post(path, {"model": "PALO-Nano", **body}).json
    assert said["done"] and said["done_reason"] == "load"


def test_what_there_is(server):
    (model,) = server.get("/api/tags").json["models"]
    assert model["name"] == "PALO-Nano:latest" and model["size"] > 1000 and model["details"]["format"] == "gguf"
    (running,) = server.get("/api/ps").json["models"]
    assert running["name"] == model["name"] and running["context_length"] > 0
    shown = server.post("/api/show", {"model": model["name"]}).json
    assert "vision" in shown["capabilities"] and shown["model_info"]["general.architecture"] == "llama"
    assert server.get("/api/version").json["version"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"options": {"mirostat": 2}}, "options.mirostat"),
        ({"options": {"repeat_penalty": 1.1}}, "options.repeat_penalty"),
        ({"options": {"num_ctx": 10**6}}, "options.num_ctx"),
        ({"options": {"temperature": "hot"}}, "options.temperature"),
        ({"options": {"colour": 1}}, "options.colour"),
        ({"options": []}, "options"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"think": True}, "think"),
        ({"format": "yaml"}, "format"),
        ({"format": {"type": "string", "pattern": "a"}}, "pattern"),
        ({"stream": "yes"}, "stream"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": "x", "images": "y"}]}, "messages[0].images"),
        ({"messages": [{"role": "user", "content": "x", "images": ["/etc/passwd"]}]}, "image"),
        ({"messages": [{"role": "user", "content": "x", "images": ["file:///etc/passwd"]}]}, "messages[0].images[0]"),
        ({"messages": "x"}, "messages"),
        ({"model": "llava"}, "model"),
    ],
)
def test_what_cannot_be_done_is_refused_in_ollamas_form(server, fields, named):
    reply = server.post("/api/chat", {**asked("x"), **fields})
    assert reply.status == (404 if named == "model" else 400)
    assert isinstance(reply.json["error"], str) and named in reply.json["error"]
