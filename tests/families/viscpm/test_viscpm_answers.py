"""Answers from converted files are the reference's, token for token: beam search with the published options, greedy."""

from __future__ import annotations

import numpy as np
import pytest
from palo_cpp.convert import convert
from viscpm_checkpoint import TINY, vocabulary, write_viscpm_checkpoint
from viscpm_goldens import PROMPTS, SEARCH, Question, read_answers, read_stages
from viscpm_numpy import NumpyBeeEngine

from palo_cpp import ArgumentError
from palo_cpp.decoding.beam_search import BeamOptions, BeamSearch
from palo_cpp.families.viscpm.beam_model import BeeBeamModel
from palo_cpp.families.viscpm.protocol import prompt_segments
from palo_cpp.families.viscpm.tokenizer import BOS_ID, EOS_ID, UNK_ID, BeeTokenizer
from palo_cpp.segments import ImageSegment, Turn

PICTURE = ImageSegment("a picture", TINY.n_queries)
# Every fourth question, all those with words that an answer repeats, and the long history.
CHOSEN = [i for i, q in enumerate(PROMPTS) if i % 4 == 0 or len(q.history) > 3]
NOISE = 2e-4  # of numpy against PyTorch, in log-probabilities over 0.7


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = write_viscpm_checkpoint(tmp_path_factory.mktemp("checkpoint") / "VisCPM-Chat")
    done = convert(folder, tmp_path_factory.mktemp("model"), outtype="f32")
    return BeeBeamModel(NumpyBeeEngine(done.model_path), BeeTokenizer(vocabulary()))


@pytest.fixture(scope="module")
def embeddings():
    return {"a picture": read_stages()["image_embeddings"]}


def segments_of(model: BeeBeamModel, question: Question):
    turns = [Turn(*each) for each in question.history] + [Turn(question.text)]
    if question.has_image:
        turns[0] = Turn(turns[0].question, turns[0].answer, images=(PICTURE,))
    return prompt_segments(model.tokenizer, turns)


def search(model: BeeBeamModel, segments, embeddings) -> BeamSearch:
    table = model.token_table_for(segments)
    found = BeamSearch(
        BeamOptions(opening=(BOS_ID,)), table.ends_generation, SEARCH["max_length"] + 2, dict(table.base_ids)
    )
    found.take(model.prefill(segments, embeddings)[np.newaxis])
    while not found.is_finished:
        found.take(model.step(found.parents, found.tokens))
    return found


def test_beam_search_finds_the_published_answers(model, embeddings):
    answers, n_excused, n_words = read_answers(), 0, 0
    for i in CHOSEN:
        wanted = answers[i]["beam"]
        found = search(model, segments_of(model, PROMPTS[i]), embeddings)
        if list(found.best.tokens) != wanted["tokens"]:
            assert wanted["margin"] < NOISE, (PROMPTS[i], found.best.tokens, wanted)
            n_excused += 1
            continue
        assert found.best.score == pytest.approx(wanted["score"], rel=1e-3)
        n_words += any(token in (UNK_ID, *range(model.n_vocab, model.n_vocab + 9)) for token in found.best.tokens)
    assert n_excused <= len(CHOSEN) // 20 and n_words


def test_greedy_answers(model, embeddings):
    answers = read_answers()
    for i in CHOSEN:
        wanted = answers[i]["greedy"]
        segments, tokens = segments_of(model, PROMPTS[i]), []
        row = model.prefill(segments, embeddings)
        while len(tokens) < len(wanted["tokens"]) and wanted["margin"] > 1e-3:
            tokens.append(int(row.argmax()))
            row = model.step([0], tokens[-1:])[0]
        assert wanted["margin"] <= 1e-3 or tokens == wanted["tokens"]
        if wanted["margin"] > 1e-3 and len(tokens) < 24:
            assert row.argmax() == EOS_ID


def test_unk_is_said_only_where_it_stands_for_a_word(model, embeddings):
    with_words = segments_of(model, Question("Привет 🐱"))
    assert len(model.prefill(with_words, embeddings)) == model.n_vocab + 1
    assert model.prefill(with_words, embeddings)[UNK_ID] > -1000
    assert model.prefill(segments_of(model, Question("图中有什么？")), embeddings)[UNK_ID] == -10000


def test_a_step_without_a_prompt_is_refused(model):
    with pytest.raises(ArgumentError, match="step: expected a prompt before it"):
        BeeBeamModel(model.engine, model.tokenizer).step([0], [9])
