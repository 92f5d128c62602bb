"""How VisCPM's answers are chosen: beams as published, one path that streams, sampling, schemas; and how they end."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest
from viscpm_numpy import NumpyBeeEngine

from palo_cpp import ArgumentError, Palo
from palo_cpp.decoding.beam_search import BeamOptions, BeamSearch, penalized
from palo_cpp.errors import AnswerStopped
from palo_cpp.families.registry import VISCPM
from palo_cpp.families.viscpm.beam_model import BeeBeamModel
from palo_cpp.families.viscpm.tokenizer import BOS_ID
from palo_cpp.segments import Turn

QUESTIONS = ["这是什么？", "What is this?", "Привет 🐱 мир?", "图中有什么？", "It is a red dog and two cats."]
OPTIONS = VISCPM.capabilities.beam or BeamOptions()


@pytest.fixture(scope="module")
def reference(viscpm_folder):
    """The same files in numpy."""
    (path,) = viscpm_folder.glob("VisCPM*.gguf")
    with Palo(viscpm_folder, n_ctx=300, n_threads=1) as palo:
        return BeeBeamModel(NumpyBeeEngine(path, n_ctx=300), VISCPM.tokenizer(palo.files.text))


class Watched:
    """The engine of a loaded model, which counts what it is asked to do."""

    def __init__(self, palo: Palo, monkeypatch: pytest.MonkeyPatch) -> None:
        self.n_prefills = self.n_steps = 0
        self.n_paths: set[int] = set()
        engine = palo._model.language_model.engine
        prefill, step = engine.prefill, engine.step

        def counted_prefill(cells, images, should_stop):
            self.n_prefills += 1
            logits = prefill(cells, images, should_stop)
            if should_stop():  # as the core asks between some of its layers, of which this model has too few
                raise AnswerStopped
            return logits

        def counted_step(parents, ids, **named):
            self.n_steps += 1
            self.n_paths.add(len(ids))
            return step(parents, ids, **named)

        monkeypatch.setattr(engine, "prefill", counted_prefill)
        monkeypatch.setattr(engine, "step", counted_step)


@pytest.fixture
def watched(viscpm, monkeypatch):
    return Watched(viscpm, monkeypatch)


def with_beams(model: BeeBeamModel, question: str, n_beams: int, n_tokens: int) -> tuple[int, ...]:
    segments = VISCPM.prompt(model, [Turn(question)], system="")
    table = model.token_table_for(segments)
    options = BeamOptions(n_beams=n_beams, opening=(BOS_ID,))
    found = BeamSearch(options, table.ends_generation, n_tokens, table.base_ids)
    found.take(model.prefill(segments, {})[np.newaxis])
    while not found.is_finished:
        found.take(model.step(found.parents, found.tokens))
    return found.best.tokens


def one_by_one(model: BeeBeamModel, question: str, n_tokens: int) -> tuple[int, ...]:
    segments = VISCPM.prompt(model, [Turn(question)], system="")
    table, tokens, row = model.token_table_for(segments), [], model.prefill(segments, {})
    while len(tokens) < n_tokens:
        token = int(penalized(row.copy(), tokens, OPTIONS, table.base_ids).argmax())
        if table.ends_generation[token]:
            break
        tokens.append(token)
        row = model.step([0], [token])[0]
    return tuple(tokens)


@pytest.mark.parametrize("question", QUESTIONS)
def test_one_two_and_three_beams_are_the_references(viscpm, reference, question):
    for named, wanted in (
        ({}, with_beams(reference, question, 3, 9)),
        ({"n_beams": 3}, with_beams(reference, question, 3, 9)),
        ({"n_beams": 2}, with_beams(reference, question, 2, 9)),
        ({"n_beams": 1}, one_by_one(reference, question, 9)),
    ):
        answer = viscpm.ask(None, question, max_tokens=9, **named)
        assert answer.token_ids == wanted, named


def test_the_penalty_holds_on_one_path_too(reference):
    """Without it, some answers would be others: the test above holds something."""
    plain = BeamOptions(opening=(BOS_ID,), repetition_penalty=1.0)
    differing = 0
    for question in QUESTIONS:
        segments = VISCPM.prompt(reference, [Turn(question)], system="")
        table, tokens, row = reference.token_table_for(segments), [], reference.prefill(segments, {})
        for token in one_by_one(reference, question, 9):
            differing += int(penalized(row.copy(), tokens, plain, table.base_ids).argmax()) != token
            tokens.append(token)
            row = reference.step([0], [token])[0]
    assert differing


def test_the_first_token_comes_with_the_prompt(viscpm, watched):
    answer = viscpm.ask(None, QUESTIONS[0], n_beams=1, max_tokens=1)
    assert len(answer.token_ids) == 1 and (watched.n_prefills, watched.n_steps) == (1, 0)


def test_one_path_streams_from_its_first_token(viscpm, watched):
    stream = viscpm.stream(None, "It is a red dog and two cats.", n_beams=1, max_tokens=12)
    first = next(stream)
    assert first.text and watched.n_steps <= 3  # what may still grow by combining marks
    rest = [piece.text for piece in stream]
    assert first.text + "".join(rest) == stream.answer.text and watched.n_paths == {1}
    assert len(rest) > 3 and stream.answer.timings.decode_s > 0


def test_sampling_is_one_path_and_repeats_by_its_seed(viscpm, watched):
    asked = [viscpm.ask(None, "这是什么？", temperature=1.5, seed=seed, max_tokens=12) for seed in (1, 1, 2, 3)]
    ids = [answer.token_ids for answer in asked]
    assert ids[0] == ids[1] and len(set(ids)) > 1 and watched.n_paths == {1}
    assert [answer.inputs.seed for answer in asked] == [1, 1, 2, 3]
    assert viscpm.ask(None, "这是什么？", max_tokens=2).inputs.seed is None


def test_what_is_shown_of_beams_is_never_taken_back(viscpm, watched):
    n_before_the_end = 0
    for question in QUESTIONS:
        stream, shown, n_at = viscpm.stream(None, question, max_tokens=40), "", []
        for piece in stream:
            shown += piece.text
            n_at += [watched.n_steps] if piece.text else []
        assert shown == stream.answer.text
        n_before_the_end += n_at[0] < watched.n_steps - 1
    assert n_before_the_end and max(watched.n_paths) == 3


@pytest.mark.parametrize("named", [{}, {"n_beams": 1}])
def test_answers_end_at_max_tokens_at_a_stop_string_and_where_the_context_is_full(viscpm, named):
    question = "It is a red dog and two cats."
    whole = viscpm.ask(None, question, max_tokens=12, **named)
    assert whole.finish_reason in ("length", "stop")
    short = viscpm.ask(None, question, max_tokens=1, **named)
    assert (short.finish_reason, len(short.token_ids)) == ("length", 1)
    stop = whole.text[3:5]
    stopped = viscpm.ask(None, question, max_tokens=12, stop=stop, **named)
    assert stopped.finish_reason == "stop_string" and stopped.text == whole.text[: whole.text.index(stop)].rstrip()
    long = question * 20
    with viscpm.chat() as chat:
        n_prompt = chat.plan(long).request.n_prompt
    n_room = viscpm.n_ctx - n_prompt
    full = viscpm.ask(None, long, max_tokens=500, **named)
    assert 0 < n_room < 200 and len(full.token_ids) <= n_room
    assert full.finish_reason in ("context", "stop", "repetition")


@pytest.mark.parametrize("named", [{}, {"n_beams": 1}])
def test_an_answer_is_cancelled_within_its_prompt_and_between_two_tokens(viscpm, watched, named):
    asked = []

    def after(n: int):
        def should_stop() -> bool:
            asked.append(None)
            return len(asked) > n

        return should_stop

    within = viscpm.ask(None, "It is a red dog.", should_stop=after(1), **named)
    assert within.finish_reason == "cancelled" and within.token_ids == ()
    assert (watched.n_prefills, watched.n_steps) == (1, 0)
    asked.clear()
    between = viscpm.ask(None, "It is a red dog.", should_stop=after(9), max_tokens=200, **named)
    assert between.finish_reason == "cancelled" and 0 < watched.n_steps < 20
    assert viscpm.ask(None, "It is a red dog.", max_tokens=3, **named).token_ids  # nothing was broken


def test_a_stream_is_closed_from_another_thread(viscpm, watched):
    stream = viscpm.stream(None, "It is a red dog.", n_beams=1, max_tokens=250, temperature=2.0, seed=1)
    begun = threading.Event()
    thread = threading.Thread(target=lambda: [begun.set() for _ in stream])
    thread.start()
    assert begun.wait(20)
    closed_at = time.perf_counter()
    stream.close()
    thread.join(20)
    assert not thread.is_alive() and time.perf_counter() - closed_at < 5
    assert stream.answer.finish_reason in ("cancelled", "stop", "repetition")
    with viscpm.chat() as chat:
        answer = chat.ask("What?", max_tokens=4)
    assert answer.token_ids and watched.n_prefills == 2


SCHEMA = {
    "type": "object",
    "properties": {"red": {"enum": ["猫", "狗", None]}, "s": {"type": "string", "maxLength": 9}},
    "required": ["red", "s"],
    "additionalProperties": False,
}


def test_a_schema_is_kept_on_one_path(viscpm, watched):
    for question, named in (("这是什么？", {}), ("Привет 🐱?", {"temperature": 1.0, "seed": 4})):
        said = json.loads(viscpm.ask(None, question, json_schema=SCHEMA, max_tokens=60, **named).text)
        assert set(said) == {"red", "s"} and said["red"] in ("猫", "狗", None)
    assert watched.n_paths == {1}
    with pytest.raises(
        ArgumentError, match="n_beams: expected 1 with json_schema, which chooses token by token, got 3"
    ):
        viscpm.ask(None, "?", json_schema=SCHEMA, n_beams=3)


def test_a_schema_that_the_vocabulary_cannot_spell_is_refused(viscpm):
    schema = {"type": "object", "properties": {"रंग": {"type": "null"}}, "required": ["रंग"]}
    with pytest.raises(ArgumentError, match="json_schema: expected texts that the model's vocabulary can spell"):
        viscpm.ask(None, "?", json_schema=schema)


def test_logprobs_come_from_one_path(viscpm, watched):
    answer = viscpm.ask(None, "这是什么？", logprobs=3, max_tokens=5)
    assert len(answer.logprobs) == len(answer.token_ids) and watched.n_paths == {1}
    assert all(each.chosen.logprob <= 0 and len(each.top) == 3 for each in answer.logprobs)


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({"n_beams": 4}, "n_beams: expected 1 to 3, got 4"),
        ({"n_beams": 0}, "n_beams: expected a whole number from 1"),
        ({"n_beams": 3, "temperature": 0.7}, "n_beams: expected 1 with a temperature"),
        ({"n_beams": 2, "logprobs": 0}, "n_beams: expected 1 with logprobs"),
    ],
)
def test_what_does_not_go_together_is_refused(viscpm, named, says):
    with pytest.raises(ArgumentError, match=says):
        viscpm.stream(None, "?", **named)


def test_palo_has_one_path(picture):
    with Palo("nano", n_threads=1) as nano:
        for ask in (lambda: nano.ask(None, "?", n_beams=3), lambda: nano.describe(picture, n_beams=3)):
            with pytest.raises(
                ArgumentError, match="n_beams: expected 1, for this model chooses token by token, got 3"
            ):
                ask()
        texts = [nano.ask(picture, "What?", max_tokens=4, **named).text for named in ({}, {"n_beams": 1})]
    assert texts[0] and texts[0] == texts[1]
