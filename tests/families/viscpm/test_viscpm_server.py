"""`palo-cpp serve` with VisCPM: one question after the other, two languages, one picture, what it says of itself."""

from __future__ import annotations

import base64
import json
import threading

import pytest

pytest.importorskip("starlette", reason="the extra `server` is not installed")
pytest.importorskip("uvicorn", reason="the extra `server` is not installed")

from running_server import RunningServer, drawing

from palo_cpp import Palo

ASKED = {"max_tokens": 6, "lang_mode": "off"}


@pytest.fixture(scope="module")
def palo(viscpm_folder):
    with Palo(viscpm_folder, n_ctx=300, n_threads=1, n_parallel=4) as palo:
        yield palo


@pytest.fixture(scope="module")
def server(palo):
    with RunningServer(palo) as running:
        yield running


@pytest.fixture(scope="module")
def pictures():
    return drawing("red", "circle"), drawing("blue", "square")


def messages(text, *images):
    shown = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(each).decode()}"}}
        for each in images
    ]
    return [{"role": "user", "content": [*shown, {"type": "text", "text": text}]}]


def test_models_says_what_it_can(server):
    (model,) = server.get("/v1/models").json["data"]
    assert (model["id"], model["languages"], model["n_ctx"]) == ("VisCPM-Chat", ["zh", "en"], 300)
    assert (model["n_parallel"], model["shares_context"], model["n_images"], model["n_beams"]) == (1, False, 1, 3)


@pytest.mark.parametrize(("lang", "question"), [("zh", "这是什么？"), ("en", "What is this?"), (None, "What?")])
def test_chat_completions(server, palo, pictures, lang, question):
    body = {"messages": messages(question, pictures[0]), **ASKED, **({"lang": lang} if lang else {})}
    reply = server.post("/v1/chat/completions", body)
    expected = palo.ask(pictures[0], question, lang=lang, **ASKED)
    (choice,) = reply.json["choices"]
    assert choice["message"]["content"] == expected.text and choice["palo"]["n_images"] == 1
    *chunks, _end, done = server.post("/v1/chat/completions", {**body, "stream": True, "n_beams": 1}).events
    pieces = [chunk["choices"][0]["delta"]["content"] for chunk in chunks]
    assert pieces[0] == "" and all(pieces[1:]) and done == "[DONE]"  # the role, then never nothing
    assert "".join(pieces) == palo.ask(pictures[0], question, lang=lang, n_beams=1, **ASKED).text


def test_a_follow_up_says_what_was_read_again_and_encodes_nothing(server, pictures):
    said = messages("这是什么？", pictures[1])
    first = server.post("/v1/chat/completions", {"messages": said, **ASKED}).json["choices"][0]
    said += [{"role": "assistant", "content": first["message"]["content"]}, {"role": "user", "content": "为什么？"}]
    second = server.post("/v1/chat/completions", {"messages": said, **ASKED}).json["choices"][0]["palo"]
    assert (first["palo"]["n_images_encoded"], second["n_images_encoded"]) == (1, 0)
    assert first["palo"]["n_repeated_tokens"] == 0 < second["n_repeated_tokens"] < second["n_prompt_tokens"]
    assert second["n_cached_tokens"] == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": messages("?"), "lang": "hi"}),
        ("/v1/responses", {"input": "?", "lang": "हिन्दी"}),
        ("/v1/describe", {"image": messages("", drawing("red", "circle"))[0]["content"][0]["image_url"], "lang": "hi"}),
        ("/api/chat", {"messages": [{"role": "user", "content": "?"}], "lang": "Hindi"}),
    ],
)
def test_other_languages_are_refused_by_the_name_of_the_field(server, path, body):
    reply = server.post(path, body)
    assert reply.status == 400
    assert reply.message.startswith(
        "lang: expected one that VisCPM-Chat knows (zh (Chinese, 中文), en (English, English))"
    )
    assert "a model that knows Hindi: MobilePALO-1.7B, PALO-7B and PALO-13B" in reply.message
    if not path.startswith("/api"):
        assert reply.json["error"]["param"] == "lang"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (
            {"messages": messages("?", drawing("red", "circle"), drawing("blue", "square"))},
            "image: expected one in a conv",
        ),
        ({"n_beams": 9}, "n_beams: expected 1 to 3, got 9"),
        ({"n_beams": 3, "temperature": 1}, "n_beams: expected 1 with a temperature"),
        ({"n_beams": 3, "response_format": {"type": "json_object"}}, "n_beams: expected 1 with json_schema"),
        (
            {"messages": [{"role": "system", "content": "Be brief."}, *messages("?")]},
            "system: expected none, for prompts of VisCPM have no place for one, got text; say it in the question",
        ),
    ],
)
def test_what_cannot_be_is_refused(server, more, says):
    reply = server.post("/v1/chat/completions", {"messages": messages("?"), **ASKED, **more})
    assert reply.status == 400 and reply.message.startswith(says)
    assert server.post("/v1/chat/completions", {"messages": messages("?"), **ASKED}).status == 200


def test_schemas_and_logprobs_come_token_by_token(server):
    schema = {"type": "object", "properties": {"red": {"type": "boolean"}}, "required": ["red"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    body = {"messages": messages("What?"), "max_tokens": 30, "response_format": wanted, "logprobs": True}
    (choice,) = server.post("/v1/chat/completions", body).json["choices"]
    assert isinstance(json.loads(choice["message"]["content"])["red"], bool)
    assert len(choice["logprobs"]["content"]) == choice["palo"]["n_generated"]


def test_both_languages_are_described(server, palo, pictures):
    image = messages("", pictures[0])[0]["content"][0]["image_url"]
    answers = server.post("/v1/describe", {"image": image, **ASKED}).json["answers"]
    expected = palo.describe(pictures[0], **ASKED)
    assert {code: answer["text"] for code, answer in answers.items()} == {c: a.text for c, a in expected.items()}
    events = server.post("/v1/describe", {"image": image, "stream": True, **ASKED}).events
    assert {event["lang"] for event in events[:-1]} == {"zh", "en"} and events[-1] == "[DONE]"


def test_questions_that_come_together_are_answered_one_by_one(server, palo, pictures):
    """Each as if it were alone; the context holds one prompt."""
    questions = [("这是什么？", 0), ("What is this?", 1), ("图中有什么？", 0), ("It is red.", 1)]
    expected = [palo.ask(pictures[image], text, **ASKED).text for text, image in questions]
    replies: list[str | None] = [None] * len(questions)

    def ask(i: int) -> None:
        text, image = questions[i]
        body = {"messages": messages(text, pictures[image]), "stream": i % 2 == 1, **ASKED}
        reply = server.post("/v1/chat/completions", body)
        if i % 2 == 0:
            replies[i] = reply.json["choices"][0]["message"]["content"]
        else:
            replies[i] = "".join(each["choices"][0]["delta"].get("content", "") for each in reply.events[:-1])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(questions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == expected
    steps, rows = (
        float(line.split()[-1])
        for name in ("palo_steps_total", "palo_rows_total")
        for line in server.get("/metrics").body.decode().splitlines()
        if line.startswith(f"{name} ")
    )
    assert 0 < steps < rows


def test_a_language_model_alone_says_that_it_sees_nothing(text_folder, pictures):
    with Palo(text_folder, n_ctx=300, n_threads=1) as palo, RunningServer(palo) as running:
        assert running.get("/v1/models").json["data"][0]["n_images"] == 0
        said = running.post("/v1/chat/completions", {"messages": messages("这是什么？"), **ASKED})
        assert said.status == 200 and said.json["choices"][0]["message"]["content"]
        refused = running.post("/v1/chat/completions", {"messages": messages("?", pictures[0]), **ASKED})
        assert refused.status == 400 and "loaded without vision tower and projector" in refused.message
