"""OpenAI's dictionaries: every form that clients send, and one clear sentence for what cannot be done."""

from __future__ import annotations

import pytest

from palo_cpp.chat.answer import Answer, AnswerStream, Inputs, Timings
from palo_cpp.chat.chat_completion import Reply, UserMessage, read_request
from palo_cpp.errors import ArgumentError

URI = "data:image/png;base64,AAAA"


def user(*parts: object) -> dict:
    return {"role": "user", "content": parts[0] if len(parts) == 1 and isinstance(parts[0], str) else list(parts)}


def assistant(text: str) -> dict:
    return {"role": "assistant", "content": text}


def text(value: str) -> dict:
    return {"type": "text", "text": value}


def image(url: object = URI) -> dict:
    return {"type": "image_url", "image_url": url}


@pytest.mark.parametrize(
    "parts", [(text("What?"), image()), (image(), text("What?")), (image({"url": URI}), text("What?"))]
)
def test_image_and_text_in_any_order_and_form(parts):
    request = read_request([user(*parts)], {})
    assert (request.messages, request.question) == ((UserMessage("What?", (URI,)),), "What?")
    assert (request.system, request.lang, request.options) == (None, None, {})


def test_image_url_with_detail_and_upper_case():
    uri = "DATA:image/png;base64,AAAA"
    assert read_request([user(image({"url": uri, "detail": "low"}))], {}).messages[0].images == (uri,)


def test_several_turns_and_a_system_message(sentences):
    messages = [
        {"role": "system", "content": "Be brief."},
        user(image(), text(sentences["hi"])),
        assistant(sentences["ur"]),
        user(sentences["ja"]),
    ]
    request = read_request(messages, {"lang": "ja"})
    assert request.system == "Be brief."
    asked = UserMessage(sentences["hi"], (URI,), sentences["ur"])
    assert request.messages == (asked, UserMessage(sentences["ja"]))
    assert (request.question, request.lang) == (sentences["ja"], "ja")


def test_each_image_belongs_to_the_message_that_it_stands_in():
    other = "data:image/png;base64,BBBB"
    messages = [user("Hello"), assistant("Hi"), user(image(), text("What?"), image(other)), assistant("A"), user("B")]
    assert read_request(messages, {}).messages == (
        UserMessage("Hello", (), "Hi"),
        UserMessage("What?", (URI, other), "A"),
        UserMessage("B"),
    )
    assert read_request([user(image()), assistant(""), user("")], {}).question == ""  # asks for a description


def test_text_parts_are_joined_by_lines():
    assert read_request([user(text("a"), text("b"))], {}).question == "a\nb"


def test_an_image_alone_asks_nothing():
    assert read_request([user(image())], {}).question == ""


def test_parameters():
    given = {
        "max_completion_tokens": 7,
        "temperature": 0.5,
        "top_p": None,
        "stop": ["a"],
        "n": 1,
        "model": "x",
        "user": "u",
    }
    assert read_request([user("a")], given).options == {"max_tokens": 7, "temperature": 0.5, "stop": ["a"]}


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.org/a.png", "https://example.org/a.png", "file:///etc/passwd", "/etc/passwd", "a.png"),
        *("ftp://a", "FILE:///x", " data:image/png;base64,AAAA"),
    ],
)
def test_nothing_is_fetched_and_no_file_is_read(url):
    with pytest.raises(ArgumentError, match="nothing is fetched from the network or from files"):
        read_request([user(image(url))], {})


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "messages: expected a list"),
        ("hello", "messages: expected a list"),
        ({"role": "user"}, "messages: expected a list"),
        ([3], r"messages\[0\]: expected a dictionary"),
        ([{"role": "tool", "content": "x"}], r"messages\[0\]\.role: expected system, user or assistant, got 'tool'"),
        ([{"content": "x"}], "got None"),
        ([{"role": "user", "content": None}], "expected text or a list of parts, got NoneType"),
        ([user({"type": "input_audio"}, text("a"))], "expected a part of type text or image_url, got 'input_audio'"),
        ([user("a"), user("b")], "two user messages in a row"),
        ([assistant("a")], "expected a user message before"),
        ([user("a"), assistant("b")], "end with the question"),
        ([{"role": "system", "content": "a"}], "end with the question"),
        ([user("a"), assistant("b"), {"role": "system", "content": "c"}, user("d")], "system message first"),
        ([user("a"), {"role": "assistant", "content": [image()]}, user("b")], "images in user messages only"),
        ([user(image(3), text("a"))], "expected image_url to be a text"),
        ([user("a"), assistant("b"), assistant("c"), user("d")], "expected a user message before"),
        ([user("  ")], "expected a question or an image"),
    ],
)
def test_messages_that_cannot_be_answered(messages, message):
    with pytest.raises(ArgumentError, match=message):
        read_request(messages, {})


@pytest.mark.parametrize(
    ("name", "value"), [("n", 2), ("tools", []), ("response_format", {"type": "yaml"}), ("presence_penalty", 1)]
)
def test_parameters_that_cannot_be_honoured(name, value):
    with pytest.raises(ArgumentError, match=name):
        read_request([user("a")], {name: value})


def answer(text: str, finish_reason: str) -> Answer:
    return Answer(text, (5, 6), finish_reason, "hi", Timings(n_prompt_tokens=10, n_generated=2), Inputs("prompt"))


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        *(("stop", "stop"), ("stop_string", "stop"), ("cancelled", "stop")),
        *(("length", "length"), ("context", "length"), ("repetition", "length")),
    ],
)
def test_whole_reply(reason, told):
    reply = Reply("PALO").whole(answer("नमस्ते", reason))
    assert reply["object"] == "chat.completion" and reply["model"] == "PALO" and reply["id"].startswith("chatcmpl-")
    (choice,) = reply["choices"]
    assert choice == {"index": 0, "message": {"role": "assistant", "content": "नमस्ते"}, "finish_reason": told}
    assert reply["usage"] == {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}


def test_chunks():
    stream = AnswerStream(iter(["नम", "स्ते"]), lambda _: answer("नमस्ते", "length"))
    chunks = list(Reply("PALO").chunks(stream))
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""},
        {"content": "नम"},
        {"content": "स्ते"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "length"]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


def test_leaving_the_chunks_early_stops_the_decoding():
    cut = []
    stream = AnswerStream(iter(["a", "b"]), lambda was_cut: cut.append(was_cut) or answer("a", "cancelled"))
    chunks = Reply("PALO").chunks(stream)
    next(chunks), next(chunks)
    chunks.close()
    assert cut == [True]
