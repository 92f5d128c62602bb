"""A model that says the same thing over and over: what the conversation keeps of it, and how it goes on."""

from __future__ import annotations

from itertools import chain, repeat

import numpy as np
import pytest
from loaded_models import FixedConstraints
from repeating_text import STUCK

from palo_cpp.chat.chat import Chat
from palo_cpp.models.loaded_model import LoadedModel


class Scripted:
    """A constraint that leaves the model what a script says, as a model in a loop would say it."""

    def __init__(self, n_vocab: int, script: list[int], loop: list[int]) -> None:
        self._n_vocab = n_vocab
        self._script = chain(script, chain.from_iterable(repeat(loop)))

    def allowed(self) -> np.ndarray:
        allowed = np.zeros(self._n_vocab, np.bool_)
        allowed[next(self._script)] = True
        return allowed

    def accept(self, _token: int) -> None:
        pass


def looping(loaded: LoadedModel, before: str, sentence: str) -> LoadedModel:
    """A model whose first answer is a loop; the next ones are its own."""
    model = loaded.language_model
    script = Scripted(model.n_vocab, model.tokenize(before), model.tokenize_continued(sentence))
    loaded.constraints = FixedConstraints([script])
    return loaded


@pytest.mark.parametrize("code", ["en", "zh", "ru"])  # the others' loops outgrow the tiny context of 512 tokens
def test_the_next_question_follows_the_cut_answer(loaded, code):
    before, sentence = STUCK[code]
    chat = Chat(looping(loaded, before, sentence), "cat")
    stream = chat.stream("What is this?", max_tokens=1000)
    pieces = [piece.text for piece in stream]
    first = stream.answer
    assert first.finish_reason == "repetition"
    assert first.text == (before + sentence).rstrip() == "".join(pieces)
    assert b"".join(map(loaded.language_model.token_bytes, first.token_ids)).decode().strip() == first.text
    assert len(first.token_ids) < first.timings.n_generated

    second = chat.ask("And what else?", max_tokens=16)
    assert f"{first.text}</s>USER: And what else?" in second.inputs.prompt
    # The rounds of the loop are not in the KV cache any more; the answer before them is and is not decoded again.
    assert second.timings.n_cached_tokens == first.timings.n_prompt_tokens + len(first.token_ids)
    loaded.prefix.cache.clear()
    fresh = Chat(loaded, turns=tuple(chat.turns[:1])).ask("And what else?", max_tokens=16)
    assert (fresh.timings.n_cached_tokens, fresh.token_ids) == (0, second.token_ids)


def test_a_loop_ends_long_before_max_tokens(loaded):
    chat = Chat(looping(loaded, "It is so: ", "a chair and "), "cat")
    answer = chat.ask("What is this?", max_tokens=400)
    assert answer.finish_reason == "repetition"
    assert answer.timings.n_generated < 80
