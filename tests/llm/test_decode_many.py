"""Several sequences in one call of llama.cpp: each gets what it gets alone, and a failure changes none of them."""

from __future__ import annotations

import numpy as np
import pytest

from palo_cpp.errors import ArgumentError

# As in test_language_model.py: keys and values in f16 and sums in another order; observed 0.010 at most.
ATOL = 0.03


def test_each_sequence_gets_what_it_gets_alone(language_model, sentences):
    """Ten languages of different lengths, over one prefix, first their text and then token by token."""
    prefix = language_model.tokenize("A picture.", add_bos=True)
    texts = {i: language_model.tokenize(sentence) for i, sentence in enumerate(sentences.values(), start=1)}
    expected = {}
    for seq_id, text in texts.items():
        language_model.remove(0)
        rows = language_model.decode(prefix + text, position=0, all_logits=True)
        expected[seq_id] = rows[len(prefix) + len(text) - 4 :]
    language_model.remove(0)
    language_model.decode(prefix, position=0)
    for seq_id in texts:
        language_model.copy(0, seq_id)
    together = [language_model.decode_many({seq_id: text[:-3] for seq_id, text in texts.items()})]
    together += [
        language_model.decode_many({seq_id: [text[i]] for seq_id, text in texts.items()}) for i in (-3, -2, -1)
    ]
    assert together[0].shape == (10, language_model.n_vocab) and together[0].dtype == np.float32
    for step, logits in enumerate(together):
        for row, seq_id in zip(logits, texts, strict=True):
            np.testing.assert_allclose(row, expected[seq_id][step], atol=ATOL)
    assert [language_model.n_tokens(i) for i in texts] == [len(prefix) + len(text) for text in texts.values()]


def test_more_rows_than_a_piece_holds(tmp_path):
    import tiny_gguf

    from palo_cpp.llm.language_model import LanguageModel

    path = tiny_gguf.write_text_gguf(tmp_path / "long.gguf", llama__context_length=2048)
    random = np.random.default_rng(0)
    texts = {seq_id: random.integers(3, 900, 150 + seq_id).tolist() for seq_id in (9, 2, 5, 0, 7)}
    with LanguageModel(path, n_threads=1) as model:
        logits = model.decode_many(texts)
        for row, (seq_id, text) in zip(logits, texts.items(), strict=True):
            model.remove(seq_id)
            np.testing.assert_allclose(row, model.decode(text, position=0, seq_id=seq_id), atol=ATOL)


def test_sequences_leave_and_others_go_on(language_model):
    texts = {1: [5, 6], 2: [7], 3: [8, 9, 10]}
    language_model.decode_many(texts)
    language_model.remove(2)
    rows = language_model.decode_many({3: [11], 1: [12]})  # another order, too
    language_model.remove(3)
    language_model.remove(1)
    np.testing.assert_allclose(rows[0], language_model.decode([8, 9, 10, 11], position=0), atol=ATOL)
    language_model.remove(0)
    np.testing.assert_allclose(rows[1], language_model.decode([5, 6, 12], position=0), atol=ATOL)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ({}, "at least one sequence"),
        ({1: [5], 2: []}, "at least one id"),
        ({1: [5], 16: [5]}, "seq_id: expected 0 to 15"),
        ({1: [5], 2: [10**6]}, "expected ids from 0"),
        ({1: [5] * 200, 2: [5] * 200, 3: [5] * 111}, "expected at most 510 more tokens, got 511: 1 too many of 512"),
    ],
)
def test_wrong_tokens_are_refused_and_change_nothing(language_model, tokens, message):
    language_model.decode([3, 4], position=0)
    with pytest.raises(ArgumentError, match=message):
        language_model.decode_many(tokens)
    assert [language_model.n_tokens(i) for i in range(16)] == [2] + [0] * 15
    assert language_model.n_free == 510


def test_a_failure_on_the_way_changes_no_sequence(language_model, monkeypatch):
    language_model.decode([3, 4], position=0)
    language_model.copy(0, 1)
    language_model.copy(0, 2)
    decode_batch, calls = language_model._decode_batch, []

    def interrupted(rows):
        calls.append(len(rows))
        decode_batch(rows)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(language_model, "_n_batch", 4)
    monkeypatch.setattr(language_model, "_decode_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        language_model.decode_many({1: [5, 6, 7], 2: [5, 6, 7]})
    assert calls == [4, 2]
    assert [language_model.n_tokens(i) for i in range(3)] == [2, 2, 2]
    np.testing.assert_allclose(*language_model.decode_many({1: [5, 6], 2: [5, 6]}), atol=ATOL)


def test_a_fork_outlives_what_it_was_copied_from(language_model):
    language_model.decode([5] * 300, position=0)
    language_model.copy(0, 1)
    language_model.remove(0)
    assert language_model.n_free == 212
    with pytest.raises(ArgumentError, match="at most 212 more"):
        language_model.decode([6] * 213, position=0)
    language_model.decode([6] * 212, position=0)
    language_model.remove(1)
    assert language_model.n_free == 300


def test_closed_model_is_an_error(language_model):
    language_model.close()
    with pytest.raises(ArgumentError, match="expected an open model"):
        language_model.decode_many({0: [5]})
