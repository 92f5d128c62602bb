"""A model that says the same thing over and over: what the conversation keeps of it, and how it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, repeat
from typing import Any

import numpy as np
import pytest
from test_repetition import STUCK

from palo_cpp.chat.chat import Chat
from palo_cpp.chat.request import Engine
from palo_cpp.decoding.decoding import Decoding


class Told(Decoding):
    """Chooses what a script says instead of what the model thinks, as a model in a loop would."""

    def __init__(self, model: Any, options: Any, script: Iterator[int]) -> None:
        super().__init__(model, options)
        self._script = script

    def take(self, logits: np.ndarray) -> str:
        told = np.full_like(logits, -1)
        told[next(self._script)] = 1
        return super().take(told)


def looping(engine: Engine, before: str, sentence: str) -> Engine:
    """An engine whose first answer is a loop; the next ones are the model's own."""
    model = engine.model
    script = chain(model.tokenize(before), repeat(model.tokenize_continued(sentence)))
    tokens = chain.from_iterable(part if isinstance(part, list) else [part] for part in script)
    decodings = iter([True])

    def new_decoding(model: Any, request: Any) -> Decoding:
        return Told(model, request.options, tokens) if next(decodings, False) else Decoding(model, request.options)

    return replace(engine, new_decoding=new_decoding)


@pytest.mark.parametrize("code", ["en", "zh", "ru"])  # the others' loops outgrow the tiny context of 512 tokens
def test_the_next_question_follows_the_cut_answer(engine, code):
    before, sentence = STUCK[code]
    chat = Chat(looping(engine, before, sentence), "cat")
    stream = chat.stream("What is this?", max_tokens=1000)
    pieces = [piece.text for piece in stream]
    first = stream.answer
    assert first.finish_reason == "repetition"
    assert first.text == (before + sentence).rstrip() == "".join(pieces)
    assert b"".join(map(engine.model.token_bytes, first.token_ids)).decode().strip() == first.text
    assert len(first.token_ids) < first.timings.n_generated

    second = chat.ask("And what else?", max_tokens=16)
    assert f"{first.text}</s>USER: And what else?" in second.inputs.prompt
    # The rounds of the loop stand in the KV cache no more; the answer before them does and is not read again.
    assert second.timings.n_cached_tokens == first.timings.n_prompt_tokens + len(first.token_ids)
    engine.cache.clear()
    fresh = Chat(engine, turns=tuple(chat.turns[:1])).ask("And what else?", max_tokens=16)
    assert (fresh.timings.n_cached_tokens, fresh.token_ids) == (0, second.token_ids)


def test_a_loop_ends_long_before_max_tokens(engine):
    chat = Chat(looping(engine, "It is so: ", "a chair and "), "cat")
    answer = chat.ask("What is this?", max_tokens=400)
    assert answer.finish_reason == "repetition"
    assert answer.timings.n_generated < 80
