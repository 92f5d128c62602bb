"""How likely tokens were: against a plain softmax, and along a whole answer."""

from __future__ import annotations

import math

import numpy as np
import pytest

from palo_cpp.decoding.logprobs import token_logprob
from palo_cpp.errors import ArgumentError
from palo_cpp.llm.token_table import TokenTable

TABLE = TokenTable((b"a", b"b", b"\xe0", b"d"), np.zeros(4, np.bool_))


def test_a_token_beside_the_likeliest():
    logits = np.log(np.array([0.1, 0.6, 0.25, 0.05], np.float32))
    said = token_logprob(TABLE, logits, 0, 2)
    assert math.isclose(said.chosen.logprob, math.log(0.1), abs_tol=1e-6)
    assert [token.piece for token in said.top] == [b"b", b"\xe0"]
    assert math.isclose(sum(math.exp(token.logprob) for token in token_logprob(TABLE, logits, 0, 4).top), 1)
    assert said.to_dict()["top_logprobs"][1]["bytes"] == [0xE0]
    assert token_logprob(TABLE, logits, 3, 0).top == ()


def test_an_answer_says_it_of_each_of_its_tokens(palo, picture):
    answer = palo.ask(picture, "What?", max_tokens=12, logprobs=3)
    assert answer.logprobs is not None and len(answer.logprobs) == len(answer.token_ids) > 0
    for token in answer.logprobs:
        assert token.top[0].logprob >= token.top[1].logprob >= token.top[2].logprob
        assert token.chosen.logprob <= token.top[0].logprob <= 0
    assert answer.to_dict()["logprobs"][0]["bytes"] == list(answer.logprobs[0].chosen.piece)
    assert palo.ask(picture, "What?", max_tokens=12).logprobs is None


def test_chat_completions_have_them_whole_and_in_the_last_chunk(palo):
    messages = [{"role": "user", "content": "Yes?"}]
    asked = {"max_tokens": 6, "logprobs": True, "top_logprobs": 2}
    palo.create_chat_completion(messages, **asked)  # whose prompt the context holds from now on
    whole = palo.create_chat_completion(messages, **asked)["choices"][0]["logprobs"]["content"]
    *chunks, last = palo.create_chat_completion(messages, stream=True, **asked)
    assert last["choices"][0]["logprobs"]["content"] == whole and len(whole[0]["top_logprobs"]) == 2
    assert not any("logprobs" in chunk["choices"][0] for chunk in chunks)


@pytest.mark.parametrize("n", [-1, 21, True, "3"])
def test_others_are_refused(palo, n):
    with pytest.raises(ArgumentError, match="logprobs"):
        palo.ask(None, "What?", logprobs=n)


def test_another_thread_ends_an_answer_after_the_token_that_comes(palo, picture):
    begun, asked = [], []
    should_stop = lambda: bool(begun) and (asked.append(1) or len(asked) >= 3)  # noqa: E731 - not during the prompt
    with palo.stream(picture, "What?", should_stop=should_stop, lang_mode="off") as stream:
        next(stream)
        begun.append(1)
        answer = stream.read()
    assert answer.finish_reason == "cancelled" and len(asked) == 3
