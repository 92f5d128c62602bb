"""All languages at once, image embeddings, models, health and numbers."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from running_server import RunningServer, data_uri, encoded, user

from palo_cpp.languages.languages import LANGUAGES


def test_one_image_in_all_languages(server, nano, red_circle):
    nano.clear_cache()
    before = server.metric("palo_images_encoded_total")
    said = server.post("/v1/describe", {"image": data_uri(red_circle), "max_tokens": 30}).json
    expected = nano.describe(red_circle, max_tokens=30)
    assert {code: answer["text"] for code, answer in said["answers"].items()} == {
        code: answer.text for code, answer in expected.items()
    }
    assert said["answers"]["ur"]["direction"] == "rtl" and list(said["answers"]) == list(LANGUAGES)
    assert server.metric("palo_images_encoded_total") - before == 1


def test_some_languages_and_a_question(server, nano, red_circle):
    body = {"image": encoded(red_circle), "lang": "hi,Japanese", "question": "What colour?", "max_tokens": 30}
    said = server.post("/v1/describe", body).json
    expected = nano.describe(red_circle, lang=["hi", "ja"], question="What colour?", max_tokens=30)
    assert {code: answer["text"] for code, answer in said["answers"].items()} == {
        code: answer.text for code, answer in expected.items()
    }


def test_descriptions_as_they_come(server, red_circle):
    body = {"image": data_uri(red_circle), "lang": ["en", "ar", "zh"], "stream": True, "max_tokens": 30}
    *events, done = server.post("/v1/describe", body).events
    texts = dict.fromkeys(body["lang"], "")
    for event in events:
        texts[event["lang"]] += event.get("delta", "")
    assert done == "[DONE]"
    assert texts == {event["lang"]: event["answer"]["text"] for event in events if "answer" in event}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"image": None}, "image"),
        ({"image": "https://example.org/a.png"}, "image"),
        ({"image": "AAAA"}, "bytes"),
        ({"lang": []}, "lang"),
        ({"lang": "Klingon"}, "lang"),
        ({"lang": {"a": 1}}, "lang"),
        ({"question": 3}, "question"),
        ({"question": "a" * 200_000}, "question"),
        ({"n": 2}, "n"),
    ],
)
def test_descriptions_that_cannot_be_had(server, red_circle, fields, named):
    reply = server.post("/v1/describe", {"image": encoded(red_circle), **fields})
    assert reply.status == 400 and named in reply.message.partition(":")[0]


def test_image_embeddings(server, nano, red_circle, blue_square):
    expected = np.stack([nano.embed_image(image) for image in (red_circle, blue_square)])
    asked = {"input": [data_uri(red_circle), {"url": encoded(blue_square)}]}
    data = server.post("/v1/image_embeddings", asked).json["data"]
    got = [np.frombuffer(base64.b64decode(entry["embeddings"]), "<f4").reshape(entry["shape"]) for entry in data]
    assert np.array_equal(np.stack(got), expected)
    (numbers,) = server.post("/v1/image_embeddings", {"image": encoded(red_circle), "encoding_format": "float"}).json[
        "data"
    ]
    assert np.array_equal(np.float32(numbers["embeddings"]), expected[0])
    assert server.post("/v1/image_embeddings", {"input": [encoded(red_circle)] * 5}).status == 400
    assert server.post("/v1/image_embeddings", {"input": "AAAA"}).json["error"]["code"] == "invalid_image"


def test_models(nano):
    with RunningServer(nano, aliases=("gpt-4o", "llava:7b"), n_parallel=2) as server:
        models = server.get("/v1/models").json
        assert [model["id"] for model in models["data"]] == ["gpt-4o", "llava:7b", "PALO-Nano"]
        assert models["data"][0]["languages"] == list(LANGUAGES) and models["data"][0]["shares_context"] is True
        assert server.get("/v1/models/GPT-4o").json["id"] == "gpt-4o"
        assert server.get("/v1/models/other").status == 404
        assert server.chat("Hello", model="gpt-4o", max_tokens=3).json["model"] == "gpt-4o"
        assert server.chat("Hello", model="gpt-5", max_tokens=3).json["error"]["code"] == "model_not_found"
        assert server.post("/api/chat", {"model": "llava:7b", "messages": []}).status == 200


def test_health_and_numbers(server, red_circle):
    assert server.get("/health").json["status"] == "ok"
    before = {name: server.metric(name) for name in ("palo_answers_total", "palo_generated_tokens_total")}
    server.chat("What?", red_circle)
    reply = server.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert all(server.metric(name) > value for name, value in before.items())
    assert server.metric("palo_prompt_tokens_total") == server.metric(
        "palo_prompt_tokens_cached_total"
    ) + server.metric("palo_prompt_tokens_prefilled_total")
    assert server.metric("palo_first_token_seconds_count") > 0
    assert 'palo_requests_total{path="/v1/chat/completions",status="200"}' in reply.body.decode()


def test_a_conversation_with_another_beside_it_keeps_its_prefix(server, red_circle, blue_square):
    """Two conversations in turn: neither reads again what the other did not displace."""
    talks = [[user("What is this?", image)] for image in (red_circle, blue_square)]
    for talk in talks:
        text = server.post("/v1/chat/completions", {"messages": talk, "max_tokens": 20}).json["choices"][0]["message"]
        talk += [text, user("What colour is it?")]
    encoded_before = server.metric("palo_images_encoded_total")
    for talk in talks:
        assert server.post("/v1/chat/completions", {"messages": talk, "max_tokens": 20}).status == 200
    assert server.metric("palo_images_encoded_total") == encoded_before


def test_the_page(server):
    reply = server.get("/")
    assert reply.status == 200 and "default-src 'none'" in reply.headers["content-security-policy"]
    for path in ("/page/../app.py", "/page/%2e%2e/app.py", "/page//etc/passwd", "/page/", "/page/nothing.js"):
        assert server.get(path).status == 404
