"""`/v1/chat/completions`: every form in which clients ask, and what they get."""

from __future__ import annotations

import json

import pytest
from running_server import RunningServer, data_uri, encoded, user

URL = "/v1/chat/completions"


def content(reply):
    assert reply.status == 200, reply.body
    return reply.json["choices"][0]["message"]["content"]


def test_an_answer_is_the_librarys(server, nano, red_circle):
    reply = server.chat("What is this?", red_circle, lang="hi")
    expected = nano.ask(red_circle, "What is this?", lang="hi", max_tokens=40)
    assert content(reply) == expected.text
    choice, usage = reply.json["choices"][0], reply.json["usage"]
    assert choice["finish_reason"] == "stop" and choice["palo"]["n_images"] == 1
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (
        expected.timings.n_prompt_tokens,
        expected.timings.n_generated,
    )
    assert reply.headers["content-language"] == "hi"


@pytest.mark.parametrize("lang", ["en", "zh", "hi", "es", "fr", "ar", "bn", "ru", "ur", "ja"])
def test_a_stream_says_the_same_in_whole_characters(server, red_circle, lang):
    asked = {"lang": lang, "stream": True, "stream_options": {"include_usage": True}}
    events = server.chat("?", red_circle, **asked).events
    *chunks, usage, done = events
    texts = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
    assert done == "[DONE]" and usage["choices"] == [] and usage["usage"]["completion_tokens"] > 0
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[-2:]] == [None, "stop"]
    assert all(chunk["usage"] is None and chunk["id"] == chunks[0]["id"] for chunk in chunks)
    assert "".join(texts) == content(server.chat("?", red_circle, lang=lang))
    assert len(texts) > 3 and not any("\ufffd" in text for text in texts)


@pytest.mark.parametrize(
    "part",
    [
        lambda data: {"type": "image_url", "image_url": {"url": data_uri(data), "detail": "high"}},
        lambda data: {"type": "image_url", "image_url": data_uri(data)},
        lambda data: {"type": "image_url", "image_url": encoded(data)},
        lambda data: {"type": "image_url", "image_url": {"url": encoded(data).rstrip("=")}},
        lambda data: {"type": "image_url", "image_url": encoded(data).replace("+", "-").replace("/", "_")},
        lambda data: {
            "type": "image_url",
            "image_url": "\n".join(encoded(data)[i : i + 76] for i in range(0, 9999, 76)),
        },
        lambda data: {"type": "image_url", "image_url": data_uri(data).replace("+", "%2B").replace("=", "%3D")},
    ],
)
def test_an_image_in_every_form(server, red_circle, part):
    before = content(server.chat(red_circle, "What colour?"))
    n_encoded = server.metric("palo_images_encoded_total")
    assert content(server.chat("What colour?", part(red_circle))) == before
    assert server.metric("palo_images_encoded_total") == n_encoded


def test_several_images_in_any_order(server, nano, red_circle, blue_square):
    reply = server.chat(red_circle, "Which?", blue_square)
    with nano.chat(red_circle) as chat:
        chat.add_image(blue_square)
        expected = chat.ask("Which?", max_tokens=40)
    assert content(reply) == expected.text
    assert reply.json["choices"][0]["palo"]["n_images"] == 2


def test_an_image_without_a_question_is_described(server, nano, red_circle):
    assert content(server.chat(red_circle, lang="ja")) == nano.ask(red_circle, lang="ja", max_tokens=40).text


@pytest.mark.parametrize("lang", [None, "hi"])
def test_a_second_turn_encodes_nothing_and_reads_its_own_text_only(server, red_circle, lang):
    asked = {"lang": lang, "max_tokens": 40}
    messages = [user("What is this?", red_circle)]
    first = server.post(URL, {"messages": messages, **asked})
    messages += [{"role": "assistant", "content": content(first)}, user("What colour is it?")]
    second = server.post(URL, {"messages": messages, **asked}).json["choices"][0]["palo"]
    told = first.json["choices"][0]["palo"]
    assert second["n_images_encoded"] == 0
    # All but the last of what the first answer left is there; what ends an answer is read with the question.
    assert second["n_cached_tokens"] >= told["n_prompt_tokens"] + told["n_generated"] - 2


def test_tokens_of_an_answer_go_back_as_they_came(server):
    """Random tokens spell their text in a way in which no text is split."""
    messages = [user("Say something")]
    first = server.post(URL, {"messages": messages, "max_tokens": 40, "temperature": 100, "seed": 5})
    messages += [{"role": "assistant", "content": content(first)}, user("And now?")]
    second = server.post(URL, {"messages": messages, "max_tokens": 5}).json["choices"][0]["palo"]
    told = first.json["choices"][0]["palo"]
    assert second["n_cached_tokens"] >= told["n_prompt_tokens"] + told["n_generated"] - 2


def test_a_server_that_was_started_again_words_questions_as_it_did(nano, red_circle):
    asked = {"messages": [user("What is this?", red_circle)], "max_tokens": 40, "lang": "hi"}
    with RunningServer(nano) as one:
        first = one.post(URL, asked)
    asked["messages"] += [{"role": "assistant", "content": content(first)}, user("What colour is it?")]
    with RunningServer(nano) as other:
        second = other.post(URL, asked).json["choices"][0]["palo"]
    assert second["n_cached_tokens"] >= first.json["choices"][0]["palo"]["n_prompt_tokens"]


def test_an_image_is_opened_once(server, blue_square):
    opened = server.server.service.conversations.open(blue_square)
    assert server.server.service.conversations.open(blue_square).square is opened.square


def test_what_was_said_in_a_message_of_the_system_opens_the_prompt(server, nano):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is this?"}]
    reply = server.post(URL, {"messages": messages, "max_tokens": 20})
    assert content(reply) == nano.ask(None, "What is this?", system="Be brief.", max_tokens=20).text


def test_two_messages_of_the_user_are_one_question(server):
    messages = [{"role": "user", "content": "What is"}, {"role": "user", "content": "this?"}]
    reply = server.post(URL, {"messages": messages, "max_tokens": 20})
    assert content(reply) == content(server.chat("What is\nthis?", max_tokens=20))


def test_sampling_is_the_clients(server):
    asked = {"temperature": 1.5, "seed": 7, "n": 3, "top_p": 0.99}
    one, other = (server.chat("Hello", **asked).json for _ in range(2))
    texts = [choice["message"]["content"] for choice in one["choices"]]
    assert texts == [choice["message"]["content"] for choice in other["choices"]]
    assert len(set(texts)) > 1 and [choice["index"] for choice in one["choices"]] == [0, 1, 2]


def test_several_answers_in_one_stream(server, red_circle):
    events = server.chat("?", red_circle, temperature=1.0, seed=1, n=2, stream=True).events
    said = {0: "", 1: ""}
    for event in events[:-1]:
        said[event["choices"][0]["index"]] += event["choices"][0]["delta"].get("content", "")
    assert all(said.values())
    assert sum(event["choices"][0]["finish_reason"] is not None for event in events[:-1]) == 2


def test_an_answer_ends_where_it_is_told_to(server, red_circle):
    whole = content(server.chat("What is this?", red_circle))
    stop = whole[len(whole) // 2 :][:3]
    cut = server.chat("What is this?", red_circle, stop=["no such text", stop])
    assert content(cut) == whole[: whole.index(stop)].strip() and cut.json["choices"][0]["finish_reason"] == "stop"
    short = server.chat("What is this?", red_circle, max_tokens=None, max_completion_tokens=2).json["choices"][0]
    assert short["finish_reason"] == "length"


def test_logprobs(server, red_circle):
    asked = {"logprobs": True, "top_logprobs": 2}
    whole = server.chat("?", red_circle, **asked).json
    tokens = whole["choices"][0]["logprobs"]["content"]
    assert b"".join(bytes(token["bytes"]) for token in tokens).decode().strip() == content_of(whole)
    assert all(len(token["top_logprobs"]) == 2 for token in tokens)
    *_, last, _done = server.chat("?", red_circle, stream=True, **asked).events
    streamed = last["choices"][0]["logprobs"]["content"]
    assert [token["token"] for token in streamed] == [token["token"] for token in tokens]


def content_of(completion):
    return completion["choices"][0]["message"]["content"]


@pytest.mark.parametrize("is_streamed", [False, True])
def test_answers_in_json(server, red_circle, is_streamed):
    schema = {
        "type": "object",
        "properties": {"रंग": {"enum": ["लाल", "नीला"]}, "round": {"type": "boolean"}},
        "required": ["रंग", "round"],
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "colour", "strict": True, "schema": schema}}
    reply = server.chat("What colour?", red_circle, response_format=wanted, stream=is_streamed, max_tokens=100)
    if is_streamed:
        text = "".join(event["choices"][0]["delta"].get("content", "") for event in reply.events[:-1])
    else:
        text = content(reply)
    assert json.loads(text)["रंग"] in ("लाल", "नीला") and isinstance(json.loads(text)["round"], bool)


def test_the_language_may_come_in_a_header_which_the_field_overrules(server, red_circle):
    def asked(header, **fields):
        body = {"messages": [user("What is this?", red_circle)], "max_tokens": 40, **fields}
        reply = server.post(URL, body, {"Accept-Language": header})
        return reply.json["choices"][0]["palo"]["language"]

    assert asked("de, hi-IN;q=0.8, fr;q=0.9") == "fr"
    assert asked("*") is None and asked("xx,;;q=,") is None
    assert asked("hi", lang="اردو") == "ur"
    assert asked("hi", lang="auto") is None


def test_fields_that_change_nothing_are_taken(server):
    harmless = {
        "user": "me",
        "metadata": {"a": "b"},
        "store": False,
        "tools": [],
        "tool_choice": "none",
        "n": 1.0,
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logit_bias": {},
        "lang": None,
        "parallel_tool_calls": True,
        "modalities": ["text"],
        "top_logprobs": None,
        "response_format": {"type": "text"},
    }
    assert content(server.chat("Hello", model="palo-nano", **harmless))
